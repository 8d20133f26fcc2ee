//! A Cassandra node.

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
    plan::{CommitLog, Kind, Plan},
};

pub fn yaml(plan: &Plan, number: u16, dir: &Path) -> String {
    let address = plan.address(Kind::Cassandra, number);
    let (host, native_port, storage_port) = (address.ip(), address.port(), address.port() + 1);
    // All are seeds: they join at once, as there is nothing yet to stream, and one that finds its peers slow to answer goes
    // on without instead of ending.
    let peers = (0..plan.cassandra).filter_map(|number| plan.peer_address(Kind::Cassandra, number));
    let seeds = peers.map(|peer| peer.to_string()).collect::<Vec<_>>().join(",");
    let tokens = if plan.cassandra == 1 { 1 } else { 8 };
    let data = dir.join("data");
    let data = data.display();
    let commit_log = match plan.commit_log {
        CommitLog::Batch => "commitlog_sync: batch",
        CommitLog::Periodic => "commitlog_sync: periodic\ncommitlog_sync_period: 10000ms",
    };
    // Alone it waits for nobody: what makes it slow is the machine, and whoever asks has time limits of his own.
    let timeouts = ["read_request_timeout", "write_request_timeout", "cas_contention_timeout"];
    let timeouts =
        if plan.cassandra == 1 { timeouts.map(|name| format!("{name}: 10s\n")).concat() } else { String::new() };
    format!(
        "cluster_name: kubeml\n\
         num_tokens: {tokens}\n\
         partitioner: org.apache.cassandra.dht.Murmur3Partitioner\n\
         endpoint_snitch: org.apache.cassandra.locator.SimpleSnitch\n\
         seed_provider:\n\
         \x20 - class_name: org.apache.cassandra.locator.SimpleSeedProvider\n\
         \x20   parameters: [{{ seeds: \"{seeds}\" }}]\n\
         listen_address: {host}\n\
         rpc_address: {host}\n\
         storage_port: {storage_port}\n\
         native_transport_port: {native_port}\n\
         start_native_transport: true\n\
         {commit_log}\n\
         {timeouts}\
         commitlog_segment_size: 32MiB\n\
         paxos_variant: v2\n\
         auto_snapshot: false\n\
         data_file_directories: [\"{data}/data\"]\n\
         commitlog_directory: \"{data}/commitlog\"\n\
         saved_caches_directory: \"{data}/saved_caches\"\n\
         hints_directory: \"{data}/hints\"\n\
         cdc_raw_directory: \"{data}/cdc_raw\"\n"
    )
}

pub fn prepare(plan: &Plan, number: u16, dir: &Path) -> anyhow::Result<()> {
    fs::write(dir.join("cassandra.yaml"), yaml(plan, number, dir)).context("cannot write cassandra.yaml")
}

pub fn command(plan: &Plan, dir: &Path, class_path: &str) -> anyhow::Result<Command> {
    let committed = jars::committed(Kind::Cassandra);
    let class_path = class_path.trim();
    let mut command = Command::new("java");
    command.current_dir(dir).arg(format!("@{}", committed.join("jvm.options").display()));
    command.arg(format!("-javaagent:{}", jars::find(class_path, "jamm-")?));
    command.arg(format!("-Dcassandra.config=file://{}", dir.join("cassandra.yaml").display()));
    command.arg(format!("-Dcassandra.storagedir={}", dir.join("data").display()));
    if plan.cassandra == 1 {
        command.arg("-Dcassandra.ring_delay_ms=100");
    } else {
        // A node that joins waits for the ring to settle, though not the half minute it would in earnest.
        command.args(["-Dcassandra.ring_delay_ms=2000", "-Dcassandra.consistent.rangemovement=false"]);
    }
    command.arg("-cp").arg(format!("{}:{class_path}", committed.display()));
    command.arg("org.apache.cassandra.service.CassandraDaemon");
    Ok(command)
}

/// Asks for the options of the native protocol (version 4) and expects the answer to that.
pub fn is_ready(stream: &mut TcpStream) -> anyhow::Result<bool> {
    const OPTIONS: [u8; 9] = [4, 0, 0, 0, 5, 0, 0, 0, 0];
    const SUPPORTED: u8 = 6;
    stream.write_all(&OPTIONS)?;
    let mut header = [0; 9];
    stream.read_exact(&mut header)?;
    Ok(header[4] == SUPPORTED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::plan::Ports;

    #[test]
    fn nodes_share_their_ports_on_addresses_of_their_own_and_know_each_other() {
        let plan = Plan::highly_available(Ports::standard());
        let text = yaml(&plan, 2, Path::new("/dir"));
        for line in [
            "num_tokens: 8",
            r#"    parameters: [{ seeds: "127.0.0.1:9043,127.0.0.2:9043,127.0.0.3:9043" }]"#,
            "listen_address: 127.0.0.3",
            "rpc_address: 127.0.0.3",
            "storage_port: 9043",
            "native_transport_port: 9042",
            r#"commitlog_directory: "/dir/data/commitlog""#,
        ] {
            assert!(text.lines().any(|there| there == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn a_node_that_is_alone_does_not_wait_for_others() {
        let command = command(&Plan::single(Ports::standard()), Path::new("/dir"), "/m2/jamm-1.jar:/m2/b.jar").unwrap();
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
        for argument in [
            "-javaagent:/m2/jamm-1.jar",
            "-Dcassandra.config=file:///dir/cassandra.yaml",
            "-Dcassandra.ring_delay_ms=100",
        ] {
            assert!(arguments.iter().any(|there| there == argument), "{argument} is missing in {arguments:?}");
        }
    }
}
