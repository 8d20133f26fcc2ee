//! The three models with all their defaults, at the same time on two workers, asked for as the older system was.

use std::time::Duration;

use anyhow::ensure;
use serde::Deserialize;

use super::{
    site::{MAIN, with_nodes},
    table::{Row, Table},
    times::Shown,
};
use crate::chores::cluster::Cluster;

const MODELS: [&str; 3] = ["mlp", "cnn", "lstm"];
const ANSWER_LIMIT: Duration = Duration::from_secs(120);
const LIMIT: Duration = Duration::from_secs(30 * 60);

#[derive(Deserialize)]
struct Task {
    dataset: Option<Dataset>,
}

#[derive(Deserialize)]
struct Dataset {
    name: String,
    train_samples: u64,
}

pub fn measure(cluster: &Cluster<'_>, table: &mut Table) -> anyhow::Result<()> {
    let mut took = Duration::ZERO;
    let mut ends = Vec::new();
    let task = with_nodes(cluster, MAIN.environment(), 2, |site| {
        // Without its files the built-in digits stand in, and there is nothing to import.
        let _ = site.ask("POST", "/store_mnist_dataset_to_cassandra", ANSWER_LIMIT);
        let facts = site.listen()?;
        let tasks: Vec<_> = MODELS
            .iter()
            .map(|model| Ok((*model, site.submit_to(&format!("/send_task/{model}"), "")?)))
            .collect::<anyhow::Result<_>>()?;
        for _ in &tasks {
            let end = facts.wait(LIMIT, |heard| tasks.iter().any(|(_, task)| heard.is_end_of(&task.id)))?;
            let ended = tasks.iter().find(|(_, task)| end.is_end_of(&task.id));
            took = end.at.saturating_duration_since(tasks[0].1.at);
            ends.extend(ended.map(|(model, _)| format!("{model} {} after {}", end.event.kind, Shown(took))));
            ensure!(end.event.kind == "succeeded", "{}", ends.join(", "));
        }
        Ok(serde_json::from_str::<Task>(&site.ask(
            "GET",
            &format!("/api/v1/tasks/{}", tasks[0].1.id),
            ANSWER_LIMIT,
        )?)?)
    })?;
    let dataset = task.dataset.map_or_else(String::new, |it| format!("{} ({} images)", it.name, it.train_samples));
    table.add(Row::new("mlp, cnn and lstm on two workers", &Shown(took).to_string()).note(&format!(
        "defaults, 1 thread each, on {dataset}: {}; older system: 157 to 187 s on 60,000 images",
        ends.join(", ")
    )));
    Ok(())
}
