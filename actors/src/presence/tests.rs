//! Standing, and what a heartbeat says.

use tokio::time::sleep;

use super::*;
use crate::testing::test_tree::TestTree;

const LEASE: Duration = Duration::from_secs(2);

fn presence() -> Presence {
    Presence::new(LEASE, 2, Timestamp(0))
}

#[tokio::test(start_paused = true)]
async fn a_node_has_standing_for_a_lease_after_a_confirmed_heartbeat_began() {
    let presence = presence();
    assert_eq!(presence.standing(), None, "nobody has heard of it yet");
    presence.confirm(Instant::now());
    sleep(LEASE).await;
    assert_eq!(presence.standing(), Some(0));
    sleep(Duration::from_millis(1)).await;
    assert_eq!(presence.standing(), None);
}

#[tokio::test(start_paused = true)]
async fn a_lapse_shows_although_the_node_is_back() {
    let presence = presence();
    for _ in 0..5 {
        presence.confirm(Instant::now());
        sleep(LEASE).await;
    }
    assert_eq!(presence.standing(), Some(0));
    sleep(LEASE).await;
    presence.confirm(Instant::now());
    assert_eq!(presence.standing(), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_slow_confirmation_counts_from_its_beginning() {
    let presence = presence();
    let began = Instant::now();
    sleep(LEASE + Duration::from_millis(1)).await;
    presence.confirm(began);
    assert_eq!(presence.standing(), None);
}

#[test]
fn slots_say_what_they_hold_and_how_they_ended() {
    let (presence, task) = (presence(), TaskId::fresh());
    presence.trainer_started(1);
    presence.slot_holds(1, Some(task));
    presence.slot_holds(7, Some(task));
    let slots = || lock(&presence.board).slots.clone();
    assert_eq!((slots()[1].alive, slots()[1].task), (true, Some(task)));
    presence.trainer_ended(1, "it broke");
    let ended = SlotReport { alive: false, restarts: 1, last_error: Some("it broke".to_owned()), task: None };
    assert_eq!(slots(), [SlotReport::default(), ended]);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_tell_the_address_once_the_node_listens() {
    let node = TestTree::start().await;
    let published = async || node.world.ports.nodes.nodes().await.unwrap()[0].address.clone();
    sleep(LEASE).await;
    assert_eq!(published().await, None);
    node.tree.context.presence.listens_at("http://10.0.0.7:5000".to_owned());
    sleep(LEASE).await;
    assert_eq!(published().await.as_deref(), Some("http://10.0.0.7:5000"));
}
