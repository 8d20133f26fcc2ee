//! `cargo xtask services`: the servers that a cluster needs, for people.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use crate::runner;
use clap::{Subcommand, ValueEnum};
use xtask::services::{Plan, Ports, RedisPlan, Services};

/// Below the checkout.
pub const DIRECTORY: &str = "target/services";

#[derive(Subcommand)]
pub enum Command {
    /// Start what is not running, and wait until it answers
    Up(Up),
    /// Stop everything and delete its data
    Down {
        /// Keep the data for the next start
        #[arg(long)]
        keep_data: bool,
        #[command(flatten)]
        place: Place,
    },
    /// List the servers: address, process and state
    Status {
        #[command(flatten)]
        place: Place,
    },
}

#[derive(clap::Args)]
pub struct Up {
    /// Kafka brokers: 0, 1 or 3 [default: as before in this directory, or 1]
    #[arg(long, value_name = "COUNT")]
    kafka: Option<u16>,
    /// Cassandra nodes: 0, 1 or 3; three take 3 GB of memory [default: as before, or 1]
    #[arg(long, value_name = "COUNT")]
    cassandra: Option<u16>,
    /// One Redis server, or a cluster of six [default: as before, or single]
    #[arg(long, value_name = "WHAT")]
    redis: Option<RedisArg>,
    /// Print nothing but lines for a shell to evaluate: eval "$(cargo xtask services up --export)"
    #[arg(long)]
    export: bool,
    /// Listen on ports of tests that are free, beside what listens on the usual ones
    #[arg(long)]
    test_ports: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(clap::Args)]
pub struct Place {
    /// Where data, logs and process ids are kept [default: target/services in the checkout]
    #[arg(long, value_name = "PATH")]
    directory: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum RedisArg {
    None,
    Single,
    Cluster,
}

pub fn run(command: &Command, root: &Path) -> anyhow::Result<()> {
    match command {
        Command::Up(args) => up(args, root),
        Command::Down { keep_data, place } => down(&place.within(root), *keep_data),
        Command::Status { place } => {
            print!("{}", Services::open(&place.within(root))?.table());
            Ok(())
        }
    }
}

fn up(args: &Up, root: &Path) -> anyhow::Result<()> {
    runner::listen_for_interrupts()?;
    let directory = args.place.within(root);
    let plan = args.plan(Services::recorded(&directory)?)?;
    let started = Instant::now();
    let services = Services::up(&directory, &plan, &progress)?;
    progress(&format!(
        "everything answers after {:.1} s; logs and data are in {}",
        started.elapsed().as_secs_f64(),
        directory.display()
    ));
    if !args.export {
        println!("{}", services.table());
    }
    print!("{}", services.exports());
    Ok(())
}

fn down(directory: &Path, keep_data: bool) -> anyhow::Result<()> {
    if Services::recorded(directory)?.is_none() {
        progress(&format!("no services were started in {}", directory.display()));
        return Ok(());
    }
    Services::open(directory)?.down(keep_data, &progress)
}

/// To standard error: what a shell evaluates goes to the other.
pub fn progress(line: &str) {
    eprintln!("{line}");
}

impl Up {
    fn plan(&self, recorded: Option<Plan>) -> anyhow::Result<Plan> {
        let Some(recorded) = recorded else {
            let plan = self.counted(Plan::single(Ports::standard()));
            return if self.test_ports { plan.on_free_test_ports() } else { Ok(plan) };
        };
        Ok(self.counted(recorded))
    }

    /// `plan` with as many servers as are asked for.
    fn counted(&self, plan: Plan) -> Plan {
        Plan {
            kafka: self.kafka.unwrap_or(plan.kafka),
            cassandra: self.cassandra.unwrap_or(plan.cassandra),
            redis: self.redis.map_or(plan.redis, RedisArg::plan),
            ..plan
        }
    }
}

impl Place {
    fn within(&self, root: &Path) -> PathBuf {
        self.directory.clone().unwrap_or_else(|| root.join(DIRECTORY))
    }
}

impl RedisArg {
    fn plan(self) -> RedisPlan {
        match self {
            Self::None => RedisPlan::None,
            Self::Single => RedisPlan::Single,
            Self::Cluster => RedisPlan::Cluster,
        }
    }
}
