//! A Kafka broker that is its own controller (KRaft).

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::Command,
};

use anyhow::Context;

use super::{
    jars,
    plan::{Kind, Plan},
};

/// All brokers of a cluster are formatted with the same one: 16 bytes in base64.
const CLUSTER_ID: &str = "a3ViZW1sLWNsdXN0ZXItMQ";

/// A killed broker is let in again when its former session has ended: the usual 9 s make every such test slower.
const SESSION_MILLIS: u32 = 4000;

pub fn properties(plan: &Plan, number: u16, data: &Path) -> String {
    let id = number + 1;
    let address = plan.address(Kind::Kafka, number);
    let controllers: Vec<_> = (0..plan.kafka).filter_map(|number| plan.peer_address(Kind::Kafka, number)).collect();
    let voters: Vec<_> = controllers.iter().enumerate().map(|(at, address)| format!("{}@{address}", at + 1)).collect();
    let (voters, controller) = (voters.join(","), controllers[usize::from(number)]);
    let (replicas, in_sync) = if plan.kafka == 1 { (1, 1) } else { (3, 2) };
    let data = data.display();
    format!(
        "process.roles=broker,controller\n\
         node.id={id}\n\
         controller.quorum.voters={voters}\n\
         controller.listener.names=CONTROLLER\n\
         listeners=PLAINTEXT://{address},CONTROLLER://{controller}\n\
         advertised.listeners=PLAINTEXT://{address}\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         inter.broker.listener.name=PLAINTEXT\n\
         log.dirs={data}\n\
         default.replication.factor={replicas}\n\
         min.insync.replicas={in_sync}\n\
         offsets.topic.replication.factor={replicas}\n\
         offsets.topic.num.partitions=3\n\
         transaction.state.log.replication.factor={replicas}\n\
         transaction.state.log.min.isr={in_sync}\n\
         share.coordinator.state.topic.replication.factor={replicas}\n\
         share.coordinator.state.topic.min.isr={in_sync}\n\
         broker.session.timeout.ms={SESSION_MILLIS}\n\
         broker.heartbeat.interval.ms=500\n\
         auto.create.topics.enable=false\n\
         group.initial.rebalance.delay.ms=0\n"
    )
}

/// Writes the configuration into the server's directory; the command that formats its data, if that is to be done.
pub fn prepare(plan: &Plan, number: u16, dir: &Path, class_path: &str) -> anyhow::Result<Option<Command>> {
    let data = dir.join("data");
    fs::write(dir.join("server.properties"), properties(plan, number, &data))?;
    if data.join("meta.properties").exists() {
        return Ok(None);
    }
    let mut command = java(dir, class_path);
    let arguments = ["kafka.tools.StorageTool", "format", "--ignore-formatted", "--cluster-id", CLUSTER_ID];
    command.args(arguments).args(["--config", "server.properties"]);
    Ok(Some(command))
}

pub fn command(dir: &Path, class_path: &str) -> Command {
    let mut command = java(dir, class_path);
    command.args(["kafka.Kafka", "server.properties"]);
    command
}

fn java(dir: &Path, class_path: &str) -> Command {
    let log = jars::committed(Kind::Kafka).join("log4j2.properties");
    let mut command = Command::new("java");
    command.current_dir(dir).args(["-Xms256m", "-Xmx256m", "-XX:+UseSerialGC"]);
    command.arg(format!("-Dlog4j2.configurationFile={}", log.display())).args(["-cp", class_path.trim()]);
    command
}

/// A broker is ready when it lists itself among those that serve clients.
pub fn is_ready(stream: &mut TcpStream, number: u16) -> anyhow::Result<bool> {
    Ok(brokers(stream)?.contains(&(i32::from(number) + 1)))
}

/// Asks for metadata (version 4) of no topic at all: the answer lists the brokers.
fn brokers(stream: &mut TcpStream) -> anyhow::Result<Vec<i32>> {
    const METADATA: [u8; 2] = [0, 3];
    const VERSION: [u8; 2] = [0, 4];
    const REST: [u8; 11] = [0, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 0, 0]; // correlation, no client id, no topic, create none
    stream.write_all(&[&[0, 0, 0, 15], &METADATA[..], &VERSION[..], &REST[..]].concat())?;
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let mut answer = Vec::new();
    stream.take(u32::from_be_bytes(size).into()).read_to_end(&mut answer)?;
    parse_brokers(&answer).context("the answer is no list of brokers")
}

fn parse_brokers(answer: &[u8]) -> Option<Vec<i32>> {
    const CORRELATION_AND_THROTTLE: usize = 8;
    let mut rest = answer.get(CORRELATION_AND_THROTTLE..)?;
    let mut ids = Vec::new();
    for _ in 0..int(&mut rest)? {
        ids.push(int(&mut rest)?);
        string(&mut rest)?;
        int(&mut rest)?; // port
        string(&mut rest)?; // rack
    }
    Some(ids)
}

fn int(rest: &mut &[u8]) -> Option<i32> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(i32::from_be_bytes(*bytes))
}

/// Skips a string; a length below zero is a null.
fn string(rest: &mut &[u8]) -> Option<()> {
    let (bytes, after) = rest.split_first_chunk()?;
    let length = i16::from_be_bytes(*bytes).max(0);
    *rest = after.get(usize::try_from(length).ok()?..)?;
    Some(())
}

#[cfg(test)]
mod tests;
