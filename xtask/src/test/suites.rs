//! The table of suites. A new one is one more entry.

use std::time::Duration;

use xtask::services::{Plan, Ports};

use crate::{
    runner::Runner,
    tools::{CARGO_DENY, CLIPPY, JAVA, MAVEN, REDIS, RUSTFMT, Tool},
};

mod cluster;

/// The database of known vulnerabilities that cargo-deny fetches.
const ADVISORIES: &str = "https://github.com/RustSec/advisory-db";

pub struct Suite {
    pub name: &'static str,
    pub about: &'static str,
    /// After which it is killed and has failed. Enough for a cold build on two cores.
    pub budget: Duration,
    /// Without one of which it cannot start.
    pub tools: &'static [Tool],
    /// Whether it runs when no suite is named. One that does not is left out then, not skipped.
    pub by_default: bool,
    pub run: fn(&Runner) -> anyhow::Result<Note>,
}

/// What the summary should say of a suite that passed, if anything.
pub type Note = Option<String>;

/// In the order in which they run: the quick ones first, and each before those that build on its work.
pub const SUITES: &[Suite] = &[
    Suite {
        name: "fmt",
        about: "every file is formatted",
        budget: minutes(1),
        tools: &[RUSTFMT],
        by_default: true,
        run: |runner| runner.cargo(&["fmt", "--all", "--check"]).map(silent),
    },
    Suite {
        name: "deps",
        about: "licences, bans, sources and advisories of all dependencies (deny.toml)",
        budget: minutes(15),
        tools: &[CARGO_DENY],
        by_default: true,
        run: check_dependencies,
    },
    Suite {
        name: "clippy",
        about: "no lint fires, anywhere",
        budget: minutes(20),
        tools: &[CLIPPY],
        by_default: true,
        run: |runner| runner.cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]).map(silent),
    },
    Suite {
        name: "docs",
        about: "the documentation builds and its links lead somewhere",
        budget: minutes(20),
        tools: &[],
        by_default: true,
        run: |runner| {
            let args = ["doc", "--workspace", "--no-deps", "--document-private-items"];
            runner.cargo_with(&args, &[("RUSTDOCFLAGS", "-D warnings")]).map(silent)
        },
    },
    Suite {
        name: "rust",
        about: "all tests of the workspace, examples in the documentation included",
        budget: minutes(40),
        tools: &[],
        by_default: true,
        run: |runner| runner.cargo(&["test", "--workspace", "--no-fail-fast"]).map(silent),
    },
    Suite {
        name: "cluster",
        about: "adapters and whole clusters on real Kafka, Cassandra and Redis, which it starts and stops",
        budget: minutes(35),
        tools: &[JAVA, MAVEN, REDIS],
        by_default: true,
        run: |runner| {
            let plan = Plan::single(Ports::for_tests());
            cluster::run(runner, "cluster", plan, cluster::SINGLE).map(silent)
        },
    },
    Suite {
        name: "cluster-ha",
        about: "clusters on three brokers, three Cassandra nodes and a Redis Cluster, members of which are killed",
        budget: minutes(30),
        tools: &[JAVA, MAVEN, REDIS],
        by_default: false,
        run: |runner| {
            let plan = Plan::highly_available(Ports::for_tests());
            cluster::run(runner, "cluster-ha", plan, cluster::HIGHLY_AVAILABLE).map(silent)
        },
    },
];

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

fn silent((): ()) -> Note {
    None
}

fn check_dependencies(runner: &Runner) -> anyhow::Result<Note> {
    runner.cargo(&["deny", "check", "bans", "licenses", "sources"])?;
    if !runner.succeeds("git", &["ls-remote", "--exit-code", ADVISORIES, "HEAD"]) {
        return Ok(Some(format!("ADVISORIES NOT CHECKED: {ADVISORIES} is out of reach")));
    }
    runner.cargo(&["deny", "check", "advisories"]).map(silent)
}
