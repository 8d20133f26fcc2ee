//! MNIST from its files to Cassandra, and from there to Redis.

use std::{
    env,
    time::{Duration, Instant},
};

use super::{
    site::{Site, Space, with_nodes},
    table::{Row, Table},
    times::{Samples, Shown},
};
use crate::chores::cluster::Cluster;

/// Where the four files are, as nodes are told.
const DIRECTORY: &str = "KUBEML__DATASETS__MNIST__DIR";
/// Each is fresh: nothing is stored there.
const SPACES: [Space; 3] = [Space("bench_datasets_1"), Space("bench_datasets_2"), Space("bench_datasets_3")];
const WARMINGS: usize = 3;
const LIMIT: Duration = Duration::from_secs(120);
const STORE_GOAL: Duration = Duration::from_secs(1);
const WARM_GOAL: Duration = Duration::from_millis(500);

pub fn measure(cluster: &Cluster<'_>, table: &mut Table) -> anyhow::Result<()> {
    let (mut stored, mut warmed) = (Samples::default(), Samples::default());
    if env::var_os(DIRECTORY).is_none_or(|directory| directory.is_empty()) {
        table.add(Row::new("MNIST to Cassandra, and to Redis", "skipped").note(&format!("{DIRECTORY} is not set")));
        return Ok(());
    }
    for space in SPACES {
        cluster.initialize(&space.environment())?;
        with_nodes(cluster, space.environment(), 0, |site| {
            stored.add(timed(site, "POST", "/store_mnist_dataset_to_cassandra")?);
            for _ in 0..WARMINGS {
                site.ask("DELETE", "/api/v1/cache", LIMIT)?;
                warmed.add(timed(site, "GET", "/store_data_from_cassandra_to_redis")?);
            }
            Ok(())
        })?;
    }
    let older = |seconds: &str, samples: &Samples| {
        format!(
            "70,000 images, median of {}; longest {}; older system {seconds} s",
            samples.count(),
            Shown(samples.max())
        )
    };
    table.add(
        Row::new("MNIST from its files to Cassandra", &Shown(stored.median()).to_string())
            .goal("< 1 s", stored.median() < STORE_GOAL)
            .note(&older("13.7", &stored)),
    );
    table.add(
        Row::new("MNIST from Cassandra to Redis", &Shown(warmed.median()).to_string())
            .goal("< 0.5 s", warmed.median() < WARM_GOAL)
            .note(&older("3.8", &warmed)),
    );
    Ok(())
}

fn timed(site: &Site<'_>, method: &str, path: &str) -> anyhow::Result<Duration> {
    let started = Instant::now();
    site.ask(method, path, LIMIT)?;
    Ok(started.elapsed())
}
