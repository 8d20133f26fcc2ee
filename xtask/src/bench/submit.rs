//! From submitting a task to its first step: when it began, and when the submitter hears that it is done.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::{
    site::{MAIN, Site, TINY, WARM_UP, with_nodes},
    table::{Row, Table},
    times::{Samples, Shown},
};
use crate::chores::cluster::Cluster;

const SUBMISSIONS: usize = 100;
const MODEL_SUBMISSIONS: usize = 20;
const UNTIL_FIRST_STEP: &str = "kubeml_task_first_step_seconds";
const TASK_LIMIT: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Times {
    answered: Samples,
    claimed: Samples,
    first_step_began: Samples,
    first_step: Samples,
    ended: Samples,
}

/// `goal` is for the median.
pub fn measure(cluster: &Cluster<'_>, goal: Duration, table: &mut Table) -> anyhow::Result<()> {
    let (fresh, times) = with_nodes(cluster, MAIN.environment(), 1, |site| {
        let fresh = submit_in_turn(site, TINY, SUBMISSIONS)?;
        site.warm_up(WARM_UP - SUBMISSIONS)?;
        Ok((fresh, submit_in_turn(site, TINY, SUBMISSIONS)?))
    })?;
    let Times { answered, claimed, first_step_began, first_step, ended } = times;
    let task = format!("one idle worker that has the dataset in memory; mlp with 1 hidden unit; {SUBMISSIONS} in turn");
    let began = Row::of_samples("submit to first step", &first_step_began).goal_median(&first_step_began, goal);
    table.add(began.note("from sending the request to when the step began").note(&task));
    let heard = Row::of_samples("submit to first step heard", &first_step);
    table.add(heard.note("it is done, stored and told, as the submitter sees it"));
    table.add(Row::of_samples("of it: until the request is answered", &answered));
    table.add(Row::of_samples("of it: until `claimed` is heard", &claimed));
    table.add(Row::of_samples("submit to end heard", &ended).note(&format!("longest {}", Shown(ended.max()))));
    let fresh_note = format!("the first {SUBMISSIONS}, the others after {WARM_UP}");
    table
        .add(Row::of_samples("submit to first step heard, right after the start", &fresh.first_step).note(&fresh_note));
    Ok(())
}

/// The reference models, whose weights take longer to begin with than one of a single unit.
pub fn measure_models(cluster: &Cluster<'_>, table: &mut Table) -> anyhow::Result<()> {
    with_nodes(cluster, MAIN.environment(), 1, |site| {
        for model in ["mlp", "cnn", "lstm"] {
            let task = format!(r#"{{"model":"{model}","dataset":"mnist-10k","hyperparameters":{{"epochs":1}}}}"#);
            submit_in_turn(site, &task, 2)?;
            let began = submit_in_turn(site, &task, MODEL_SUBMISSIONS)?.first_step_began;
            table.add(Row::of_samples(&format!("submit to first step, {model} as it is by default"), &began));
        }
        Ok(())
    })
}

fn submit_in_turn(site: &Site<'_>, task: &str, count: usize) -> anyhow::Result<Times> {
    let mut times = Times::default();
    let first_steps = || -> anyhow::Result<(u64, Duration)> {
        let metrics = site.metrics()?;
        Ok((metrics.total(&format!("{UNTIL_FIRST_STEP}_count"))?, metrics.seconds(UNTIL_FIRST_STEP)?))
    };
    let (mut before, mut sum) = first_steps()?;
    for _ in 0..count {
        let taken = submit_one(site, task, &mut times)?;
        site.wait_until_idle()?;
        let (after, new_sum) = first_steps()?;
        ensure!(after == before + 1, "{} first steps of one task", after - before);
        times.first_step_began.add(taken + new_sum.saturating_sub(sum));
        (before, sum) = (after, new_sum);
    }
    Ok(times)
}

/// Returns how long it took until there was a task.
fn submit_one(site: &Site<'_>, task: &str, times: &mut Times) -> anyhow::Result<Duration> {
    let facts = site.listen()?;
    let task = site.submit(task)?;
    let since = |at: Instant| at.saturating_duration_since(task.at);
    let (mut taken, mut claimed, mut first_step) = (None, None, None);
    let end = facts.wait(TASK_LIMIT, |heard| {
        if heard.is(&task.id, "queued") {
            taken.get_or_insert((heard.at, heard.age()));
        }
        if heard.is(&task.id, "claimed") {
            claimed.get_or_insert(heard.at);
        }
        if heard.is(&task.id, "progress") {
            first_step.get_or_insert(heard.at);
        }
        heard.is_end_of(&task.id)
    })?;
    times.answered.add(task.answered);
    times.ended.add(since(end.at));
    claimed.into_iter().for_each(|at| times.claimed.add(since(at)));
    first_step.into_iter().for_each(|at| times.first_step.add(since(at)));
    let (heard, age) = taken.context("nobody told that the task is queued")?;
    Ok(since(heard).saturating_sub(age?))
}
