//! `cargo xtask bench cluster`: a whole cluster on this machine, measured from outside, as its users see it.
//!
//! Every measurement has nodes of its own, which end with it; the services are shared, and end with the last.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, ensure};
use clap::{Subcommand, ValueEnum};
use xtask::services::{CommitLog, Plan, Ports, Services};

use self::{document::Conditions, site::MAIN, table::Table};
use crate::{
    chores::{
        cluster::{self, Cluster},
        services::progress,
    },
    runner,
};

mod cost;
mod datasets;
mod document;
pub mod embedded;
mod events;
mod failover;
mod http;
mod models;
pub mod ops;
mod site;
mod submit;
mod table;
mod throughput;
mod times;
pub mod training;

/// Below the checkout.
const DIRECTORY: &str = "target/bench";
const SUBMIT_GOAL: Duration = Duration::from_millis(25);

#[derive(Subcommand)]
pub enum Command {
    /// A cluster with one server of each kind: from submitting to training, dead workers, datasets, throughput
    Cluster(Args),
    /// One embedded node: from submitting to training, importing MNIST, answering while it trains
    Embedded(embedded::Args),
    /// The training library's ops, each beside the peak of what it is made of
    Ops,
    /// Epochs of the reference models, beside PyTorch, JAX and Keras
    Train(training::Args),
}

impl Command {
    pub fn run(&self, root: &Path) -> anyhow::Result<ExitCode> {
        match self {
            Self::Cluster(args) => run(args, root),
            Self::Embedded(args) => embedded::run(args, root),
            Self::Ops => ops::run(root),
            Self::Train(args) => training::run(args, root),
        }
    }
}

/// What is measured, and on which images.
#[derive(clap::Args)]
pub struct Subject {
    /// The folder with the four IDX files of MNIST, plain or .gz
    #[arg(long, env = "KUBEML__DATASETS__MNIST__DIR", value_name = "DIR")]
    mnist: PathBuf,
    #[command(flatten)]
    program: Program,
}

#[derive(clap::Args)]
struct Program {
    /// Measure this program instead of building kubeml
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
}

impl Subject {
    fn mnist(&self) -> anyhow::Result<PathBuf> {
        let mnist = std::path::absolute(&self.mnist)?;
        ensure!(mnist.is_dir(), "--mnist: {} is no folder", mnist.display());
        Ok(mnist)
    }
}

impl Program {
    /// Its path, and the conditions before anything is started.
    fn ready(&self, root: &Path) -> anyhow::Result<(PathBuf, Conditions)> {
        let binary = match &self.binary {
            Some(binary) => std::path::absolute(binary)?,
            None => cluster::build(root, true)?,
        };
        let conditions = Conditions::look(&binary, self.binary.is_none());
        Ok((binary, conditions))
    }
}

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    program: Program,
    /// Measure only this, and leave docs/performance.md alone; may be given several times
    #[arg(long, value_name = "WHAT")]
    only: Vec<Measure>,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Measure {
    /// From submitting a task to its first step
    Submit,
    /// From a fact to who hears it
    Events,
    /// From the death of a worker to training on another
    Failover,
    /// Importing MNIST and warming the cache
    Datasets,
    /// The three models with all their defaults
    Models,
    /// Many tasks that train nothing
    Throughput,
}

fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    runner::listen_for_interrupts()?;
    let (binary, conditions) = args.program.ready(root)?;
    let (directory, conditions) = (root.join(DIRECTORY), conditions.and_servers()?);
    let services = fresh_services(&directory.join("services"))?;
    let cluster = Cluster { root, services: Some(services), directory, binary };
    let mut table = Table::default();
    let outcome = measure(&cluster, args, &mut table);
    let down = cluster.services.map_or(Ok(()), |services| services.down(false, &progress));
    print!("\n{}\n{}", conditions.text(), table.text());
    outcome.and(down)?;
    if args.only.is_empty() {
        document::write(root, "cluster", &conditions, &table)?;
    }
    ensure!(!table.has_failures(), "not everything could be measured");
    Ok(ExitCode::SUCCESS)
}

/// Without what an earlier run may have left.
fn fresh_services(directory: &Path) -> anyhow::Result<Services> {
    if Services::recorded(directory)?.is_some() {
        Services::open(directory)?.down(false, &progress)?;
    }
    let plan = Plan { commit_log: CommitLog::Periodic, ..Plan::single(Ports::for_tests()) }.on_free_test_ports()?;
    Services::up(directory, &plan, &progress)
}

/// One measurement that cannot be made does not keep the others from being made.
fn measure(cluster: &Cluster<'_>, args: &Args, table: &mut Table) -> anyhow::Result<()> {
    cluster.initialize(&MAIN.environment()).context("cannot prepare the store and the bus")?;
    let all = Measure::value_variants().iter();
    for measure in all.filter(|measure| args.only.is_empty() || args.only.contains(measure)) {
        progress(&format!("\n==> {measure:?}"));
        let outcome = measure.make(cluster, table);
        runner::check_not_interrupted()?;
        if let Err(error) = outcome {
            progress(&format!("{measure:?} failed: {error:#}"));
            table.fail(&format!("{measure:?}"), &error);
        }
    }
    Ok(())
}

impl Measure {
    fn make(self, cluster: &Cluster<'_>, table: &mut Table) -> anyhow::Result<()> {
        match self {
            Self::Submit => submit::measure(cluster, SUBMIT_GOAL, table),
            Self::Events => events::measure(cluster, table),
            Self::Failover => failover::measure(cluster, table),
            Self::Datasets => datasets::measure(cluster, table),
            Self::Models => models::measure(cluster, table),
            Self::Throughput => throughput::measure(cluster, table),
        }
    }
}
