//! One node of a cluster, as a child process.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{SocketAddr, SocketAddrV4, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use xtask::services::end_of_log;

use crate::{chores::services::progress, runner};

#[cfg(test)]
mod tests;

const POLL: Duration = Duration::from_millis(50);
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
const START_LIMIT: Duration = Duration::from_secs(90);
/// Longer than a node's own `drain_timeout`.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

pub struct Node {
    pub name: String,
    pub address: SocketAddrV4,
    log: PathBuf,
    child: Child,
}

impl Node {
    /// `command` with its output in `node.log` of the directory, which is made.
    pub fn start(name: &str, address: SocketAddrV4, directory: &Path, mut command: Command) -> anyhow::Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let log = directory.join("node.log");
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        // In a group of its own: Ctrl-C is for us to pass on.
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name: name.to_owned(), address, log, child })
    }

    /// Until `/readyz` answers 200.
    pub fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        while !is_ready(self.address).unwrap_or(false) {
            runner::check_not_interrupted()?;
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended as it started ({status}); {}", self.name, end_of_log(&self.log));
            }
            if Instant::now() > deadline {
                bail!("{} is not ready after {START_LIMIT:?}; {}", self.name, end_of_log(&self.log));
            }
            sleep(POLL);
        }
        Ok(())
    }

    /// Says so if it does not.
    pub fn still_runs(&mut self) -> bool {
        match self.child.try_wait() {
            Ok(None) => true,
            ended => {
                let status = ended.ok().flatten().map_or_else(|| "unknown".to_owned(), |status| status.to_string());
                progress(&format!("{} ended ({status}); {}", self.name, end_of_log(&self.log)));
                false
            }
        }
    }

    pub fn pid(&self) -> Option<i32> {
        i32::try_from(self.child.id()).ok()
    }

    /// As a machine that fails ends it.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        // Nobody else has the pid of a child before it is waited for.
        if self.child.try_wait()?.is_none() {
            kill_process(Pid::from_child(&self.child), signal)?;
        }
        Ok(())
    }
}

/// Nobody leaves one behind, whatever goes wrong.
impl Drop for Node {
    fn drop(&mut self) {
        // Both do nothing when it has ended.
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// All of them drain at the same time; those that take too long are killed.
pub fn stop(nodes: Vec<Node>) -> anyhow::Result<()> {
    stop_within(nodes, DRAIN_LIMIT)
}

fn stop_within(mut nodes: Vec<Node>, limit: Duration) -> anyhow::Result<()> {
    let started = Instant::now();
    nodes.iter_mut().try_for_each(|node| node.signal(Signal::TERM))?;
    for node in &mut nodes {
        while node.child.try_wait()?.is_none() && started.elapsed() < limit {
            sleep(POLL);
        }
        if node.child.try_wait()?.is_none() {
            progress(&format!("{} is killed: it has not ended within {limit:?}", node.name));
            node.child.kill()?;
        }
        let status = node.child.wait()?;
        progress(&format!("{} stopped after {:.1} s ({status})", node.name, started.elapsed().as_secs_f64()));
    }
    Ok(())
}

fn is_ready(address: SocketAddrV4) -> std::io::Result<bool> {
    const STATUS_LINE: usize = "HTTP/1.1 200".len();
    let mut stream = TcpStream::connect_timeout(&SocketAddr::V4(address), ANSWER_LIMIT)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    let request = format!("GET /readyz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut beginning = [0; STATUS_LINE];
    stream.read_exact(&mut beginning)?;
    Ok(beginning.ends_with(b" 200"))
}
