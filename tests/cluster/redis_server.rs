//! Redis servers of a test's own: to be killed, paused, filled and started again.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use ::redis::{Cmd, FromRedisValue, Pipeline};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

pub const DEADLINE: Duration = Duration::from_secs(60);
const NODES: usize = 6;
/// Replicas follow at once: one that has never followed does not take its master's place.
const NODE: &[&str] =
    &["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--repl-diskless-sync-delay", "0"];
/// A cluster's nodes talk to each other on their port plus this.
const BUS: u16 = 10_000;
const PORTS: u16 = 12_000;
/// Starts the server in a directory of its own, says its number, and ends it when the test's process lets go of the
/// pipe, be it by its own end.
const KEEPER: &str = r#"
    directory=$(mktemp -d)
    "$@" --dir "$directory" >"$directory/log" & echo $!
    read -r _
    kill -KILL $! 2>"$directory/log"
    wait $! 2>"$directory/log"
    rm -r "$directory"
"#;

pub struct RedisServer {
    pub port: u16,
    arguments: Vec<String>,
    process: Option<Process>,
}

struct Process {
    server: Pid,
    keeper: Child,
}

impl RedisServer {
    pub async fn start(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let mut server = Self { port: free_port(), arguments, process: None };
        server.start_again().await;
        server
    }

    pub async fn start_again(&mut self) {
        self.process = None;
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "keeper", "redis-server", "--port", &self.port.to_string()]);
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]).args(&self.arguments);
        let mut keeper = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("there is a shell");
        let mut pid = String::new();
        BufReader::new(keeper.stdout.take().expect("it is piped")).read_line(&mut pid).expect("it says the number");
        let server = pid.trim().parse().ok().and_then(Pid::from_raw).expect("it is a number");
        self.process = Some(Process { server, keeper });
        let deadline = Instant::now() + DEADLINE;
        while self.try_ask::<String>(&::redis::cmd("PING")).await.is_err() {
            assert!(Instant::now() < deadline, "redis-server does not start on port {}; is it installed?", self.port);
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// As if its machine were gone.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// It goes on accepting connections, and answers nobody.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.process.as_ref().expect("it runs").server, signal).expect("it runs");
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Asks behind the adapter's back.
    pub async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> T {
        self.try_ask(command).await.expect("it answers")
    }

    pub async fn pipe(&self, pipeline: &Pipeline) {
        let client = ::redis::Client::open(self.url()).expect("it is a URL");
        let mut connection = client.get_multiplexed_async_connection().await.expect("it answers");
        pipeline.query_async::<()>(&mut connection).await.expect("it answers");
    }

    pub async fn try_ask<T: FromRedisValue>(&self, command: &Cmd) -> ::redis::RedisResult<T> {
        let client = ::redis::Client::open(self.url())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        command.query_async(&mut connection).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Closes the pipe first.
        let _ = self.keeper.wait();
    }
}

/// Three masters, each with a replica.
pub struct RedisCluster {
    pub nodes: Vec<RedisServer>,
}

impl RedisCluster {
    pub async fn start() -> Self {
        let mut nodes = Vec::new();
        for _ in 0..NODES {
            nodes.push(RedisServer::start(NODE).await);
        }
        let addresses = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port));
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create"]).args(addresses).args(["--cluster-replicas", "1", "--cluster-yes"]);
        let created = create.output().expect("redis-cli is installed");
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stdout));
        let cluster = Self { nodes };
        let deadline = Instant::now() + DEADLINE;
        while !cluster.is_whole().await {
            assert!(Instant::now() < deadline, "the cluster does not form");
            sleep(Duration::from_millis(20)).await;
        }
        cluster
    }

    /// Every node knows every other, and every replica follows its master.
    async fn is_whole(&self) -> bool {
        let everybody = format!("cluster_known_nodes:{NODES}");
        for node in &self.nodes {
            let cluster: String = node.ask(::redis::cmd("CLUSTER").arg("INFO")).await;
            let replication: String = node.ask(::redis::cmd("INFO").arg("replication")).await;
            let follows = ["role:master", "master_link_status:up"].iter().any(|sign| replication.contains(sign));
            if !(cluster.contains("cluster_state:ok") && cluster.contains(&everybody) && follows) {
                return false;
            }
        }
        true
    }
}

/// Outside of the range from which clients' ports are taken: nobody gets it between now and the server's start, or while
/// the server is down.
fn free_port() -> u16 {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    // Processes that test at the same time begin at different places.
    let first = std::process::id().wrapping_mul(61);
    loop {
        let nth = first.wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed)) % u32::from(BUS);
        let port = PORTS + u16::try_from(nth).expect("it is less than BUS");
        if is_free(port) && is_free(port + BUS) {
            return port;
        }
    }
}
