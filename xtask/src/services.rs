//! Real Kafka, Cassandra and Redis on this machine, from packages: no container engine needed.
//!
//! `Services::up` starts what a `Plan` names below one directory and leaves it running; `Services::open` finds it again,
//! from whichever process. `services.json` there holds the plan, and each server's own directory its data, its
//! `server.log`, and `process.json`: pid and start time of its process. So single servers can be killed, paused and
//! started again by tests, at the same time and from several processes.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};

pub use self::{
    plan::{CommitLog, Kind, Plan, Ports, RedisPlan, is_free},
    server::{Server, Status},
};

mod cassandra;
mod jars;
mod kafka;
mod plan;
mod process;
mod redis;
mod report;
mod server;
#[cfg(test)]
mod tests;

const CLUSTER_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
const LOG_LINES: usize = 20;

static GIVEN_UP: AtomicBool = AtomicBool::new(false);

/// Ends every wait for a server, now and from now on, with an error: for handlers of Ctrl-C.
pub fn give_up() {
    GIVEN_UP.store(true, Ordering::SeqCst);
}

fn check_not_given_up() -> anyhow::Result<()> {
    ensure!(!GIVEN_UP.load(Ordering::SeqCst), "interrupted");
    Ok(())
}

/// Told what happens, line by line, from several threads.
pub type Progress<'a> = &'a (dyn Fn(&str) + Sync);

pub struct Services {
    directory: PathBuf,
    plan: Plan,
    servers: Vec<Server>,
}

impl Services {
    /// Starts what of the plan is not running, and returns when every server answers clients. If one does not, those
    /// that were started are killed.
    pub fn up(directory: &Path, plan: &Plan, progress: Progress<'_>) -> anyhow::Result<Self> {
        plan.check()?;
        let services = Self::at(directory, *plan)?;
        fs::create_dir_all(&services.directory)
            .with_context(|| format!("cannot make {}", services.directory.display()))?;
        let lock = services.lock()?;
        services.check(progress)?;
        write_whole(&services.record(), &serde_json::to_vec_pretty(plan)?)?;
        let down: Vec<_> = services.servers.iter().filter(|server| server.status() == Status::Down).collect();
        if let Err(error) = services.start_all(progress) {
            progress("stopping what was started");
            in_parallel(&down, |server| server.kill())?;
            return Err(error);
        }
        drop(lock);
        Ok(services)
    }

    /// What was started in `directory`, running or not.
    pub fn open(directory: &Path) -> anyhow::Result<Self> {
        let plan = Self::recorded(directory)?;
        let plan = plan.with_context(|| format!("no services were started in {}", directory.display()))?;
        Self::at(directory, plan)
    }

    /// The plan of what was started in `directory`, if anything was.
    pub fn recorded(directory: &Path) -> anyhow::Result<Option<Plan>> {
        let path = directory.join(RECORD);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let plan: Result<Plan, _> = serde_json::from_slice(&bytes);
        let what = || format!("{} is no plan: stop the servers by hand and remove {0}", path.display());
        let plan = plan.with_context(what)?;
        plan.check().with_context(what)?;
        Ok(Some(plan))
    }

