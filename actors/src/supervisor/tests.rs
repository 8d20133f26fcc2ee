//! One for one, in order, within limits, and nobody left behind.

use std::sync::{
    Mutex,
    atomic::{AtomicI64, Ordering},
};

use ractor::RpcReplyPort;
use tokio::{task::JoinHandle, time::timeout};

use super::*;
use crate::{
    context::Settings,
    handle::AskError,
    metrics::Metrics,
    restart_policy::{Backoff, Intensity},
    task::{Failure, Incarnation},
    testing::{faulty::Faults, test_tree::World},
    trainer::Broken,
};

const KINDS: [ActorKind; 3] = [ActorKind::TaskDispatcher, ActorKind::Reconciler, ActorKind::DatasetLoader];
const SECOND: Duration = Duration::from_secs(1);

enum Ask {
    Identity { reply: RpcReplyPort<ActorId> },
    Cell { reply: RpcReplyPort<ActorCell> },
    Fail,
    Quit,
}

/// What the children leave behind.
#[derive(Default)]
struct Traces {
    alive: AtomicI64,
    starts: Mutex<Vec<ActorKind>>,
}

/// Counts a living child, however it ends.
struct Life(Arc<Traces>);

impl Drop for Life {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Probe {
    kind: ActorKind,
    metrics: Arc<Metrics>,
    traces: Arc<Traces>,
    failing_starts: Arc<Faults>,
}

impl Actor for Probe {
    type Msg = Mail<Ask>;
    type State = Life;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Mail<Ask>>, (): ()) -> Result<Life, ActorProcessingErr> {
        self.traces.starts.lock().unwrap().push(self.kind);
        if self.failing_starts.take() {
            return Err("scripted failure to start".into());
        }
        self.traces.alive.fetch_add(1, Ordering::SeqCst);
        Ok(Life(self.traces.clone()))
    }

    async fn handle(&self, me: ActorRef<Mail<Ask>>, mail: Mail<Ask>, _: &mut Life) -> Result<(), ActorProcessingErr> {
        match mail.open(self.kind, &self.metrics).0 {
            Ask::Identity { reply } => drop(reply.send(me.get_id())),
            Ask::Cell { reply } => drop(reply.send(me.get_cell())),
            Ask::Fail => return Err(Broken(Failure::crashed("scripted failure")).into()),
            Ask::Quit => me.stop(None),
        }
        Ok(())
    }
}

struct Bench {
    metrics: Arc<Metrics>,
    traces: Arc<Traces>,
    /// Of the second child.
    failing_starts: Arc<Faults>,
    handles: Vec<Handle<Ask>>,
    supervisor: ActorRef<Msg>,
    ended: JoinHandle<()>,
    gave_up: watch::Receiver<Option<String>>,
}

impl Bench {
    async fn start() -> Self {
        Self::start_failing(0).await
    }

    /// The second child fails to start so many times.
    async fn start_failing(times: u32) -> Self {
        let metrics = Arc::new(Metrics::new());
        let settings = Settings {
            intensity: Intensity { restarts_max: 3, window: 60 * SECOND },
            backoff: Backoff { first: SECOND, max: 4 * SECOND },
            ..Settings::default()
        };
        let context = Context::new(Incarnation::fresh("node-1"), World::new().ports, metrics.clone(), settings);
        let (traces, failing_starts) = (Arc::new(Traces::default()), Arc::new(Faults::default()));
        failing_starts.set(times);
        let handles: Vec<_> = KINDS.into_iter().map(|kind| Handle::vacant(kind, 16, metrics.clone())).collect();
        let child = |handle: &Handle<Ask>| {
            let (kind, metrics, traces) = (handle.kind(), metrics.clone(), traces.clone());
            let failing_starts = if kind == KINDS[1] { failing_starts.clone() } else { Arc::default() };
            ChildSpec::new(handle, move || Probe {
                kind,
                metrics: metrics.clone(),
                traces: traces.clone(),
                failing_starts: failing_starts.clone(),
            })
        };
        let (gave_up, hears) = watch::channel(None);
        let root = Supervisor { context, children: handles.iter().map(child).collect(), gave_up };
        let (supervisor, ended) = Actor::spawn(None, root, ()).await.expect("the supervisor starts");
        Self { metrics, traces, failing_starts, handles, supervisor, ended, gave_up: hears }
    }

    async fn identity(&self, child: usize) -> Result<ActorId, AskError> {
        self.handles[child].ask(30 * SECOND, |reply| Ask::Identity { reply }).await
    }

    async fn identities(&self) -> Vec<ActorId> {
        let mut identities = Vec::new();
        for child in 0..KINDS.len() {
            identities.push(self.identity(child).await.expect("the child answers"));
        }
        identities
    }

    async fn tell(&self, child: usize, message: Ask) {
        self.handles[child].tell(SECOND, message).await.expect("the child is there");
    }

    async fn kill(&self, child: usize) {
        let cell = self.handles[child].ask(SECOND, |reply| Ask::Cell { reply }).await.expect("the child answers");
        cell.kill();
    }

    fn restarts(&self, child: usize) -> u64 {
        self.metrics.actor_restarts.with_label_values(&[KINDS[child].as_str()]).get()
    }

    fn stopped(&self, child: usize, reason: &str) -> u64 {
        self.metrics.actor_stopped.with_label_values(&[KINDS[child].as_str(), reason]).get()
    }

    fn alive(&self) -> (i64, i64) {
        let gauge = |kind: ActorKind| self.metrics.actor_alive.with_label_values(&[kind.as_str()]).get();
        (self.traces.alive.load(Ordering::SeqCst), KINDS.into_iter().map(gauge).sum())
    }

