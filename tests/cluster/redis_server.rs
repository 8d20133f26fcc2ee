//! Redis servers of a test's own: to be killed, paused, filled and started again.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use ::redis::{Cmd, FromRedisValue, aio::MultiplexedConnection};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

pub const DEADLINE: Duration = Duration::from_secs(60);
const NODES: usize = 6;
/// A cluster's nodes talk to each other on their port plus this.
const BUS: u16 = 10_000;
/// Starts the server, says its number, and ends it when the test's process is gone, however that ended.
const KEEPER: &str = r#""$@" >/dev/null & echo $!; read -r _; kill -KILL $!; wait $!"#;

pub struct RedisServer {
    pub port: u16,
    arguments: Vec<String>,
    process: Option<Process>,
}

struct Process {
    server: Pid,
    keeper: Child,
    /// Closing it ends the server.
    _line: ChildStdin,
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
        let (line, said) = (keeper.stdin.take().expect("it is piped"), keeper.stdout.take().expect("it is piped"));
        let mut pid = String::new();
        BufReader::new(said).read_line(&mut pid).expect("it says the server's number");
        let server = pid.trim().parse().ok().and_then(Pid::from_raw).expect("a number");
        self.process = Some(Process { server, keeper, _line: line });
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

    pub async fn try_ask<T: FromRedisValue>(&self, command: &Cmd) -> ::redis::RedisResult<T> {
        let client = ::redis::Client::open(self.url())?;
        let mut connection: MultiplexedConnection = client.get_multiplexed_async_connection().await?;
        command.query_async(&mut connection).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = kill_process(self.server, Signal::KILL);
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// Three masters, each with a replica.
pub struct RedisCluster {
    pub nodes: Vec<RedisServer>,
    _directories: Vec<tempfile::TempDir>,
}

impl RedisCluster {
    pub async fn start() -> Self {
        let (mut nodes, mut directories) = (Vec::new(), Vec::new());
        for _ in 0..NODES {
            let directory = tempfile::tempdir().expect("there is room for a directory");
            let path = directory.path().display().to_string();
            let arguments = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--dir", &path];
            nodes.push(RedisServer::start(&arguments).await);
            directories.push(directory);
        }
        let addresses = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port));
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create"]).args(addresses).args(["--cluster-replicas", "1", "--cluster-yes"]);
        let created = create.output().expect("redis-cli is installed");
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stdout));
        let cluster = Self { nodes, _directories: directories };
        cluster.wait_until_all_know_it().await;
        cluster
    }

    async fn wait_until_all_know_it(&self) {
        let deadline = Instant::now() + DEADLINE;
        let info = ::redis::cmd("CLUSTER").arg("INFO").take();
        for node in &self.nodes {
            while !node.try_ask::<String>(&info).await.is_ok_and(|info| {
                info.contains("cluster_state:ok") && info.contains(&format!("cluster_known_nodes:{NODES}"))
            }) {
                assert!(Instant::now() < deadline, "the cluster does not form");
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// Below the ports that a cluster's second port would push over the end.
fn free_port() -> u16 {
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
        let port = listener.local_addr().expect("it is bound").port();
        if port.checked_add(BUS).as_ref().is_some_and(is_free) {
            return port;
        }
    }
}
