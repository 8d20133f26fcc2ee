//! Runs other programs: from the root of the checkout, within a deadline, and never longer than we live ourselves.

use std::{
    env,
    ffi::OsString,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

#[cfg(test)]
mod tests;

/// For questions like "is it installed?" and "can it be reached?".
const PROBE_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);
const INTERRUPTED: i32 = 130;

/// The process group that is running, for the handler of Ctrl-C; 0 if none is.
static RUNNING: AtomicU32 = AtomicU32::new(0);

pub struct Runner {
    root: PathBuf,
    deadline: Instant,
}

impl Runner {
    /// Whose programs have `budget` together.
    pub fn new(root: &Path, budget: Duration) -> Self {
        Self { root: root.to_owned(), deadline: Instant::now() + budget }
    }

    pub fn cargo(&self, args: &[&str]) -> anyhow::Result<()> {
        self.cargo_with(args, &[])
    }

    /// `cargo` with more environment.
    pub fn cargo_with(&self, args: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<()> {
        let mut command = self.command("cargo", args);
        command.envs(environment.iter().copied());
        let what = format!("cargo {}", args.join(" "));
        eprintln!("$ {what}");
        match end(&mut command, self.deadline).with_context(|| what.clone())? {
            None => bail!("over budget: {what} was killed"),
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("{what}: {status}"),
        }
    }

    /// Whether a command ends well and soon. What it prints is of no interest.
    pub fn succeeds(&self, program: &str, args: &[&str]) -> bool {
        let mut command = self.command(program, args);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let deadline = self.deadline.min(Instant::now() + PROBE_LIMIT);
        matches!(end(&mut command, deadline), Ok(Some(status)) if status.success())
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(&self.root).stdin(Stdio::null()).env("PATH", self.path());
        // Set by the cargo that runs us, and looked at by build scripts: `ring` would be built anew for every change
        // between `cargo test` and `cargo xtask test`.
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
                command.env_remove(name);
            }
        }
        command
    }

    /// Tools of our own before everybody's.
    fn path(&self) -> OsString {
        let ours = self.root.join(crate::tools::DIR).join("bin");
        let inherited = env::var_os("PATH").unwrap_or_default();
        let dirs = std::iter::once(ours).chain(env::split_paths(&inherited));
        env::join_paths(dirs).unwrap_or(inherited)
    }
}

/// Runs `command` to its end, or kills it and all its children at the deadline: `None`.
fn end(command: &mut Command, deadline: Instant) -> std::io::Result<Option<ExitStatus>> {
    // A group of its own, so that the kill reaches test programs that cargo started, too.
    let mut child = command.process_group(0).spawn()?;
    RUNNING.store(child.id(), Ordering::SeqCst);
    let outcome = loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < deadline => sleep(POLL),
            Ok(None) => {
                kill_group(child.id());
                child.kill()?;
                break child.wait().map(|_| None);
            }
            ended => break ended,
        }
    };
    RUNNING.store(0, Ordering::SeqCst);
    outcome
}

/// In a group of their own, children do not hear the terminal's Ctrl-C: we pass it on.
pub fn pass_on_interrupts() -> anyhow::Result<()> {
    ctrlc::set_handler(|| {
        match RUNNING.load(Ordering::SeqCst) {
            0 => {}
            group => kill_group(group),
        }
        std::process::exit(INTERRUPTED);
    })
    .context("cannot listen for Ctrl-C")
}

/// By the shell, whose `kill` is built in: a system without procps has no other.
fn kill_group(group: u32) {
    let killed = Command::new("sh").args(["-c", "kill -s KILL -- \"-$1\"", "sh", &group.to_string()]).status();
    if !killed.is_ok_and(|status| status.success()) {
        eprintln!("cannot kill process group {group}: look for what is left of it");
    }
}
