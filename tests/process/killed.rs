//! kill -9 of the server at random moments: every task goes on, and ends as if nothing had happened.

use std::time::Duration;

use super::{
    server::{Server, assert_same_result, free_port, task, trained_alone},
    stream::Listener,
};

const KILLS: u64 = 20;
/// Long enough that most of the kills hit a training.
const TASKS: [(&str, u32); 3] = [("mlp", 60), ("cnn", 2), ("lstm", 2)];

async fn tasks_survive_kills(slots: &str, seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    // On a slow machine many lives in a row may be too short for a checkpoint.
    let settings = [("KUBEML__TRAINER__SLOTS", slots), ("KUBEML__TASKS__NO_PROGRESS_MAX", "1000")];
    let mut server = Server::start(dir.path(), port, &settings).await;
    let mut listener = Listener::start(&server.url);
    let mut ids = Vec::new();
    for (model, epochs) in TASKS {
        ids.push(server.submit(&task(model, epochs)).await);
    }
    for kill in 0..KILLS {
        tokio::time::sleep(moment(seed, kill)).await;
        server.kill();
        server = Server::start(dir.path(), port, &settings).await;
    }
    for (id, (model, epochs)) in ids.iter().zip(TASKS) {
        let view = server.succeeded(id).await;
        assert_same_result(&view, &trained_alone(model, epochs, 2));
        let heard = listener.wait_for(|heard| heard.has_ended(id)).await;
        heard.assert_is_history(id, &server.history(id).await);
        heard.assert_ids_grow();
    }
    let attempts: Vec<u32> =
        futures::future::join_all(ids.iter().map(|id| server.view(id))).await.iter().map(|view| view.attempt).collect();
    assert!(attempts.iter().sum::<u32>() > 6, "the kills hit trainings: {attempts:?}");
}

/// 0.3 to 2.5 s, the same in every run.
fn moment(seed: u64, kill: u64) -> Duration {
    let mixed = (seed * KILLS + kill + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Duration::from_millis(300 + (mixed >> 33) % 2_200)
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_and_running_tasks_survive_twenty_kills() {
    tasks_survive_kills("1", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_tasks_at_a_time_survive_twenty_kills() {
    tasks_survive_kills("3", 2).await;
}
