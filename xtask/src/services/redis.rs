//! A Redis server, alone or in a cluster. It keeps nothing on disk: it is a cache, and starts empty.

use std::{
    io::{Read, Write},
    net::{SocketAddrV4, TcpStream},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};

use super::{
    last_lines,
    plan::{Kind, Plan, RedisPlan},
};

pub fn command(plan: &Plan, number: u16, dir: &Path) -> Command {
    let address = plan.address(Kind::Redis, number);
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let mut command = Command::new("redis-server");
    command.current_dir(dir).args(["--bind", &host, "--port", &port, "--save", "", "--appendonly", "no"]);
    if plan.redis == RedisPlan::Cluster {
        command.args(["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]);
    }
    command
}

pub fn is_ready(stream: &mut TcpStream) -> anyhow::Result<bool> {
    Ok(ask(stream, "PING")?.starts_with("+PONG"))
}

/// Makes a cluster of servers that answer already, unless they were one before.
pub fn form_cluster(addresses: &[SocketAddrV4]) -> anyhow::Result<()> {
    let Some(&first) = addresses.first() else { return Ok(()) };
    if !knows_others(&cluster_info(first)?) {
        let mut command = Command::new("redis-cli");
        command.args(["--cluster", "create"]).args(addresses.iter().map(ToString::to_string));
        command.args(["--cluster-replicas", "1", "--cluster-yes"]).stdin(Stdio::null());
        let output = command.output().context("cannot run redis-cli")?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "redis-cli cannot make a cluster: {}", last_lines(&said, 12));
    }
    Ok(())
}

/// Whether every slot is served, as this server sees it.
pub fn serves_all_slots(address: SocketAddrV4) -> bool {
    cluster_info(address).is_ok_and(|info| has_line(&info, "cluster_state:ok"))
}

fn knows_others(info: &str) -> bool {
    !has_line(info, "cluster_known_nodes:1")
}

fn has_line(info: &str, line: &str) -> bool {
    info.lines().any(|there| there.trim_end() == line)
}

fn cluster_info(address: SocketAddrV4) -> anyhow::Result<String> {
    ask(&mut super::server::connect(address)?, "CLUSTER INFO")
}

/// The answer to a command, as far as it comes in one piece: these are short.
fn ask(stream: &mut TcpStream, command: &str) -> anyhow::Result<String> {
    stream.write_all(format!("{command}\r\n").as_bytes())?;
    let mut answer = [0; 4096];
    let length = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::plan::Ports;

    fn arguments(plan: &Plan, number: u16) -> String {
        let command = command(plan, number, Path::new("/"));
        command.get_args().map(|argument| argument.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn nothing_is_kept_and_only_this_machine_is_heard() {
        let alone = arguments(&Plan::single(Ports::standard()), 0);
        assert_eq!(alone, "--bind 127.0.0.1 --port 6379 --save  --appendonly no");
        let sixth = arguments(&Plan::highly_available(Ports::standard()), 5);
        assert!(sixth.contains("--port 7005 ") && sixth.contains("--cluster-enabled yes"), "{sixth}");
    }

    #[test]
    fn a_server_says_whether_it_is_in_a_cluster() {
        let info = "$99\r\ncluster_state:fail\r\ncluster_known_nodes:1\r\n";
        assert!(!knows_others(info) && !has_line(info, "cluster_state:ok"));
        let info = "$99\r\ncluster_state:ok\r\ncluster_known_nodes:16\r\n";
        assert!(knows_others(info) && has_line(info, "cluster_state:ok"));
    }
}
