//! Messages of the older system become tasks, each once.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use kubeml::edges::kafka::{Bridge, KafkaBus, NotSubmitted, Submit};
use kubeml_actors::{
    ports::{Hint, TaskBus},
    task::Submission,
};

use super::{
    older_client::{read, write},
    *,
};

/// A dispatcher that may be away.
#[derive(Default)]
struct Desk {
    is_away: AtomicBool,
    asked: Mutex<usize>,
    taken: Mutex<Vec<(TaskId, &'static str)>>,
}

#[async_trait]
impl Submit for Desk {
    async fn submit(&self, submission: Submission) -> Result<(), NotSubmitted> {
        *self.asked.lock().expect("nobody panics") += 1;
        if self.is_away.load(Ordering::SeqCst) {
            return Err(NotSubmitted::Later("the store is away".to_owned()));
        }
        self.taken.lock().expect("nobody panics").push((submission.id, submission.spec.model().as_str()));
        Ok(())
    }
}

impl Desk {
    fn taken(&self) -> Vec<(TaskId, &'static str)> {
        self.taken.lock().expect("nobody panics").clone()
    }

    fn asked(&self) -> usize {
        *self.asked.lock().expect("nobody panics")
    }
}

#[tokio::test]
async fn each_message_becomes_one_task_and_hints_none() {
    let config = system().await;
    let (desk, sender) = (Arc::new(Desk::default()), KafkaBus::start(open(&config), false));
    sender.publish(Hint { task: TaskId::fresh(), model: "mlp".parse().ok() });
    write(&config, "task", &[b"{\"task_type\": \"mlp\"}", b"{\"task_type\": \"gpt\"}", b"{\"task_type\": \"lstm\"}"])
        .await;
    let bridge = Bridge::start(open(&config), desk.clone());
    eventually("both are submitted", async || desk.taken().len() == 2).await;
    let models: Vec<&str> = desk.taken().iter().map(|(_, model)| *model).collect();
    assert_eq!(models, ["mlp", "lstm"]);
    let letters = read(&config, "task_dead_letter", 1).await;
    assert!(letters[0].contains("\"reason\": \"invalid_task\"") && letters[0].contains("gpt"), "{letters:?}");
    drop(bridge);
}

#[tokio::test]
async fn a_message_that_is_read_again_has_the_same_id() {
    let config = system().await;
    write(&config, "task", &[b"{\"task_type\": \"mlp\"}"]).await;
    // Two systems of bridges that share nothing but the topic: the second one reads all again.
    let (one, other) = (Arc::new(Desk::default()), Arc::new(Desk::default()));
    let first = Bridge::start(open(&config), one.clone());
    eventually("it is submitted", async || one.taken().len() == 1).await;
    drop(first);
    let desk = other.clone();
    desk.is_away.store(true, Ordering::SeqCst);
    write(&config, "task", &[b"{\"task_type\": \"cnn\"}"]).await;
    let second = Bridge::start(open(&config), desk.clone());
    eventually("it is asked again and again", async || desk.asked() >= 3).await;
    drop(second);
    desk.is_away.store(false, Ordering::SeqCst);
    let third = Bridge::start(open(&config), desk.clone());
    eventually("it is submitted at last", async || desk.taken().iter().any(|(_, model)| *model == "cnn")).await;
    // The first message may have been read again, before its offset was committed.
    let again = desk.taken().into_iter().filter(|(_, model)| *model == "mlp");
    assert!(again.into_iter().all(|(id, _)| id == one.taken()[0].0));
    drop(third);
}

#[tokio::test]
async fn an_outage_of_the_store_holds_submissions_up_and_loses_none() {
    let config = system().await;
    let desk = Arc::new(Desk::default());
    desk.is_away.store(true, Ordering::SeqCst);
    let _bridge = Bridge::start(open(&config), desk.clone());
    let message: &[u8] = b"{\"task_type\": \"mlp\"}";
    write(&config, "task", &[message; 5]).await;
    eventually("it is asked again and again", async || desk.asked() >= 4).await;
    desk.is_away.store(false, Ordering::SeqCst);
    eventually("all are submitted", async || desk.taken().len() >= 5).await;
    let mut ids: Vec<TaskId> = desk.taken().iter().map(|(id, _)| *id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5);
}
