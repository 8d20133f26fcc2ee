//! Programs that suites need beside cargo: how to ask for one, and where it comes from.

use crate::runner::Runner;

/// Where continuous integration puts what it installs, in the checkout.
pub const DIR: &str = "target/tools";

pub struct Tool {
    pub name: &'static str,
    /// A command that succeeds if the tool is there.
    probe: (&'static str, &'static [&'static str]),
    /// What a developer types to get it.
    install: &'static str,
    /// How continuous integration gets it by itself.
    install_in_ci: Option<Source>,
}

enum Source {
    /// Arguments of cargo.
    Cargo(&'static [&'static str]),
    /// Names of Debian packages. One that starts a server of its own does no harm: tests use other ports.
    Debian(&'static [&'static str]),
}

pub const RUSTFMT: Tool = Tool {
    name: "rustfmt",
    probe: ("cargo", &["fmt", "--version"]),
    install: "rustup component add rustfmt",
    install_in_ci: None,
};

pub const CLIPPY: Tool = Tool {
    name: "clippy",
    probe: ("cargo", &["clippy", "--version"]),
    install: "rustup component add clippy",
    install_in_ci: None,
};

/// Built from source in some minutes on two cores, which is why only continuous integration does so unasked.
pub const CARGO_DENY: Tool = Tool {
    name: "cargo-deny",
    probe: ("cargo", &["deny", "--version"]),
    install: "cargo install --locked cargo-deny@0.20.2",
    install_in_ci: Some(Source::Cargo(&["install", "--debug", "--locked", "--root", DIR, "cargo-deny@0.20.2"])),
};

/// Runs Kafka and Cassandra.
pub const JAVA: Tool = Tool {
    name: "java",
    probe: ("java", &["-version"]),
    install: "apt-get install openjdk-17-jre-headless",
    install_in_ci: Some(Source::Debian(&["openjdk-17-jre-headless"])),
};

/// Gets the jars of Kafka and Cassandra.
pub const MAVEN: Tool = Tool {
    name: "mvn",
    probe: ("mvn", &["--version"]),
    install: "apt-get install maven",
    install_in_ci: Some(Source::Debian(&["maven"])),
};

pub const REDIS: Tool = Tool {
    name: "redis-server",
    probe: ("sh", &["-c", "redis-server --version && redis-cli --version"]),
    install: "apt-get install redis-server redis-tools",
    install_in_ci: Some(Source::Debian(&["redis-server", "redis-tools"])),
};

impl Tool {
    /// Sees to it that the tool can be run, or says what to do.
    pub fn provide(&self, runner: &Runner, in_ci: bool) -> Result<(), String> {
        if self.is_there(runner) {
            return Ok(());
        }
        if let Some(source) = self.install_in_ci.as_ref().filter(|_| in_ci) {
            return source.install(runner).map_err(|error| format!("{} cannot be installed: {error:#}", self.name));
        }
        Err(format!("{} is missing: {}", self.name, self.install))
    }

    pub fn is_there(&self, runner: &Runner) -> bool {
        let (program, args) = self.probe;
        runner.succeeds(program, args)
    }
}

impl Source {
    fn install(&self, runner: &Runner) -> anyhow::Result<()> {
        match self {
            Self::Cargo(args) => runner.cargo(args),
            Self::Debian(packages) => {
                apt_get(runner, &["update"])?;
                apt_get(runner, &[&["install", "--yes", "--no-install-recommends"], *packages].concat())
            }
        }
    }
}

/// As root, which continuous integration is, or becomes without a password.
fn apt_get(runner: &Runner, args: &[&str]) -> anyhow::Result<()> {
    const QUIET: &str = "DEBIAN_FRONTEND=noninteractive";
    let (program, before): (_, &[&str]) = match rustix::process::geteuid().is_root() {
        true => ("env", &[QUIET, "apt-get"]),
        false => ("sudo", &["--non-interactive", QUIET, "apt-get"]),
    };
    runner.run(program, &[before, args].concat(), &[])
}
