//! `cargo xtask bench ops`: the training library's ops, each beside the peak of what it is made of.

use std::{fs, path::Path, process::ExitCode, time::Duration};

use anyhow::Context;
use serde::Deserialize;

use super::{
    DIRECTORY, document,
    document::Conditions,
    table::{Row, Table},
};
use crate::runner::{self, Runner};

#[cfg(test)]
mod tests;

const LIMIT: Duration = Duration::from_secs(60 * 60);
/// What the benchmarks call the peak of their group.
const PEAK: &str = "peak";

/// What was measured, as Criterion writes it.
#[derive(Deserialize)]
struct Benchmark {
    group_id: String,
    function_id: String,
    throughput: Throughput,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
enum Throughput {
    /// Floating-point operations.
    Elements(u64),
    Bytes(u64),
}

#[derive(Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    /// In nanoseconds.
    point_estimate: f64,
}

struct Measured {
    group: String,
    name: String,
    work: Throughput,
    nanoseconds: f64,
}

pub fn run(root: &Path) -> anyhow::Result<ExitCode> {
    runner::listen_for_interrupts()?;
    let conditions = Conditions::of_machine();
    let results = root.join(DIRECTORY).join("ops");
    // What an earlier run has left is no result.
    let _ = fs::remove_dir_all(&results);
    let results_as_text = results.to_str().context("the checkout's path is no text")?;
    let environment = [("CRITERION_HOME", results_as_text), ("RAYON_NUM_THREADS", "1")];
    Runner::new(root, LIMIT).cargo_with(&["bench", "--package", "kubeml-train", "--bench", "ops"], &environment)?;
    let mut table = Table::default();
    rows(&read(&results)?)?.into_iter().for_each(|row| table.add(row));
    document::write(root, "ops", &conditions, &table)?;
    Ok(ExitCode::SUCCESS)
}

/// Groups in alphabetical order, as in each the benchmarks.
fn read(results: &Path) -> anyhow::Result<Vec<Measured>> {
    let mut all = Vec::new();
    for group in folders(results)? {
        for benchmark in folders(&group)?.iter().map(|folder| folder.join("new")).filter(|folder| folder.is_dir()) {
            let Benchmark { group_id, function_id, throughput } = parsed(&benchmark.join("benchmark.json"))?;
            let Estimates { median } = parsed(&benchmark.join("estimates.json"))?;
            let nanoseconds = median.point_estimate;
            all.push(Measured { group: group_id, name: function_id, work: throughput, nanoseconds });
        }
    }
    Ok(all)
}

fn folders(parent: &Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let entries = fs::read_dir(parent).with_context(|| format!("cannot read {}", parent.display()))?;
    let mut folders: Vec<_> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect();
    folders.sort();
    Ok(folders)
}

fn parsed<T: for<'de> Deserialize<'de>>(path: &Path) -> anyhow::Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

/// Each rate, and its share of the peak of the group.
fn rows(measured: &[Measured]) -> anyhow::Result<Vec<Row>> {
    let shown = measured.iter().map(|one| {
        let Measured { group, name, nanoseconds, .. } = one;
        let peak = measured.iter().find(|other| other.group == *group && other.name == PEAK);
        let peak = peak.with_context(|| format!("{group} has no peak"))?;
        let row = Row::new(&format!("{group}: {name}"), &one.rate());
        let time = format!("{:.1} us", nanoseconds / 1e3);
        let share = 100.0 * one.work_per_nanosecond() / peak.work_per_nanosecond();
        Ok(if name == PEAK { row.note(&time) } else { row.note(&format!("{share:.0} % of the peak")).note(&time) })
    });
    shown.collect()
}

impl Measured {
    /// Of either unit this is 10^9 a second.
    fn work_per_nanosecond(&self) -> f64 {
        let (Throughput::Elements(work) | Throughput::Bytes(work)) = self.work;
        work as f64 / self.nanoseconds
    }

    fn rate(&self) -> String {
        let unit = if matches!(self.work, Throughput::Elements(_)) { "GFLOP/s" } else { "GB/s" };
        format!("{:.1} {unit}", self.work_per_nanosecond())
    }
}
