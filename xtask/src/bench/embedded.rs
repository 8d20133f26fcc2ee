//! `cargo xtask bench embedded`: one node that needs no services, as its users see it.

use std::{
    fs,
    path::Path,
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::Context;

use super::{
    DIRECTORY, Subject, document,
    site::{Site, with_nodes},
    submit,
    table::{Row, Table},
    times::{Samples, Shown},
};
use crate::{chores::cluster::Cluster, runner};

const SUBMIT_GOAL: Duration = Duration::from_millis(5);
const IMPORT_GOAL: Duration = Duration::from_millis(500);
const LOAD_GOAL: Duration = Duration::from_millis(200);
const READY_GOAL: Duration = Duration::from_millis(50);
const LIMIT: Duration = Duration::from_secs(120);
const IMPORTS: usize = 3;
const LOADS: usize = 5;
const DEATHS: usize = 5;
/// How long a task has trained when its node dies, so that there is something to go on from.
const TRAINED: Duration = Duration::from_secs(2);
const HEARTBEAT: Duration = Duration::from_millis(500);
const READINESS_QUESTIONS: usize = 1_000;
const READINESS_PAUSE: Duration = Duration::from_millis(10);
/// As small a task on all of MNIST as there is.
const TINY: &str = r#"{"model":"mlp","dataset":"mnist","hyperparameters":{"epochs":1,"hidden":[1],"batch_size":4096}}"#;
const LONG: &str = r#"{"model":"cnn","dataset":"mnist-10k","hyperparameters":{"epochs":1000}}"#;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    subject: Subject,
}

pub fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    runner::listen_for_interrupts()?;
    let mnist = args.subject.mnist()?;
    let (binary, conditions) = args.subject.program.ready(root)?;
    let node = Cluster { root, directory: root.join(DIRECTORY).join("embedded"), binary, services: None };
    let mut table = Table::default();
    fresh(&node)?;
    submit::measure(&node, SUBMIT_GOAL, &mut table)?;
    submit::measure_models(&node, &mut table)?;
    import_and_load(&node, &mnist, &mut table)?;
    resume(&node, &mut table)?;
    readiness(&node, &mut table)?;
    print!("\n{}\n{}", conditions.text(), table.text());
    document::write(root, "embedded", &conditions, &table)?;
    Ok(ExitCode::SUCCESS)
}

/// Nothing is stored.
fn fresh(node: &Cluster<'_>) -> anyhow::Result<()> {
    match fs::remove_dir_all(&node.directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", node.directory.display()))
        }
        _ => Ok(()),
    }
}

fn import_and_load(node: &Cluster<'_>, mnist: &Path, table: &mut Table) -> anyhow::Result<()> {
    let environment = || vec![("KUBEML__DATASETS__MNIST__DIR", mnist.display().to_string())];
    let (mut imports, mut loads) = (Samples::default(), Samples::default());
    for _ in 0..IMPORTS {
        fresh(node)?;
        imports.add(with_nodes(node, environment(), 0, |site| {
            let started = Instant::now();
            site.ask("POST", "/store_mnist_dataset_to_cassandra", LIMIT)?;
            Ok(started.elapsed())
        })?);
    }
    // Each node is new, and has nothing in memory.
    for _ in 0..LOADS {
        loads.add(with_nodes(node, environment(), 0, |site| {
            let facts = site.listen()?;
            let task = site.submit(TINY)?;
            let step = facts.wait(LIMIT, |heard| heard.is(&task.id, "progress"))?;
            facts.wait(LIMIT, |heard| heard.is_end_of(&task.id))?;
            Ok(step.at.saturating_duration_since(task.at))
        })?);
    }
    let row = |what: &str, samples: &Samples| {
        let note = format!("70,000 images, median of {}; longest {}", samples.count(), Shown(samples.max()));
        Row::new(what, &Shown(samples.median()).to_string()).note(&note)
    };
    table.add(row("MNIST from its files to the store", &imports).goal("< 0.5 s", imports.median() < IMPORT_GOAL));
    let loading = row("submit to first step heard, MNIST in the store only", &loads);
    table.add(loading.goal("< 0.2 s", loads.median() < LOAD_GOAL).note("reading, checking, and a first step of 4,096"));
    Ok(())
}

