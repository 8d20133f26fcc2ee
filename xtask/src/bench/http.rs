//! As much HTTP as measuring takes: requests one at a time, and a thread that hears server-sent events.
//!
//! HTTP/1.0, whose bodies end with the connection: there are no chunks to take apart.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, SocketAddrV4, TcpStream},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

use super::times::micros_of;
use crate::runner;

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(200);

/// A request's answer as text; a status that is not 2xx is an error.
pub fn ask(address: SocketAddrV4, method: &str, path: &str, body: &str, limit: Duration) -> anyhow::Result<String> {
    let what = || format!("{method} http://{address}{path}");
    let mut stream = send(address, method, path, body).with_context(what)?;
    stream.set_read_timeout(Some(limit))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(what)?;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("{}: no whole answer", what()))?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    ensure!(status.starts_with('2'), "{}: {status}: {body}", what());
    Ok(body.to_owned())
}

fn send(address: SocketAddrV4, method: &str, path: &str, body: &str) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::V4(address), CONNECT_LIMIT)?;
    stream.set_nodelay(true)?;
    let length = body.len();
    // In one piece, so that it arrives as one.
    let request = format!(
        "{method} {path} HTTP/1.0\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes())?;
    Ok(stream)
}

/// What of a fact matters here.
#[derive(Debug, Deserialize)]
pub struct Event {
    pub task_id: Option<String>,
    pub attempt: u32,
    pub kind: String,
    pub at: String,
}

/// A fact, and when it arrived.
#[derive(Debug)]
pub struct Heard {
    pub at: Instant,
    wall: Duration,
    pub event: Event,
}

impl Heard {
    pub fn is(&self, task: &str, kind: &str) -> bool {
        self.event.kind == kind && self.event.task_id.as_deref() == Some(task)
    }

    pub fn is_end_of(&self, task: &str) -> bool {
        self.ends() && self.event.task_id.as_deref() == Some(task)
    }

    pub fn ends(&self) -> bool {
        matches!(self.event.kind.as_str(), "succeeded" | "failed" | "cancelled")
    }

    /// From when the fact says it happened.
    pub fn age(&self) -> anyhow::Result<Duration> {
        let at = Duration::from_micros(micros_of(&self.event.at)?);
        Ok(self.wall.saturating_sub(at))
    }
}

/// Hears a stream of facts.
pub struct Listener {
    stream: TcpStream,
    heard: Receiver<Heard>,
}

impl Listener {
    pub fn open(address: SocketAddrV4, path: &str) -> anyhow::Result<Self> {
        let stream = send(address, "GET", path, "")?;
        let mut lines = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        lines.read_line(&mut line)?;
        ensure!(line.contains(" 200 "), "GET http://{address}{path}: {line}");
        let (sender, heard) = channel();
        thread::spawn(move || listen(lines, &sender));
        Ok(Self { stream, heard })
    }

    /// The next fact that `wanted` takes; others are forgotten.
    pub fn wait(&self, limit: Duration, mut wanted: impl FnMut(&Heard) -> bool) -> anyhow::Result<Heard> {
        let deadline = Instant::now() + limit;
        loop {
            runner::check_not_interrupted()?;
            match self.heard.recv_timeout(POLL.min(deadline.saturating_duration_since(Instant::now()))) {
                Ok(heard) if wanted(&heard) => return Ok(heard),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
                Err(RecvTimeoutError::Timeout) => bail!("the event that was waited for did not come within {limit:?}"),
                Err(RecvTimeoutError::Disconnected) => bail!("the stream of events ended"),
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Ends its thread; the connection may have ended before.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// Until the connection ends or nobody wants to hear more.
fn listen(lines: impl BufRead, heard: &Sender<Heard>) {
    for line in lines.lines() {
        let Ok(line) = line else { return };
        let Some(data) = line.strip_prefix("data:") else { continue };
        let (at, wall) = (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
        // What is no fact, like a goodbye, is of no interest.
        let Ok(event) = serde_json::from_str(data) else { continue };
        if heard.send(Heard { at, wall, event }).is_err() {
            return;
        }
    }
}
