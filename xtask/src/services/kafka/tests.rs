//! The configuration of one and of three brokers; answers as they come, and broken ones.

use super::*;
use crate::services::plan::Ports;

#[test]
fn one_broker_votes_for_itself_and_keeps_single_copies() {
    let text = properties(&Plan::single(Ports::standard()), 0, Path::new("/data/kafka-1"));
    for line in [
        "node.id=1",
        "controller.quorum.voters=1@127.0.0.1:9093",
        "listeners=PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093",
        "log.dirs=/data/kafka-1",
        "default.replication.factor=1",
        "min.insync.replicas=1",
        "auto.create.topics.enable=false",
        "group.initial.rebalance.delay.ms=0",
    ] {
        assert!(text.lines().any(|there| there == line), "{line} is missing in\n{text}");
    }
}

#[test]
fn three_brokers_know_each_other() {
    let text = properties(&Plan::highly_available(Ports::standard()), 2, Path::new("/data"));
    for line in [
        "node.id=3",
        "controller.quorum.voters=1@127.0.0.1:9093,2@127.0.0.1:9193,3@127.0.0.1:9293",
        "listeners=PLAINTEXT://127.0.0.1:9292,CONTROLLER://127.0.0.1:9293",
        "default.replication.factor=3",
        "min.insync.replicas=2",
        "offsets.topic.replication.factor=3",
    ] {
        assert!(text.lines().any(|there| there == line), "{line} is missing in\n{text}");
    }
}

#[test]
fn brokers_are_read_from_an_answer_and_never_from_a_part_of_it() {
    let broker = |id: u8| [&[0, 0, 0, id, 0, 1, b'h', 0, 0, 35, 132], &[0xff, 0xff][..]].concat();
    let answer = [vec![0; 8], vec![0, 0, 0, 2], broker(1), broker(3), vec![0; 20]].concat();
    assert_eq!(parse_brokers(&answer), Some(vec![1, 3]));
    for length in 0..12 + 2 * 13 {
        assert_eq!(parse_brokers(&answer[..length]), None, "{length}");
    }
    assert_eq!(parse_brokers(&[0x7f; 64]), None, "a length beyond the answer");
}
