//! From submitting a task to its first step: when it was done, and when the submitter hears of it.

use std::time::{Duration, Instant};

use super::{
    site::{MAIN, Site, TINY, WARM_UP, with_nodes},
    table::{Row, Table},
    times::{Samples, Shown},
};
use crate::chores::cluster::Cluster;

const SUBMISSIONS: usize = 100;
const TASK_LIMIT: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Times {
    answered: Samples,
    claimed: Samples,
    first_step_done: Samples,
    first_step: Samples,
    ended: Samples,
}

/// `goal` is for the median.
pub fn measure(cluster: &Cluster<'_>, goal: Duration, table: &mut Table) -> anyhow::Result<()> {
    let (fresh, times) = with_nodes(cluster, MAIN.environment(), 1, |site| {
        let fresh = submit_in_turn(site)?;
        site.warm_up(WARM_UP - SUBMISSIONS)?;
        Ok((fresh, submit_in_turn(site)?))
    })?;
    let Times { answered, claimed, first_step_done, first_step, ended } = times;
    let task = format!("one idle worker that has the dataset in memory; mlp with 1 hidden unit; {SUBMISSIONS} in turn");
    let done = Row::of_samples("submit to first step done", &first_step_done).goal_median(&first_step_done, goal);
    table.add(done.note("by the time that its fact tells").note(&task));
    table.add(
        Row::of_samples("submit to first step heard", &first_step).note("stored and told, as the submitter sees it"),
    );
    table.add(Row::of_samples("of it: until the request is answered", &answered));
    table.add(Row::of_samples("of it: until `claimed` is heard", &claimed));
    table.add(Row::of_samples("submit to end heard", &ended).note(&format!("longest {}", Shown(ended.max()))));
    let fresh_note = format!("the first {SUBMISSIONS}, the others after {WARM_UP}");
    table
        .add(Row::of_samples("submit to first step heard, right after the start", &fresh.first_step).note(&fresh_note));
    Ok(())
}

fn submit_in_turn(site: &Site<'_>) -> anyhow::Result<Times> {
    let mut times = Times::default();
    for _ in 0..SUBMISSIONS {
        submit_one(site, &mut times)?;
        site.wait_until_idle()?;
    }
    Ok(times)
}

fn submit_one(site: &Site<'_>, times: &mut Times) -> anyhow::Result<()> {
    let facts = site.listen()?;
    let task = site.submit(TINY)?;
    let since = |at: Instant| at.saturating_duration_since(task.at);
    let (mut claimed, mut first_step) = (None, None);
    let end = facts.wait(TASK_LIMIT, |heard| {
        if heard.is(&task.id, "claimed") {
            claimed.get_or_insert(heard.at);
        }
        if heard.is(&task.id, "progress") {
            first_step.get_or_insert((heard.at, heard.age()));
        }
        heard.is_end_of(&task.id)
    })?;
    times.answered.add(task.answered);
    times.ended.add(since(end.at));
    claimed.into_iter().for_each(|at| times.claimed.add(since(at)));
    if let Some((at, age)) = first_step {
        times.first_step.add(since(at));
        times.first_step_done.add(since(at).saturating_sub(age?));
    }
    Ok(())
}
