//! A worker dies while it trains: how soon another one goes on.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::Context;
use serde::Deserialize;

use super::{
    http::Listener,
    site::{MAIN, Site, with_nodes},
    table::{Row, Table},
    times::{Samples, Shown},
};
use crate::chores::cluster::Cluster;

const DEATHS: usize = 5;
const LIMIT: Duration = Duration::from_secs(60);
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long a task has trained when its worker dies, so that there is something to go on from.
const TRAINED: Duration = Duration::from_secs(2);
const NOTICED_GOAL: Duration = Duration::from_secs(3);
const TRAINING_GOAL: Duration = Duration::from_secs(5);
const TASK: &str = r#"{"model":"cnn","dataset":"mnist-10k","hyperparameters":{"epochs":1000}}"#;

#[derive(Deserialize)]
struct Task {
    worker_id: Option<String>,
}

pub fn measure(cluster: &Cluster<'_>, table: &mut Table) -> anyhow::Result<()> {
    let (mut noticed, mut training) = (Samples::default(), Samples::default());
    with_nodes(cluster, MAIN.environment(), 2, |site| {
        site.warm_up(2)?;
        for _ in 0..DEATHS {
            die_once(site, &mut noticed, &mut training)?;
        }
        Ok(())
    })?;
    let longest = |samples: &Samples| format!("longest of {}: {}", samples.count(), Shown(samples.max()));
    table.add(
        Row::new("kill -9 of a worker to `claimed` by another", &Shown(noticed.median()).to_string())
            .goal("≤ 3 s", noticed.max() <= NOTICED_GOAL)
            .note(&format!("median; {}; the goal is for the longest", longest(&noticed))),
    );
    table.add(
        Row::new("kill -9 of a worker to its task's next step", &Shown(training.median()).to_string())
            .goal("≤ 5 s", training.max() <= TRAINING_GOAL)
            .note(&format!("median, cnn on mnist-10k; {}", longest(&training))),
    );
    Ok(())
}

fn die_once(site: &mut Site<'_>, noticed: &mut Samples, training: &mut Samples) -> anyhow::Result<()> {
    let facts = site.listen()?;
    let task = site.submit(TASK)?.id;
    facts.wait(LIMIT, |heard| heard.is(&task, "progress"))?;
    sleep(TRAINED);
    let view: Task = serde_json::from_str(&site.ask("GET", &format!("/api/v1/tasks/{task}"), ANSWER_LIMIT)?)?;
    let worker = view.worker_id.context("a task that trains names its worker")?;
    let died = Instant::now();
    let number = site.kill_worker(&worker)?;
    noticed.add(next_attempts(&facts, &task, "claimed")?.saturating_duration_since(died));
    training.add(next_attempts(&facts, &task, "progress")?.saturating_duration_since(died));
    site.cancel(&facts, &task)?;
    site.revive(number)?;
    site.wait_until_idle()
}

/// When a fact of an attempt after the first was heard.
fn next_attempts(facts: &Listener, task: &str, kind: &str) -> anyhow::Result<Instant> {
    Ok(facts.wait(LIMIT, |heard| heard.event.attempt > 1 && heard.is(task, kind))?.at)
}
