//! A suite that needs servers: it starts them, says where they are, and takes them down however it ends.

use std::path::Path;

use xtask::services::{Plan, Services};

use crate::{chores::services::progress, runner::Runner};

/// Names the directory for `Services::open`.
const VARIABLE: &str = "KUBEML_TEST_SERVICES";

/// Runs the test program `test` of the package kubeml on the services of `plan`, on ports that nobody uses.
pub fn run(runner: &Runner, test: &str, plan: Plan) -> anyhow::Result<()> {
    let cargo = ["test", "--package", "kubeml", "--test", test];
    // Without servers around: the compiler needs the memory, and may find that there is nothing to run.
    runner.cargo(&[&cargo[..], &["--no-run"]].concat())?;
    let directory = runner.root().join("target").join(format!("{test}-services"));
    remove_leftovers(&directory)?;
    let services = Services::up(&directory, &plan.on_free_test_ports()?, &progress)?;
    let place = directory.to_string_lossy();
    let tested = runner.cargo_with(&[&cargo[..], &["--", "--test-threads=4"]].concat(), &[(VARIABLE, &place)]);
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
