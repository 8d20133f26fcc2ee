//! Nodes played by shells, and by a listener that answers as it is told.

use std::{net::TcpListener, thread};

use super::*;

fn shell(directory: &Path, address: SocketAddrV4, script: &str) -> Node {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    Node::start("worker-1", address, directory, command).unwrap()
}

/// Answers one request with each of the lines.
fn answering(lines: &'static [&'static str]) -> SocketAddrV4 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let SocketAddr::V4(address) = listener.local_addr().unwrap() else { unreachable!("bound to IPv4") };
    thread::spawn(move || {
        for line in lines {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            assert!(request.starts_with(b"GET /readyz "));
            // In one piece: who asks hangs up as soon as it has read the status.
            stream.write_all(format!("{line}\r\ncontent-length: 0\r\n\r\n").as_bytes()).unwrap();
        }
    });
    address
}

#[test]
fn a_node_is_ready_when_it_says_so_and_ends_when_it_is_told_to() {
    let directory = tempfile::tempdir().unwrap();
    let address = answering(&["HTTP/1.1 503 Service Unavailable", "HTTP/1.1 200 OK"]);
    let mut node = shell(directory.path(), address, "echo started; exec sleep 600");
    node.wait_until_ready().unwrap();
    assert!(node.still_runs());
    stop_within(vec![node], Duration::from_secs(60)).unwrap();
}

#[test]
fn a_node_that_ends_as_it_starts_is_quoted() {
    let directory = tempfile::tempdir().unwrap();
    let address = answering(&[]);
    let mut node = shell(directory.path(), address, "echo no such keyspace >&2; exit 3");
    let error = node.wait_until_ready().unwrap_err().to_string();
    assert!(error.contains("exit status: 3") && error.contains("no such keyspace"), "{error}");
    assert!(!node.still_runs());
}

#[test]
fn a_node_that_does_not_listen_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = shell(directory.path(), answering(&[]), "trap '' TERM; echo deaf; while true; do sleep 600; done");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !end_of_log(&node.log).contains("deaf") {
        assert!(Instant::now() < deadline && node.still_runs(), "it says that it does not listen");
        sleep(POLL);
    }
    stop_within(vec![node], Duration::from_millis(200)).unwrap();
}