/// A node dies while it trains, and is started again at once.
fn resume(node: &Cluster<'_>, table: &mut Table) -> anyhow::Result<()> {
    fresh(node)?;
    let (mut ready, mut steps) = (Samples::default(), Samples::default());
    with_nodes(node, Vec::new(), 0, |site| {
        for _ in 0..DEATHS {
            let facts = site.listen()?;
            let task = site.submit(LONG)?.id;
            facts.wait(LIMIT, |heard| heard.is(&task, "progress"))?;
            sleep(TRAINED);
            let died = Instant::now();
            site.kill(0)?;
            site.revive(0)?;
            ready.add(died.elapsed());
            let facts = site.listen_to(&task)?;
            let step = facts.wait(LIMIT, |heard| heard.event.attempt > 1 && heard.is(&task, "progress"))?;
            // It may have been told before anybody could listen.
            steps.add(step.at.saturating_duration_since(died).saturating_sub(step.age()?));
            site.cancel(&facts, &task)?;
        }
        Ok(())
    })?;
    let note = |samples: &Samples| format!("median of {}; longest {}", samples.count(), Shown(samples.max()));
    let row = |what: &str, samples: &Samples| Row::new(what, &Shown(samples.median()).to_string()).note(&note(samples));
    table.add(row("kill -9, started again: its task's next step", &steps).note("cnn on mnist-10k"));
    table.add(row("of it: until the node answers again", &ready));
    Ok(())
}

/// Questions one after the other, each over a connection of its own, while all cores train.
fn readiness(node: &Cluster<'_>, table: &mut Table) -> anyhow::Result<()> {
    fresh(node)?;
    // One slot with all cores.
    let environment = vec![("KUBEML__TRAINER__SLOTS", "1".to_owned())];
    let (answers, before, after) = with_nodes(node, environment, 0, |site| {
        let facts = site.listen()?;
        let task = site.submit(LONG)?;
        facts.wait(LIMIT, |heard| heard.is(&task.id, "epoch_finished"))?;
        let mut answers = Samples::default();
        let before = Heartbeats::of(site)?;
        for _ in 0..READINESS_QUESTIONS {
            let started = Instant::now();
            site.ask("GET", "/readyz", LIMIT)?;
            answers.add(started.elapsed());
            runner::check_not_interrupted()?;
            sleep(READINESS_PAUSE);
        }
        let after = Heartbeats::of(site)?;
        site.cancel(&facts, &task.id)?;
        Ok((answers, before, after))
    })?;
    let row = Row::of_samples("/readyz while all cores train", &answers);
    table.add(row.goal("p99 < 50 ms", answers.p99() < READY_GOAL).note(&format!("longest {}", Shown(answers.max()))));
    table.add(after.row(&before));
    Ok(())
}

/// As the node itself counts them.
struct Heartbeats {
    at: Instant,
    /// Confirmed before the next one was due.
    in_time: u64,
    confirmed: u64,
    seconds: Duration,
}

impl Heartbeats {
    fn of(site: &Site<'_>) -> anyhow::Result<Self> {
        let metrics = site.metrics()?;
        Ok(Self {
            at: Instant::now(),
            in_time: metrics.total("kubeml_heartbeat_seconds_bucket{le=\"0.5\"}")?,
            confirmed: metrics.total("kubeml_heartbeat_seconds_count")?,
            seconds: metrics.seconds("kubeml_heartbeat_seconds")?,
        })
    }

    fn row(&self, before: &Self) -> Row {
        let due = self.at.duration_since(before.at).as_millis() / HEARTBEAT.as_millis();
        let (in_time, confirmed) = (self.in_time - before.in_time, self.confirmed - before.confirmed);
        let taken = self.seconds.saturating_sub(before.seconds);
        let mean = taken.checked_div(u32::try_from(confirmed).unwrap_or(u32::MAX)).unwrap_or_default();
        Row::new("heartbeats while all cores train", &format!("{in_time} of {confirmed} in time"))
            .goal("all", in_time == confirmed && u128::from(confirmed) >= due)
            .note(&format!("{due} due; confirmed before the next is; {} after they are due, on average", Shown(mean)))
    }
}
