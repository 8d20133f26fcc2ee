//! What every [`TaskBus`] promises, as long as nothing of it fails: then it may lose what it likes.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::time::timeout;

use super::Kept;
use crate::{
    ports::{DeadLetter, Hint, TaskBus},
    task::TaskId,
};

const SOON: Duration = Duration::from_secs(30);

/// `$open` gives an `async || -> Arc<impl TaskBus>` with room for ten hints.
#[macro_export]
macro_rules! task_bus_contract {
    ($open:expr) => {
        $crate::contract_tests!(
            task_bus,
            $open,
            [
                a_hint_arrives,
                a_receiver_waits_for_a_hint,
                each_hint_goes_to_one_receiver,
                a_receiver_that_gave_up_takes_no_hint_along,
                a_hint_can_be_given_again,
                publishing_and_burying_never_wait,
            ]
        );
    };
}

pub async fn a_hint_arrives<S: TaskBus + 'static>(open: impl AsyncFn() -> Arc<S>) -> Kept {
    let bus = open().await;
    let hint = Hint { task: TaskId::fresh(), model: None };
    bus.publish(hint);
    let received = timeout(SOON, bus.receive()).await.expect("it arrives")?;
    bus.acknowledge(received);
    assert_eq!(received, hint);
    Ok(())
}

pub async fn a_receiver_waits_for_a_hint<S: TaskBus + 'static>(open: impl AsyncFn() -> Arc<S>) -> Kept {
    let bus = open().await;
    let hint = Hint { task: TaskId::fresh(), model: None };
    let receiver = tokio::spawn({
        let bus = bus.clone();
        async move { bus.receive().await }
    });
    tokio::task::yield_now().await;
    bus.publish(hint);
    assert_eq!(timeout(SOON, receiver).await.expect("it arrives").expect("it does not panic")?, hint);
    Ok(())
}

pub async fn each_hint_goes_to_one_receiver<S: TaskBus + 'static>(open: impl AsyncFn() -> Arc<S>) -> Kept {
    let bus = open().await;
    let receive = || {
        let bus = bus.clone();
        tokio::spawn(async move { bus.receive().await })
    };
    // Half of them wait before the first hint comes.
    let mut receivers: Vec<_> = (0..5).map(|_| receive()).collect();
    tokio::task::yield_now().await;
    let hints: HashSet<TaskId> = (0..10).map(|_| TaskId::fresh()).collect();
    hints.iter().for_each(|task| bus.publish(Hint { task: *task, model: None }));
    receivers.extend((0..5).map(|_| receive()));
    let mut received = HashSet::new();
    for receiver in receivers {
        let hint = timeout(SOON, receiver).await.expect("it arrives").expect("it does not panic")?;
        bus.acknowledge(hint);
        assert!(received.insert(hint.task), "{} came twice", hint.task);
    }
    assert_eq!(received, hints);
    Ok(())
}

pub async fn a_receiver_that_gave_up_takes_no_hint_along<S: TaskBus + 'static>(open: impl AsyncFn() -> Arc<S>) -> Kept {
    let bus = open().await;
    let gave_up = timeout(Duration::ZERO, bus.receive()).await;
    assert!(gave_up.is_err());
    let hint = Hint { task: TaskId::fresh(), model: None };
    bus.publish(hint);
    assert_eq!(timeout(SOON, bus.receive()).await.expect("it arrives")?, hint);
    Ok(())
}

pub async fn a_hint_can_be_given_again<S: TaskBus + 'static>(open: impl AsyncFn() -> Arc<S>) -> Kept {
    let bus = open().await;
    let hint = Hint { task: TaskId::fresh(), model: None };
    for _ in 0..3 {
        bus.publish(hint);
        let received = timeout(SOON, bus.receive()).await.expect("it arrives")?;
        bus.acknowledge(received);
        assert_eq!(received, hint);
    }
    Ok(())
}

pub async fn publishing_and_burying_never_wait<S: TaskBus + 'static>(open: impl AsyncFn() -> Arc<S>) -> Kept {
    let bus = open().await;
    // Nobody receives: what does not fit is dropped.
    for _ in 0..10_000 {
        bus.publish(Hint { task: TaskId::fresh(), model: None });
    }
    for n in 0..100 {
        bus.bury(DeadLetter { topic: "task", reason: "unreadable", detail: n.to_string() });
    }
    bus.acknowledge(Hint { task: TaskId::fresh(), model: None });
    timeout(SOON, bus.receive()).await.expect("some are kept").map(drop)
}
