//! A process told by its pid and the moment it started: a pid that was given to somebody else is never signalled.

use std::{
    fs, io,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

const POLL: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: i32,
    /// In clock ticks since the machine started, as in `/proc/<pid>/stat`.
    started: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Running,
    /// By SIGSTOP.
    Stopped,
    Gone,
}

impl Process {
    /// The one that has the pid now.
    pub fn with_pid(pid: i32) -> anyhow::Result<Self> {
        let Stat { started, .. } = stat(pid).with_context(|| format!("process {pid} ended as it started"))?;
        Ok(Self { pid, started })
    }

    /// What `write` wrote, or `None` if it wrote nothing.
    pub fn read(path: &Path) -> anyhow::Result<Option<Self>> {
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let process = serde_json::from_slice(&bytes);
        process.map(Some).with_context(|| {
            format!("{} is no record of a process: stop the server by hand and remove the file", path.display())
        })
    }

    pub fn write(self, path: &Path) -> anyhow::Result<()> {
        super::write_whole(path, &serde_json::to_vec(&self)?)
    }

    pub fn life(self) -> Life {
        let Some(stat) = stat(self.pid).filter(|stat| stat.started == self.started) else { return Life::Gone };
        match stat.state {
            // Of a killed program the first thread may be dead while others still hold its sockets.
            'Z' | 'X' if stat.threads <= 1 => Life::Gone,
            'T' | 't' => Life::Stopped,
            _ => Life::Running,
        }
    }

    /// Whether it was there to hear it.
    pub fn signal(self, signal: Signal) -> anyhow::Result<bool> {
        // The descriptor holds on to whoever has the pid, so that the comparison below stays true.
        let Some(descriptor) = Pid::from_raw(self.pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else {
            return Ok(false);
        };
        if self.life() == Life::Gone {
            return Ok(false);
        }
        match pidfd_send_signal(&descriptor, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(error) => bail!("cannot signal process {}: {error}", self.pid),
        }
    }

    /// Whether it came to that within the time.
    pub fn waits_for(self, life: Life, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.life() != life {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(POLL);
        }
        true
    }
}

/// What of `/proc/<pid>/stat` matters here.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    threads: u32,
    started: u64,
}

fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Fields 3, 20 and 22. The second is the program's name, in parentheses, and may hold anything.
fn parse_stat(stat: &str) -> Option<Stat> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<_> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).copied();
    Some(Stat {
        state: field(3)?.chars().next()?,
        threads: field(20)?.parse().ok()?,
        started: field(22)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const STAT: &str = "42 (a) b) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 5 0 987654 1 2 3";

    #[test]
    fn what_matters_is_found_behind_any_name() {
        assert_eq!(parse_stat(STAT), Some(Stat { state: 'S', threads: 5, started: 987_654 }));
        for garbage in ["", ")", "1 (x)", "1 (x) S 1 2", "1 (x) S 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 nan"] {
            assert_eq!(parse_stat(garbage), None, "{garbage:?}");
        }
    }

    #[test]
    fn a_pid_of_another_time_is_somebody_else() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let process = Process::with_pid(child.id() as i32).unwrap();
        let earlier = Process { started: process.started - 1, ..process };
        assert_eq!(earlier.life(), Life::Gone);
        assert!(!earlier.signal(Signal::KILL).unwrap());
        assert_eq!(process.life(), Life::Running);

        assert!(process.signal(Signal::STOP).unwrap());
        assert!(process.waits_for(Life::Stopped, Duration::from_secs(60)));
        assert!(process.signal(Signal::KILL).unwrap());
        assert!(process.waits_for(Life::Gone, Duration::from_secs(60)), "although nobody has waited for it");
        child.wait().unwrap();
        assert!(!process.signal(Signal::KILL).unwrap());
    }

    #[test]
    fn a_record_is_read_as_written_and_garbage_is_told_from_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("process.json");
        assert_eq!(Process::read(&path).unwrap(), None);
        let process = Process { pid: 7, started: 9 };
        process.write(&path).unwrap();
        assert_eq!(Process::read(&path).unwrap(), Some(process));
        for garbage in ["", "{", "7", r#"{"pid": 7}"#, r#"{"pid": "x", "started": 1}"#] {
            fs::write(&path, garbage).unwrap();
            let error = Process::read(&path).unwrap_err().to_string();
            assert!(error.contains("remove the file"), "{error}");
        }
    }
}
