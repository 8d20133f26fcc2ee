//! `cargo xtask cluster`: services, an API node and workers on this machine, until Ctrl-C. How nodes are started.

use std::{
    env,
    net::{Ipv4Addr, SocketAddrV4},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    thread::sleep,
    time::Duration,
};

use anyhow::{Context, ensure};
use xtask::services::{Plan, Ports, Services, is_free};

use self::node::Node;
use super::services::{self, progress};
use crate::runner::{self, Runner};

pub mod node;

const BUILD_LIMIT: Duration = Duration::from_secs(60 * 60);
const INIT_LIMIT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(100);
const API_PORT: u16 = 5000;
/// The older system's workers were found on the first two.
const WORKER_PORTS: [u16; 2] = [8000, 9001];
/// Below the checkout.
const DIRECTORY: &str = "target/cluster";
const API_CONFIG: &str = "config/cluster.toml";

#[derive(clap::Args)]
pub struct Args {
    /// Nodes that train
    #[arg(long, value_name = "COUNT", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=16))]
    workers: u16,
    /// Build with optimisation throughout: slower to build, faster to serve
    #[arg(long)]
    release: bool,
    /// Run this program instead of building kubeml
    #[arg(long, value_name = "PATH", conflicts_with = "release")]
    binary: Option<PathBuf>,
}

/// Where and with what a cluster runs.
pub struct Cluster<'a> {
    pub root: &'a Path,
    /// Of logs and data of the nodes.
    pub directory: PathBuf,
    pub binary: PathBuf,
    /// `None` of a node that needs none.
    pub services: Option<Services>,
}

/// A node, as it is to be.
pub struct Setup<'a> {
    pub name: &'a str,
    pub address: SocketAddrV4,
    pub role: Role,
    /// Settings beside those of the services.
    pub environment: &'a [(&'a str, String)],
}

#[derive(Clone, Copy)]
pub enum Role {
    Api,
    Worker,
    /// Both, without services.
    Embedded,
}

pub fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    runner::listen_for_interrupts()?;
    let binary = match &args.binary {
        Some(binary) => std::path::absolute(binary)?,
        None => build(root, args.release)?,
    };
    let directory = root.join(services::DIRECTORY);
    let plan = Services::recorded(&directory)?.unwrap_or_else(|| Plan::single(Ports::standard()));
    let services = Services::up(&directory, &plan, &progress)?;
    let cluster = Cluster { root, directory: root.join(DIRECTORY), binary, services: Some(services) };
    let mut nodes = Vec::new();
    let outcome = cluster.serve(args.workers, &mut nodes);
    node::stop(nodes)?;
    progress("the services go on; `cargo xtask services down` stops them and deletes what they hold");
    match outcome {
        Err(error) if !runner::is_interrupted() => Err(error),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// The program that cargo makes beside ours.
pub fn build(root: &Path, release: bool) -> anyhow::Result<PathBuf> {
    let (profile, directory) = if release { ("release", "release") } else { ("dev", "debug") };
    // Of the whole workspace, as the tests have it: dependencies with other features would be built anew.
    let args = ["build", "--workspace", "--bin", "kubeml", "--profile", profile];
    Runner::new(root, BUILD_LIMIT).cargo(&args)?;
    let ours = env::current_exe()?;
    let target = ours.ancestors().nth(2).context("xtask does not lie in a target directory")?;
    Ok(target.join(directory).join("kubeml"))
}

impl Cluster<'_> {
    /// Until Ctrl-C, or until no node is left.
    fn serve(&self, workers: u16, nodes: &mut Vec<Node>) -> anyhow::Result<()> {
        let api = SocketAddrV4::new(Ipv4Addr::LOCALHOST, API_PORT);
        ensure!(is_free(api), "{api} is taken: stop who listens there (ss -ltnp)");
        self.initialize(&[])?;
        nodes.push(self.start(&Setup { name: "api-1", address: api, role: Role::Api, environment: &[] })?);
        for (number, address) in (1..=workers).zip(worker_addresses()) {
            let name = format!("worker-{number}");
            nodes.push(self.start(&Setup { name: &name, address, role: Role::Worker, environment: &[] })?);
        }
        nodes.iter_mut().try_for_each(Node::wait_until_ready)?;
        print!("{}", welcome(nodes));
        while !runner::is_interrupted() && !nodes.is_empty() {
            nodes.retain_mut(Node::still_runs);
            sleep(POLL);
        }
        ensure!(runner::is_interrupted(), "no node is left");
        Ok(())
    }

    /// Keyspace, tables and topics.
    pub fn initialize(&self, more: &[(&str, String)]) -> anyhow::Result<()> {
        let environment = self.environment();
        let environment = environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let environment: Vec<_> = environment.chain(more.iter().map(|(name, value)| (*name, value.as_str()))).collect();
        let program = self.binary.to_string_lossy();
        let runner = Runner::new(self.root, INIT_LIMIT);
        runner.run(&program, &["admin", "init", "--config", API_CONFIG], &environment)
    }

    fn environment(&self) -> Vec<(String, String)> {
        self.services.as_ref().map(Services::environment).unwrap_or_default()
    }

    pub fn start(&self, setup: &Setup<'_>) -> anyhow::Result<Node> {
        let Setup { name, address, role, environment } = *setup;
        let directory = self.directory.join(name);
        let mut command = Command::new(&self.binary);
        command.current_dir(self.root).arg("serve").args(role.arguments()).envs(self.environment());
        command.env("KUBEML__NODE__ID", name).env("KUBEML__HTTP__LISTEN", address.to_string());
        command.env("KUBEML__NODE__DATA_DIR", directory.join("data"));
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        progress(&format!("starting {name} at {address}"));
        Node::start(name, address, &directory, command)
    }
}

impl Role {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Api => &["--config", API_CONFIG],
            Self::Worker => &["--config", "config/worker.toml"],
            Self::Embedded => &[],
        }
    }
}

/// Free ones, in the order in which workers take them.
fn worker_addresses() -> impl Iterator<Item = SocketAddrV4> {
    let ports = WORKER_PORTS.into_iter().chain(WORKER_PORTS[1] + 1..);
    ports.map(|port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).filter(|&address| is_free(address))
}

/// What to do with a cluster. The first node is the one that takes tasks.
fn welcome(nodes: &[Node]) -> String {
    let Some((api, workers)) = nodes.split_first() else { return String::new() };
    let mut text = format!("\npage      http://{0}/\nAPI       http://{0}/api/v1\n", api.address);
    for worker in workers {
        text.push_str(&format!("{:<9} http://{}/\n", worker.name, worker.address));
    }
    text.push_str(&format!(
        "\nsubmit a task, and see what becomes of it:\n\
         \x20 curl -d '{{\"model\":\"mlp\"}}' -H 'content-type: application/json' http://{0}/api/v1/tasks\n\
         \x20 curl -N http://{0}/api/v1/events\n\n\
         logs and data of the nodes are in {DIRECTORY}; Ctrl-C stops them\n",
        api.address
    ));
    text
}