    /// Terminates every server, all at the same time, and removes their data unless it is to be kept.
    pub fn down(&self, keep_data: bool, progress: Progress<'_>) -> anyhow::Result<()> {
        let _lock = self.lock()?;
        in_parallel(&self.servers, |server| {
            let started = Instant::now();
            let was_down = server.status() == Status::Down;
            server.terminate()?;
            if !was_down {
                progress(&format!("{} stopped in {:.1} s", server.name, started.elapsed().as_secs_f64()));
            }
            Ok(())
        })?;
        if keep_data {
            return Ok(());
        }
        for directory in self.servers.iter().map(Server::directory).filter(|directory| directory.exists()) {
            fs::remove_dir_all(directory).with_context(|| format!("cannot remove {}", directory.display()))?;
        }
        fs::remove_file(self.record())?;
        fs::remove_file(self.directory.join(LOCK))?;
        // What somebody else put there stays, and the directory with it.
        let _ = fs::remove_dir(&self.directory);
        Ok(())
    }

    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// By its name: `kafka-1`, `cassandra-1`, `redis-1`, and so on.
    pub fn server(&self, name: &str) -> anyhow::Result<&Server> {
        self.servers
            .iter()
            .find(|server| server.name == name)
            .with_context(|| format!("{name} is not among the services"))
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    fn at(directory: &Path, plan: Plan) -> anyhow::Result<Self> {
        let directory = std::path::absolute(directory)?;
        let servers = Server::all(&directory, &plan);
        Ok(Self { directory, plan, servers })
    }

    /// What can be known to fail before anything is started.
    fn check(&self, progress: Progress<'_>) -> anyhow::Result<()> {
        if let Some(there) = Self::recorded(&self.directory)?.filter(|there| *there != self.plan) {
            let directory = self.directory.display();
            bail!("{directory} holds services of another plan ({}): take them down first", there.describe());
        }
        let java = [Kind::Kafka, Kind::Cassandra].into_iter().filter(|&kind| self.plan.count(kind) > 0);
        for kind in java {
            require("java", "openjdk-17-jre-headless")?;
            require("mvn", "maven")?;
            jars::class_path(kind, progress)?;
        }
        if self.plan.count(Kind::Redis) > 0 {
            require("redis-server", "redis-server")?;
            require("redis-cli", "redis-tools")?;
        }
        self.servers.iter().try_for_each(Server::check_ports)
    }

    /// Kinds at the same time, and so the brokers among themselves, which need each other; Cassandra's nodes join one
    /// after the other.
    fn start_all(&self, progress: Progress<'_>) -> anyhow::Result<()> {
        let start = |server: &Server| start_one(server, progress);
        in_parallel(&Kind::ALL, |&kind| {
            let servers: Vec<_> = self.servers.iter().filter(|server| server.kind == kind).collect();
            match kind {
                Kind::Cassandra => servers.into_iter().try_for_each(start),
                Kind::Kafka => in_parallel(&servers, |server| start(server)),
                Kind::Redis => {
                    in_parallel(&servers, |server| start(server))?;
                    if self.plan.redis == RedisPlan::Cluster { self.form_redis_cluster(progress) } else { Ok(()) }
                }
            }
        })
    }

    fn form_redis_cluster(&self, progress: Progress<'_>) -> anyhow::Result<()> {
        let started = Instant::now();
        let addresses = self.plan.addresses(Kind::Redis);
        redis::form_cluster(&addresses)?;
        while !addresses.iter().all(|&address| redis::serves_all_slots(address)) {
            check_not_given_up()?;
            ensure!(
                started.elapsed() < CLUSTER_LIMIT,
                "the Redis cluster does not serve all slots after {CLUSTER_LIMIT:?}"
            );
            thread::sleep(POLL);
        }
        progress(&format!("the Redis cluster formed in {:.1} s", started.elapsed().as_secs_f64()));
        Ok(())
    }

    fn record(&self) -> PathBuf {
        self.directory.join(RECORD)
    }

    /// Held by whoever takes the services up or down.
    fn lock(&self) -> anyhow::Result<File> {
        let lock = File::create(self.directory.join(LOCK))?;
        lock.lock()?;
        Ok(lock)
    }
}

const RECORD: &str = "services.json";
const LOCK: &str = "lock";

fn start_one(server: &Server, progress: Progress<'_>) -> anyhow::Result<()> {
    let Server { name, address, .. } = server;
    match server.status() {
        Status::Up => progress(&format!("{name} is running already, at {address}")),
        Status::Paused => {
            server.resume()?;
            progress(&format!("{name} was paused; it goes on, at {address}"));
        }
        Status::Down => {
            progress(&format!("starting {name} at {address}"));
            let started = Instant::now();
            server.start()?;
            progress(&format!("{name} answers after {:.1} s", started.elapsed().as_secs_f64()));
        }
    }
    server.start()
}

/// Does all of it, each in its own thread, and returns the first error.
fn in_parallel<T: Sync>(items: &[T], act: impl Fn(&T) -> anyhow::Result<()> + Sync) -> anyhow::Result<()> {
    thread::scope(|scope| {
        let act = &act;
        let threads: Vec<_> = items.iter().map(|item| scope.spawn(move || act(item))).collect();
        let ends: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        ends.into_iter()
            .try_for_each(|end| end.unwrap_or_else(|_| bail!("a thread that starts or stops servers panicked")))
    })
}

fn require(program: &str, package: &str) -> anyhow::Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    ensure!(there, "{program} is missing: apt-get install {package}");
    Ok(())
}

/// So that whoever reads the file reads all of it.
fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let fresh = path.with_extension(format!("fresh-{}", std::process::id()));
    fs::write(&fresh, bytes).with_context(|| format!("cannot write {}", fresh.display()))?;
    fs::rename(&fresh, path).with_context(|| format!("cannot write {}", path.display()))
}

/// Where a log is, and what was last printed there: for errors.
pub fn end_of_log(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    format!("the end of {}:\n{}", path.display(), last_lines(&String::from_utf8_lossy(&bytes), LOG_LINES))
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
