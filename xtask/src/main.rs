//! `cargo xtask`: the project's chores, in Rust, so that they need nothing but Rust.

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Parser, Subcommand};

mod bench;
mod chores;
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
    /// Run real Kafka, Cassandra and Redis servers on this machine, without containers
    #[command(subcommand)]
    Services(chores::services::Command),
    /// Run a whole cluster on this machine: the services, an API node and workers, until Ctrl-C
    Cluster(chores::cluster::Args),
    /// Measure a release build, and write the figures into docs/performance.md; without a command: train, as by default
    Bench {
        #[command(subcommand)]
        command: Option<bench::Command>,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    // Cargo says from where it was called: a target directory that several checkouts share may hold another one's build.
    let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let package = PathBuf::from(package);
    let root = package.parent().context("xtask lies inside the checkout")?;
    run(Cli::parse(), root)
}

fn run(cli: Cli, root: &Path) -> anyhow::Result<ExitCode> {
    match cli.chore {
        Chore::Test(args) => test::run(&args, root),
        Chore::Services(command) => chores::services::run(&command, root).map(|()| ExitCode::SUCCESS),
        Chore::Cluster(args) => chores::cluster::run(&args, root),
        Chore::Bench { command: Some(command) } => command.run(root),
        Chore::Bench { command: None } => run(Cli::parse_from(["cargo xtask", "bench", "train"]), root),
    }
}
