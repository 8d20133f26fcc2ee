//! `cargo xtask`: the project's chores, in Rust, so that they need nothing but Rust.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod runner;
mod test;
mod tools;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "KubeML's chores")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Run the test suites, each within its time budget
    Test(test::Args),
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().chore {
        Chore::Test(args) => test::run(&args),
    }
}
