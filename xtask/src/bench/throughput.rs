//! Many tasks on workers that train nothing: what the platform itself can do.

use std::{
    collections::HashSet,
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;

use super::{
    http::Listener,
    site::{MAIN, Sent, Site, TINY, with_nodes},
    table::{Row, Table},
    times::{Samples, Shown},
};
use crate::chores::cluster::Cluster;

const TASKS: usize = 500;
const WORKERS: usize = 4;
/// Who submit at the same time.
const CLIENTS: usize = 4;
const LIMIT: Duration = Duration::from_secs(300);
const CONFLICTS: &str = "kubeml_cas_conflicts_total";
const CLAIMS: &str = "kubeml_task_transitions_total{from=\"pending\",to=\"running\"}";

pub fn measure(cluster: &Cluster<'_>, table: &mut Table) -> anyhow::Result<()> {
    let mut environment = MAIN.environment();
    environment.push(("KUBEML__TRAINER__ENGINE", "stub".to_owned()));
    with_nodes(cluster, environment, WORKERS, |site| {
        site.warm_up(2)?;
        let (conflicts, claims) = (site.count(CONFLICTS)?, site.count(CLAIMS)?);
        let (facts, before) = (site.listen()?, site.cost());
        let started = Instant::now();
        let sent = submit_all(site)?;
        // Heard meanwhile, and noted when.
        let ended = await_ends(&facts)?;
        let took = ended.saturating_duration_since(started);
        site.wait_until_idle()?;
        let (conflicts, claims) = (site.count(CONFLICTS)? - conflicts, site.count(CLAIMS)? - claims);
        report(table, &sent, took, conflicts, claims);
        let cost = site.cost();
        let total = format!("{:.1} ms", cost.millis_since(&before, TASKS));
        table.add(Row::new("processor time of such a task", &total).note(&cost.since(&before, TASKS)));
        Ok(())
    })
}

fn submit_all(site: &Site<'_>) -> anyhow::Result<Samples> {
    let submit = || -> anyhow::Result<Vec<Sent>> { (0..TASKS / CLIENTS).map(|_| site.submit(TINY)).collect() };
    let mut answered = Samples::default();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(submit)).collect();
        for client in clients {
            let sent = client.join().unwrap_or_else(|_| anyhow::bail!("a thread that submits panicked"))?;
            sent.iter().for_each(|sent| answered.add(sent.answered));
        }
        Ok(answered)
    })
}

/// When the last of them was heard to have succeeded.
fn await_ends(facts: &Listener) -> anyhow::Result<Instant> {
    let (mut ended, mut others) = (HashSet::new(), 0);
    let last = facts.wait(LIMIT, |heard| {
        if heard.ends() {
            others += usize::from(heard.event.kind != "succeeded");
            ended.extend(heard.event.task_id.clone());
        }
        ended.len() == TASKS
    })?;
    ensure!(others == 0, "{others} of {TASKS} tasks did not succeed");
    Ok(last.at)
}

fn report(table: &mut Table, answered: &Samples, took: Duration, conflicts: u64, claims: u64) {
    let rate = TASKS as f64 / took.as_secs_f64();
    table.add(Row::new("tasks through the platform", &format!("{rate:.1} tasks/s")).note(&format!(
        "{TASKS} tasks in {} from first request to last result heard; {WORKERS} workers that train nothing; \
         {CLIENTS} clients",
        Shown(took)
    )));
    table.add(Row::of_samples("of it: a request to submit", answered));
    let per_claim = conflicts as f64 / claims.max(1) as f64;
    table.add(
        Row::new("compare-and-sets lost to others, per claim", &format!("{per_claim:.2}"))
            .note(&format!("{conflicts} conflicts, {claims} claims")),
    );
}
