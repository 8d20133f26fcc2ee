//! Runs other programs: from the root of the checkout, within a deadline, and never longer than we live ourselves.

use std::{
    env,
    ffi::OsString,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode, ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use xtask::services;

#[cfg(test)]
mod tests;

/// For questions like "is it installed?" and "can it be reached?".
const PROBE_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);
/// What a shell says of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

static IS_INTERRUPTED: AtomicBool = AtomicBool::new(false);

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
        self.run("cargo", args, environment)
    }

    /// Any program; not to succeed is an error.
    pub fn run(&self, program: &str, args: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<()> {
        let mut command = self.command(program, args);
        command.envs(environment.iter().copied());
        let what = format!("{program} {}", args.join(" "));
        eprintln!("$ {what}");
        match end(&mut command, self.deadline).with_context(|| what.clone())? {
            None if is_interrupted() => bail!("interrupted: {what} was killed"),
            None => bail!("over budget: {what} was killed"),
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("{what}: {status}"),
        }
    }

    /// The checkout.
    pub fn root(&self) -> &Path {
        &self.root
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

/// Runs `command` to its end, or kills it and all its children at the deadline or on Ctrl-C: `None`.
fn end(command: &mut Command, deadline: Instant) -> std::io::Result<Option<ExitStatus>> {
    // A group of its own, so that the kill reaches test programs that cargo started, too.
    let mut child = command.process_group(0).spawn()?;
    let group = Pid::from_child(&child);
    loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < deadline && !is_interrupted() => sleep(POLL),
            Ok(None) => {
                kill_process_group(group, Signal::KILL)?;
                return child.wait().map(|_| None);
            }
            ended => return ended,
        }
    }
}

/// From now on Ctrl-C and SIGTERM end what is running and leave it to us to clean up; a second one ends us at once.
pub fn listen_for_interrupts() -> anyhow::Result<()> {
    ctrlc::set_handler(|| {
        if IS_INTERRUPTED.swap(true, Ordering::SeqCst) {
            std::process::exit(INTERRUPTED.into());
        }
        services::give_up();
    })
    .context("cannot listen for Ctrl-C")
}

pub fn is_interrupted() -> bool {
    IS_INTERRUPTED.load(Ordering::SeqCst)
}

pub fn check_not_interrupted() -> anyhow::Result<()> {
    ensure!(!is_interrupted(), "interrupted");
    Ok(())
}

/// With `otherwise` unless somebody interrupted us.
pub fn exit_code(otherwise: ExitCode) -> ExitCode {
    if is_interrupted() { ExitCode::from(INTERRUPTED) } else { otherwise }
}
