//! One server: its process, its directory, and what can be done to it. Its data outlives its process.

use std::{
    fs::{self, File},
    net::{SocketAddr, SocketAddrV4, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use rustix::process::Signal;

use super::{
    cassandra, check_not_given_up, end_of_log, jars, kafka,
    plan::{Kind, Plan, is_free},
    process::{Life, Process},
    redis,
};

const POLL: Duration = Duration::from_millis(50);
const SIGNAL_LIMIT: Duration = Duration::from_secs(10);
const ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// How long a server may take to end by itself: a JVM writes out what it holds.
const TERMINATION_LIMIT: Duration = Duration::from_secs(20);

pub struct Server {
    /// `kafka-1`, `cassandra-3`, `redis-6`.
    pub name: String,
    pub kind: Kind,
    /// Where clients find it.
    pub address: SocketAddrV4,
    number: u16,
    plan: Plan,
    directory: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Up,
    Paused,
    Down,
}

impl Server {
    /// All servers of a plan, each with a directory below `directory`, which is absolute.
    pub(super) fn all(directory: &Path, plan: &Plan) -> Vec<Self> {
        let numbered = Kind::ALL.into_iter().flat_map(|kind| (0..plan.count(kind)).map(move |number| (kind, number)));
        let server = |(kind, number): (Kind, u16)| {
            let name = format!("{}-{}", kind.name(), number + 1);
            let directory = directory.join(&name);
            Self { name, kind, address: plan.address(kind, number), number, plan: *plan, directory }
        };
        numbered.map(server).collect()
    }

    /// Starts it, with the data it had, and waits until it answers clients. One that runs is left as it is.
    ///
    /// A broker of three answers when two of them run: start those from several threads.
    pub fn start(&self) -> anyhow::Result<()> {
        if self.process()?.is_none() {
            self.launch()?;
        }
        self.wait_until_ready()
    }

    /// SIGKILL: it ends without a word. Returns when it is gone.
    pub fn kill(&self) -> anyhow::Result<()> {
        self.signal(Signal::KILL, Life::Gone, SIGNAL_LIMIT)
    }

    /// SIGTERM, and SIGKILL if it takes too long. Returns when it is gone.
    pub fn terminate(&self) -> anyhow::Result<()> {
        let Some(process) = self.process()? else { return Ok(()) };
        process.signal(Signal::TERM)?;
        process.signal(Signal::CONT)?; // a paused one would not hear the former
        if process.waits_for(Life::Gone, TERMINATION_LIMIT) { Ok(()) } else { self.kill() }
    }

    /// SIGSTOP: it keeps its connections and answers nothing.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.expect_process()?;
        self.signal(Signal::STOP, Life::Stopped, SIGNAL_LIMIT)
    }

    /// SIGCONT, after `pause`.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.expect_process()?;
        self.signal(Signal::CONT, Life::Running, SIGNAL_LIMIT)
    }

    pub fn is_up(&self) -> bool {
        self.status() == Status::Up
    }

    pub fn status(&self) -> Status {
        match self.process().ok().flatten().map_or(Life::Gone, Process::life) {
            Life::Running => Status::Up,
            Life::Stopped => Status::Paused,
            Life::Gone => Status::Down,
        }
    }

    /// Of the process that runs, if one does.
    pub fn pid(&self) -> Option<i32> {
        self.process().ok().flatten().map(|process| process.pid)
    }

    /// What it printed.
    pub fn log(&self) -> PathBuf {
        self.directory.join("server.log")
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Fails if it is not running and somebody else listens where it would.
    pub(super) fn check_ports(&self) -> anyhow::Result<()> {
        if self.process()?.is_some() {
            return Ok(());
        }
        let peers = self.plan.peer_address(self.kind, self.number);
        for address in std::iter::once(self.address).chain(peers) {
            let name = &self.name;
            ensure!(
                is_free(address),
                "{address}, where {name} would listen, is taken: stop who listens there (ss -ltnp)"
            );
        }
        Ok(())
    }

    /// The recorded process, if it lives.
    fn process(&self) -> anyhow::Result<Option<Process>> {
        Ok(Process::read(&self.record())?.filter(|process| process.life() != Life::Gone))
    }

    fn expect_process(&self) -> anyhow::Result<Process> {
        self.process()?.with_context(|| format!("{} is down", self.name))
    }

    fn record(&self) -> PathBuf {
        self.directory.join("process.json")
    }

    /// And waits for its effect; a process that is gone needs none.
    fn signal(&self, signal: Signal, effect: Life, limit: Duration) -> anyhow::Result<()> {
        let Some(process) = self.process()? else { return Ok(()) };
        if process.signal(signal)? && !process.waits_for(effect, limit) {
            bail!("{}, process {}, is {:?} {limit:?} after {signal:?}", self.name, process.pid, process.life());
        }
        Ok(())
    }

    fn launch(&self) -> anyhow::Result<()> {
        check_not_given_up()?;
        self.check_ports()?;
        fs::create_dir_all(&self.directory).with_context(|| format!("cannot make {}", self.directory.display()))?;
        let mut command = self.command()?;
        // In a group of its own, Ctrl-C does not reach it: it outlives whoever started it.
        command.stdin(Stdio::null()).process_group(0);
        self.print_to_log(&mut command)?;
        let mut child = command.spawn().with_context(|| format!("cannot start {}", self.name))?;
        let process = i32::try_from(child.id()).map_err(Into::into).and_then(Process::with_pid);
        // Whoever starts it is its parent as long as both live, and buries it.
        thread::spawn(move || child.wait());
        process.with_context(|| self.with_log("it ended at once"))?.write(&self.record())
    }

    /// With everything written that it reads.
    fn command(&self) -> anyhow::Result<Command> {
        let Self { plan, number, directory, .. } = self;
        let class_path = || jars::class_path(self.kind, &|_| {});
        match self.kind {
            Kind::Kafka => {
                let class_path = class_path()?;
                if let Some(format) = kafka::prepare(plan, *number, directory, &class_path)? {
                    self.run(format)?;
                }
                Ok(kafka::command(directory, &class_path))
            }
            Kind::Cassandra => {
                cassandra::prepare(plan, *number, directory)?;
                cassandra::command(plan, directory, &class_path()?)
            }
            Kind::Redis => Ok(redis::command(plan, *number, directory)),
        }
    }

    fn run(&self, mut command: Command) -> anyhow::Result<()> {
        self.print_to_log(&mut command)?;
        let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot prepare {}", self.name))?;
        ensure!(status.success(), self.with_log(&format!("cannot be prepared: {status}")));
        Ok(())
    }

    fn print_to_log(&self, command: &mut Command) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(self.log())?;
        command.stdout(log.try_clone()?).stderr(log);
        Ok(())
    }

    fn wait_until_ready(&self) -> anyhow::Result<()> {
        let limit = self.start_limit();
        let deadline = Instant::now() + limit;
        while !self.answers() {
            check_not_given_up()?;
            match self.status() {
                Status::Down => bail!(self.with_log("it ended as it started")),
                Status::Paused => bail!("{} is paused: resume it", self.name),
                Status::Up if Instant::now() > deadline => {
                    bail!(self.with_log(&format!("it does not answer {} s after its start", limit.as_secs())))
                }
                Status::Up => thread::sleep(POLL),
            }
        }
        Ok(())
    }

    /// Many times what it takes on two idle cores.
    fn start_limit(&self) -> Duration {
        Duration::from_secs(match self.kind {
            Kind::Kafka => 90,
            Kind::Cassandra => 180,
            Kind::Redis => 30,
        })
    }

    fn answers(&self) -> bool {
        let Ok(mut stream) = connect(self.address) else { return false };
        let ready = match self.kind {
            Kind::Kafka => kafka::is_ready(&mut stream, self.number),
            Kind::Cassandra => cassandra::is_ready(&mut stream),
            Kind::Redis => redis::is_ready(&mut stream),
        };
        ready.unwrap_or(false)
    }

    fn with_log(&self, what: &str) -> String {
        format!("{}: {what}; {}", self.name, end_of_log(&self.log()))
    }
}

pub(super) fn connect(address: SocketAddrV4) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::V4(address), ANSWER_LIMIT)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    Ok(stream)
}
