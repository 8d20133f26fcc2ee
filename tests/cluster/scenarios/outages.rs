//! Kafka, Cassandra and Redis away for a while.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
    time::Duration,
};

use tokio::time::sleep;
use xtask::services::Server;

use super::{super::nodes::Cluster, assert_all_is_well, assert_same_result, trained_alone};

const OUTAGE: Duration = Duration::from_secs(20);
const UNHEARD: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn without_kafka_tasks_are_taken_and_run_all_the_same() {
    let cluster = Cluster::start_patient(2).await;
    let mut listener = cluster.listen();
    let before = cluster.submit("cnn", 2).await;
    cluster.wait_for_step(&before, 10).await;
    cluster.services.server("kafka-1").expect("it is one of the suite's").kill().expect("it runs");
    let during = cluster.submit("mlp", 3).await;
    cluster.succeeded(&during).await;
    sleep(OUTAGE).await;
    let late = cluster.submit("mlp", 2).await;
    cluster.succeeded(&late).await;
    cluster.services.server("kafka-1").expect("it is one of the suite's").start().expect("it starts again");
    let after = cluster.submit("mlp", 2).await;
    assert_same_result(&cluster.succeeded(&before).await, &trained_alone("cnn", 2));
    cluster.succeeded(&after).await;
    assert_all_is_well(&cluster, &mut listener, &[before, during, late, after]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_changes_hands_while_kafka_is_away_is_heard_whole() {
    let mut cluster = Cluster::start(2).await;
    let mut listener = cluster.listen();
    let id = cluster.submit("cnn", 6).await;
    let holder = cluster.wait_for_step(&id, 20).await.worker_id.expect("it runs");
    cluster.services.server("kafka-1").expect("it is one of the suite's").kill().expect("it runs");
    // Time to write facts that nobody hears, here and then there.
    sleep(UNHEARD).await;
    let node = holder.split('/').next().expect("a node").to_owned();
    cluster.node_mut(&node).kill();
    cluster.wait_until(&id, |view| view.worker_id.as_ref().is_some_and(|other| *other != holder)).await;
    sleep(UNHEARD).await;
    cluster.services.server("kafka-1").expect("it is one of the suite's").start().expect("it starts again");
    assert_same_result(&cluster.succeeded(&id).await, &trained_alone("cnn", 6));
    assert_all_is_well(&cluster, &mut listener, &[id]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_of_cassandra_everything_goes_on() {
    let cluster = Cluster::start(2).await;
    let mut listener = cluster.listen();
    let ids = [cluster.submit("cnn", 3).await, cluster.submit("lstm", 2).await];
    cluster.wait_for_step(&ids[0], 70).await;
    let cassandra = cluster.services.server("cassandra-1").expect("it is one of the suite's");
    cassandra.kill().expect("it runs");
    sleep(OUTAGE).await;
    assert!(!cluster.is_ready(&cluster.apis[0]).await);
    cassandra.start().expect("it starts again");
    for (id, (model, epochs)) in ids.iter().zip([("cnn", 3), ("lstm", 2)]) {
        assert_same_result(&cluster.succeeded(id).await, &trained_alone(model, epochs));
    }
    let after = cluster.submit("mlp", 1).await;
    cluster.succeeded(&after).await;
    assert_all_is_well(&cluster, &mut listener, &[ids.to_vec(), vec![after]].concat()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_lies_forgets_fills_up_hangs_or_vanishes_changes_no_result() {
    let cluster = Cluster::start(1).await;
    let mut listener = cluster.listen();
    let redis = cluster.services.server("redis-1").expect("it is one of the suite's");
    let reference = trained_alone("mlp", 3);
    let worker = &cluster.workers[0];
    // It finds nothing in the cache, and fills it.
    let mut ids = vec![cluster.submit("mlp", 3).await];
    assert_same_result(&cluster.succeeded(&ids[0]).await, &reference);
    for disturb in ["spoil", "flush", "fill", "kill", "pause"] {
        match disturb {
            "kill" => redis.kill().expect("it runs"),
            "pause" => redis.pause().expect("it runs"),
            // Every key holds something else; then nothing; then nothing more fits.
            "spoil" => {
                say(redis, "EVAL \"for _, k in ipairs(redis.call('KEYS', '*')) do redis.call('SET', k, 'lies') end\" 0")
            }
            "flush" => say(redis, "FLUSHALL"),
            _ => {
                say(redis, "CONFIG SET maxmemory 1mb");
                say(redis, "FLUSHALL");
            }
        }
        // Its successor has nothing in memory, and asks the cache.
        let crash = format!("{}/api/v1/system/actors/dataset_loader/crash", worker.url);
        assert_eq!(reqwest::Client::new().post(crash).send().await.expect("it answers").status(), 202);
        let id = cluster.submit("mlp", 3).await;
        assert_same_result(&cluster.succeeded(&id).await, &reference);
        match disturb {
            "kill" => redis.start().expect("it starts again"),
            "pause" => redis.resume().expect("it goes on"),
            "spoil" => assert!(cluster.metric(worker, "kubeml_cache_unreadable_total ").await >= 1.0, "it was lied to"),
            _ => {}
        }
        ids.push(id);
    }
    assert_all_is_well(&cluster, &mut listener, &ids).await;
}

/// A command in Redis' inline form, which must be taken.
fn say(redis: &Server, command: &str) {
    let mut stream = TcpStream::connect(redis.address).expect("it listens");
    stream.write_all(format!("{command}\r\n").as_bytes()).expect("it reads");
    let mut reply = String::new();
    BufReader::new(stream).read_line(&mut reply).expect("it answers");
    assert!(!reply.starts_with('-'), "{command}: {reply}");
}
