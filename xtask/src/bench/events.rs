//! From a fact to whoever listens: through Cassandra and Kafka to a client of the API node.

use std::time::Duration;

use super::{
    site::{MAIN, WARM_UP, with_nodes},
    table::{Row, Table},
    times::Samples,
};
use crate::chores::cluster::Cluster;

const RUNS: usize = 10;
const TASK_LIMIT: Duration = Duration::from_secs(300);
const GOAL_MEDIAN: Duration = Duration::from_millis(5);
const GOAL_P99: Duration = Duration::from_millis(25);
const TASK: &str = r#"{"model":"mlp","dataset":"mnist-10k","hyperparameters":{"epochs":10}}"#;

pub fn measure(cluster: &Cluster<'_>, table: &mut Table) -> anyhow::Result<()> {
    let (mut all, mut progress) = (Samples::default(), Samples::default());
    with_nodes(cluster, MAIN.environment(), 1, |site| {
        site.warm_up(WARM_UP)?;
        let facts = site.listen()?;
        for _ in 0..RUNS {
            let task = site.submit(TASK)?;
            let mut ages = Vec::new();
            facts.wait(TASK_LIMIT, |heard| {
                if heard.event.task_id.as_deref() == Some(&task.id) {
                    ages.push((heard.event.kind == "progress", heard.age()));
                }
                heard.is_end_of(&task.id)
            })?;
            for (is_progress, age) in ages {
                let age = age?;
                all.add(age);
                if is_progress {
                    progress.add(age);
                }
            }
            site.wait_until_idle()?;
        }
        Ok(())
    })?;
    table.add(
        Row::of_samples("fact to listener, all of a training", &all)
            .goal_median_and_p99(&all, GOAL_MEDIAN, GOAL_P99)
            .note("from the fact's `at`, which is before it is stored"),
    );
    table.add(Row::of_samples("of them: progress", &progress).note("guarded by no compare-and-set"));
    Ok(())
}
