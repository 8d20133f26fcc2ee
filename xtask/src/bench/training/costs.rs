//! What a step and a checkpoint cost, as the training library's own example tells.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    thread::available_parallelism,
    time::Duration,
};

use anyhow::Context;

use super::{
    super::table::{Row, Table},
    Model,
    contender::said,
};
use crate::{chores::services::progress, runner::Runner};

#[cfg(test)]
mod tests;

const BUILD_LIMIT: Duration = Duration::from_secs(3600);
/// Three without and three with checkpoints.
const CHECKPOINT_EPOCHS: &str = "6";
/// Of training time, with a checkpoint every second.
const COST_GOAL: f64 = 0.02;

/// `mnist` is the folder with the images.
pub fn measure(models: &[Model], root: &Path, mnist: &Path, table: &mut Table) -> anyhow::Result<()> {
    let example = build(root)?;
    let threads = available_parallelism().context("the number of cores is unknown")?.get();
    let train = |arguments: &[&str]| said(Command::new(&example).arg(mnist).args(arguments));
    for model in models {
        progress(&format!("where a step's time goes: {}", model.name()));
        let one = train(&[model.name(), "1", "1"])?;
        let all = train(&[model.name(), "1", &threads.to_string()])?;
        table.add(step(*model, threads, &all, &one)?);
    }
    // An epoch of the perceptron is over before a checkpoint is due.
    for model in models.iter().filter(|model| **model != Model::Mlp) {
        progress(&format!("checkpoints once a second: {}", model.name()));
        let told = train(&[model.name(), CHECKPOINT_EPOCHS, &threads.to_string(), "1", "1"])?;
        table.add(checkpoint(*model, threads, &told)?);
    }
    Ok(())
}

fn build(root: &Path) -> anyhow::Result<PathBuf> {
    Runner::new(root, BUILD_LIMIT).cargo(&["build", "--release", "--package", "kubeml-train", "--example", "mnist"])?;
    let ours = env::current_exe()?;
    let target = ours.ancestors().nth(2).context("xtask does not lie in a target directory")?;
    Ok(target.join("release/examples/mnist"))
}

fn step(model: Model, threads: usize, all: &str, one: &str) -> anyhow::Result<Row> {
    let phases = |told| figures::<3>(told, "step in us: ").context("the example does not tell a step's phases");
    let ([shards, update, between], [shards_of_one, update_of_one, _]) = (phases(all)?, phases(one)?);
    let whole = shards + update + between;
    let note = format!(
        "medians of one epoch; forward and back {shards:.0} us, reduction and update {update:.0} us, between steps \
         {between:.0} us; on one thread {shards_of_one:.0} and {update_of_one:.0} us"
    );
    Ok(Row::new(&format!("{}: a step on {threads} threads", model.name()), &format!("{whole:.0} us")).note(&note))
}

/// All of a checkpoint's time counts, although most of it is another thread's, and is spent waiting for the disk.
fn checkpoint(model: Model, threads: usize, told: &str) -> anyhow::Result<Row> {
    let told = figures::<3>(told, "checkpoint in us: ").context("the example does not tell a checkpoint's cost")?;
    let [taken, saved, speed] = told;
    let share = (taken + saved / threads as f64) / 1e6;
    let row =
        Row::new(&format!("{}: a checkpoint a second", model.name()), &format!("{:.2} % of the time", share * 100.0));
    let note = format!(
        "{taken:.0} us of the training thread to copy; {saved:.0} us of another to encode and write, counted as if it \
         computed on one of {threads} cores; speed of epochs with them {speed:.3} of those without, medians of 3"
    );
    Ok(row.goal("<= 2 %", share <= COST_GOAL).note(&note))
}

/// The numbers of a line like `.. MARKERname 1 other 2.5`.
fn figures<const COUNT: usize>(text: &str, marker: &str) -> Option<[f64; COUNT]> {
    let (_, rest) = text.lines().rev().find_map(|line| line.split_once(marker))?;
    let numbers: Option<Vec<f64>> =
        rest.split_whitespace().skip(1).step_by(2).map(|number| number.parse().ok()).collect();
    numbers?.try_into().ok()
}
