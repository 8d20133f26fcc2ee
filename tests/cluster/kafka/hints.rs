//! Hints and dead letters.

use std::collections::HashSet;

use kubeml::edges::kafka::KafkaBus;
use kubeml_actors::{
    ports::{DatasetNews, DeadLetter, Hint, TaskBus},
    testing::contracts,
};

use super::{
    older_client::{read, write},
    *,
};

contracts::task_bus!({
    let config = config();
    async move || {
        init(&config, &drop).await.expect("topics are created");
        Arc::new(KafkaBus::start(open(&config), true))
    }
});

fn bus(config: &KafkaConfig, listens: bool) -> KafkaBus {
    KafkaBus::start(open(config), listens)
}

fn hint() -> Hint {
    Hint { task: TaskId::fresh(), model: "cnn".parse().ok() }
}

async fn receive(bus: &KafkaBus) -> Hint {
    timeout(SOON, bus.receive()).await.expect("it arrives").expect("the bus is open")
}

#[tokio::test]
async fn a_hint_that_nobody_heard_waits_for_somebody() {
    let config = system().await;
    let sender = bus(&config, false);
    let sent = hint();
    sender.publish(sent);
    assert_eq!(receive(&bus(&config, true)).await, sent);
}

#[tokio::test]
async fn what_was_not_acknowledged_comes_again_and_what_was_does_not() {
    let config = system().await;
    let sender = bus(&config, false);
    let hints: Vec<Hint> = (0..20).map(|_| hint()).collect();
    hints.iter().for_each(|hint| sender.publish(*hint));
    let first = bus(&config, true);
    let mut received = Vec::new();
    for _ in 0..20 {
        received.push(receive(&first).await);
    }
    received[..10].iter().for_each(|hint| first.acknowledge(*hint));
    first.close(SOON).await;
    drop(first);
    let second = bus(&config, true);
    let mut missing: HashSet<TaskId> = received[10..].iter().map(|hint| hint.task).collect();
    while !missing.is_empty() {
        let again = receive(&second).await;
        second.acknowledge(again);
        missing.remove(&again.task);
    }
    second.close(SOON).await;
    drop(second);
    let third = bus(&config, true);
    let last = hint();
    sender.publish(last);
    assert_eq!(receive(&third).await, last, "all others were acknowledged");
}

#[tokio::test]
async fn listeners_come_and_go_while_hints_flow() {
    let config = system().await;
    let sender = bus(&config, false);
    let steady = bus(&config, true);
    for _ in 0..3 {
        let passing = bus(&config, true);
        let mut expected: HashSet<TaskId> = HashSet::new();
        for _ in 0..30 {
            let sent = hint();
            expected.insert(sent.task);
            sender.publish(sent);
        }
        let all = async {
            while !expected.is_empty() {
                let received = tokio::select! { one = steady.receive() => one, other = passing.receive() => other };
                let received = received.expect("both are open");
                steady.acknowledge(received);
                passing.acknowledge(received);
                expected.remove(&received.task);
            }
        };
        timeout(SOON, all).await.expect("each comes to somebody");
        passing.close(SOON).await;
    }
}

#[tokio::test]
async fn what_nobody_can_read_is_put_aside_and_holds_nothing_up() {
    let config = system().await;
    let huge = vec![b'x'; 500_000];
    let garbage: [&[u8]; 5] = [b"not json", b"\xff\xfe", b"[]", b"{\"task_id\": 7}", &huge];
    write(&config, "task", &garbage).await;
    write(&config, "task", &[b"{\"task_type\": \"mlp\"}"]).await;
    let sent = hint();
    let (sender, listener) = (bus(&config, false), bus(&config, true));
    sender.publish(sent);
    assert_eq!(receive(&listener).await, sent);
    let letters = read(&config, "task_dead_letter", garbage.len()).await;
    assert!(letters.iter().all(|letter| letter.contains("\"reason\": \"unreadable\"")), "{letters:?}");
    assert!(letters[0].contains("bm90IGpzb24="), "{letters:?}");
}

#[tokio::test]
async fn messages_are_those_of_the_older_system() {
    let config = system().await;
    let bus = bus(&config, false);
    eventually("it is reachable", async || bus.check().await.is_ok()).await;
    bus.send_test().await.expect("it arrives");
    assert_eq!(read(&config, "test-topic", 1).await, [r#"{"task_type": "mlp", "data": "Hello from Master"}"#]);
    bus.bury(DeadLetter { topic: "task", reason: "no_progress", detail: "five times".to_owned() });
    let letter = r#"{"topic": "task", "reason": "no_progress", "detail": "five times"}"#;
    assert_eq!(read(&config, "task_dead_letter", 1).await, [letter]);
    // To whom it may concern.
    bus.note_dataset(DatasetNews { dataset: "mnist".to_owned(), completed: false, chunks: 10, bytes: 10_000_000 });
}