    async fn stop(&mut self) {
        self.supervisor.send_message(Msg::Stop).expect("the supervisor is there");
        timeout(5 * SECOND, &mut self.ended).await.expect("it ends in time").unwrap();
    }

    /// Lets supervision settle: far less than any backoff that is not zero.
    async fn settle(&self) {
        tokio::time::sleep(Duration::from_micros(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn children_start_in_order_and_once() {
    let bench = Bench::start().await;
    bench.identities().await;
    assert_eq!(*bench.traces.starts.lock().unwrap(), KINDS);
    assert_eq!(bench.alive(), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn whoever_ends_is_replaced_alone_however_it_ends() {
    for reason in ["panic", "error", "killed", "quit"] {
        let bench = Bench::start().await;
        let before = bench.identities().await;
        match reason {
            "panic" => bench.handles[1].crash().await.unwrap(),
            "error" => bench.tell(1, Ask::Fail).await,
            "killed" => bench.kill(1).await,
            _ => bench.tell(1, Ask::Quit).await,
        }
        bench.settle().await;
        let after = bench.identities().await;
        assert_ne!(before[1], after[1], "{reason}");
        assert_eq!((before[0], before[2]), (after[0], after[2]), "{reason}: siblings keep their identity");
        assert_eq!([0, 1, 2].map(|child| bench.restarts(child)), [0, 1, 0], "{reason}");
        let label = if reason == "quit" { "killed" } else { reason };
        assert_eq!(bench.stopped(1, label), 1, "{reason}");
        assert_eq!(bench.alive(), (3, 3), "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_that_does_not_start_holds_up_nobody_and_is_tried_again() {
    let bench = Bench::start_failing(2).await;
    let begun = Instant::now();
    bench.identity(0).await.unwrap();
    bench.identity(2).await.unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
    bench.identity(1).await.unwrap();
    assert!(begun.elapsed() <= SECOND + Duration::from_millis(10), "{:?}", begun.elapsed());
    assert_eq!((bench.restarts(1), bench.alive()), (2, (3, 3)));
}

#[tokio::test(start_paused = true)]
async fn a_child_that_does_not_start_again_is_a_failure_like_any_other() {
    let bench = Bench::start().await;
    bench.identities().await;
    bench.failing_starts.set(1);
    bench.handles[1].crash().await.unwrap();
    bench.settle().await;
    bench.identity(1).await.unwrap();
    assert_eq!((bench.restarts(1), bench.alive()), (2, (3, 3)));
}

#[tokio::test(start_paused = true)]
async fn a_child_that_never_starts_ends_the_tree() {
    let mut bench = Bench::start_failing(u32::MAX).await;
    timeout(60 * SECOND, &mut bench.ended).await.expect("it gives up").unwrap();
    let why = bench.gave_up.borrow().clone().expect("it says why");
    assert!(why.contains(KINDS[1].as_str()) && why.contains("scripted failure to start"), "{why}");
    bench.settle().await;
    assert_eq!(bench.alive().0, 0, "nobody outlives the supervisor");
}

#[tokio::test(start_paused = true)]
async fn too_many_restarts_of_one_child_end_the_tree_and_of_several_do_not() {
    let mut bench = Bench::start().await;
    for round in 0..3 {
        for child in 0..KINDS.len() {
            bench.identity(child).await.expect("it is there");
            bench.handles[child].crash().await.unwrap();
        }
        tokio::time::sleep(5 * SECOND).await;
        assert_eq!(bench.gave_up.borrow().clone(), None, "round {round}");
    }
    assert_eq!(bench.alive(), (3, 3));
    bench.identity(2).await.unwrap();
    bench.handles[2].crash().await.unwrap();
    timeout(SECOND, &mut bench.ended).await.expect("it gives up").unwrap();
    assert!(bench.gave_up.borrow().as_ref().is_some_and(|why| why.contains(KINDS[2].as_str())));
    assert_eq!(bench.metrics.supervisor_intensity_exceeded.get(), 1);
    bench.settle().await;
    assert_eq!(bench.alive().0, 0);
}

#[tokio::test(start_paused = true)]
async fn failures_long_ago_are_forgiven() {
    let bench = Bench::start().await;
    for _ in 0..20 {
        bench.identity(1).await.unwrap();
        bench.handles[1].crash().await.unwrap();
        tokio::time::sleep(25 * SECOND).await;
    }
    assert_eq!(bench.restarts(1), 20);
    assert_eq!(bench.alive(), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn after_a_stop_nobody_lives_and_nobody_comes_back() {
    let mut bench = Bench::start().await;
    bench.identities().await;
    bench.stop().await;
    bench.settle().await;
    assert_eq!(bench.alive().0, 0);
    let starts = bench.traces.starts.lock().unwrap().len();
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(bench.traces.starts.lock().unwrap().len(), starts);
    assert_eq!([0, 1, 2].map(|child| bench.restarts(child)), [0, 0, 0], "an end that was asked for is no failure");
    assert_eq!(bench.gave_up.borrow().clone(), None);
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_falls_into_a_restart_wins() {
    let mut bench = Bench::start().await;
    for _ in 0..2 {
        bench.identity(1).await.unwrap();
        bench.handles[1].crash().await.unwrap();
        bench.settle().await;
    }
    bench.stop().await;
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(bench.alive().0, 0);
}

#[tokio::test(start_paused = true)]
async fn who_asks_a_restarting_child_waits_out_its_backoff() {
    let bench = Bench::start().await;
    for _ in 0..3 {
        bench.identity(0).await.expect("the successor answers");
        bench.handles[0].crash().await.unwrap();
        bench.settle().await;
    }
    bench.identity(0).await.expect("the successor answers");
    assert_eq!(bench.restarts(0), 3);
}
