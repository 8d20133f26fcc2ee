//! `cargo xtask`: the project's chores, in Rust, so that they need nothing but Rust.

use std::{path::Path, process::ExitCode};

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
    /// Measure a release build, and write the figures into docs/performance.md
    #[command(subcommand)]
    Bench(bench::Command),
}

fn main() -> anyhow::Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies inside the checkout")?;
    match Cli::parse().chore {
        Chore::Test(args) => test::run(&args, root),
        Chore::Services(command) => chores::services::run(&command, root).map(|()| ExitCode::SUCCESS),
        Chore::Cluster(args) => chores::cluster::run(&args, root),
        Chore::Bench(bench::Command::Cluster(args)) => bench::run(&args, root),
        Chore::Bench(bench::Command::Embedded(args)) => bench::embedded::run(&args, root),
        Chore::Bench(bench::Command::Ops) => bench::ops::run(root),
        Chore::Bench(bench::Command::Train(args)) => bench::training::run(&args, root),
    }
}
