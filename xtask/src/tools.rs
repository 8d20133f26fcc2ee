//! Programs that suites need beside cargo: how to ask for one, and where it comes from.

use crate::runner::Runner;

/// Where continuous integration puts what it installs, in the checkout.
pub const DIR: &str = "target/tools";

pub struct Tool {
    pub name: &'static str,
    /// Succeeds if the tool is there.
    probe: &'static [&'static str],
    /// What a developer types to get it.
    install: &'static str,
    /// Arguments of cargo with which continuous integration gets it by itself.
    install_in_ci: Option<&'static [&'static str]>,
}

pub const RUSTFMT: Tool = Tool {
    name: "rustfmt",
    probe: &["fmt", "--version"],
    install: "rustup component add rustfmt",
    install_in_ci: None,
};

pub const CLIPPY: Tool = Tool {
    name: "clippy",
    probe: &["clippy", "--version"],
    install: "rustup component add clippy",
    install_in_ci: None,
};

/// Built from source in some two and a half minutes on two cores, which is why only continuous integration does so unasked.
pub const CARGO_DENY: Tool = Tool {
    name: "cargo-deny",
    probe: &["deny", "--version"],
    install: "cargo install --locked cargo-deny@0.20.2",
    install_in_ci: Some(&["install", "--locked", "--root", DIR, "cargo-deny@0.20.2"]),
};

impl Tool {
    /// Sees to it that the tool can be run, or says what to do.
    pub fn provide(&self, runner: &Runner, in_ci: bool) -> Result<(), String> {
        if self.is_there(runner) {
            return Ok(());
        }
        if let Some(args) = self.install_in_ci.filter(|_| in_ci) {
            return runner.cargo(args).map_err(|error| format!("{} cannot be installed: {error:#}", self.name));
        }
        Err(format!("{} is missing: {}", self.name, self.install))
    }

    pub fn is_there(&self, runner: &Runner) -> bool {
        runner.succeeds("cargo", self.probe)
    }
}
