//! A suite that needs servers: it starts them, says where they are, and takes them down however it ends.

use std::path::Path;

use xtask::services::{Plan, Services};

use crate::{chores::services::progress, runner::Runner};

/// Names the directory for `Services::open`.
const VARIABLE: &str = "KUBEML_TEST_SERVICES";

/// What builds the test program: as the other suites build, for all packages. For one alone dependencies have other features,
/// and would be built once more.
const CARGO: [&str; 4] = ["test", "--workspace", "--test", "cluster"];

/// The arguments of one run of the test program.
type Run = &'static [&'static str];

/// Scenarios stop servers that others need, so they have them for themselves.
pub const SINGLE: &[Run] =
    &[&["--skip", "::ha::", "--skip", "::scenarios::", "--test-threads=4"], &["::scenarios::", "--test-threads=1"]];

/// What is lost with one of several servers.
pub const HIGHLY_AVAILABLE: &[Run] = &[&["::ha::", "--test-threads=1"]];

/// Runs the tests of clusters on the services of `plan`, on ports that nobody uses. A run that fails stops no other.
pub fn run(runner: &Runner, suite: &str, plan: Plan, runs: &[Run]) -> anyhow::Result<()> {
    // Without servers around: the compiler needs the memory, and may find that there is nothing to run.
    runner.cargo(&[&CARGO[..], &["--no-run"]].concat())?;
    let directory = runner.root().join("target").join(format!("{suite}-services"));
    remove_leftovers(&directory)?;
    let services = Services::up(&directory, &plan.on_free_test_ports()?, &progress)?;
    let place = directory.to_string_lossy();
    // What failed is said in a line: the stacks of a cluster's tests would bury it.
    let environment = [(VARIABLE, &*place), ("RUST_BACKTRACE", "0")];
    let test = |run: &Run| runner.cargo_with(&[&CARGO[..], &["--"], run].concat(), &environment);
    let tested = runs.iter().map(test).fold(Ok(()), anyhow::Result::and);
    let stopped = services.down(false, &progress);
    tested.and(stopped)
}

/// Of a run that was killed.
fn remove_leftovers(directory: &Path) -> anyhow::Result<()> {
    match Services::recorded(directory)? {
        Some(_) => Services::open(directory)?.down(false, &progress),
        None => Ok(()),
    }
}
