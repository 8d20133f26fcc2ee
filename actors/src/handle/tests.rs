//! What a handle promises: a bounded mailbox, an answer or a reason, and patience with restarts.

use ractor::{Actor, ActorProcessingErr};
use tokio::{sync::Notify, time::advance};

use super::*;

const CAPACITY: usize = 2;
const KIND: ActorKind = ActorKind::CacheWarmer;
const SECOND: Duration = Duration::from_secs(1);

enum Msg {
    Double {
        n: u32,
        reply: RpcReplyPort<u32>,
    },
    /// Keeps the actor busy until it is notified.
    Block(Arc<Notify>),
    /// Hands the message's place to whoever asked, as work does that outlives its handler.
    TakePlace {
        reply: RpcReplyPort<Permit>,
    },
    /// Is never answered, and never dropped.
    Ignore {
        reply: RpcReplyPort<()>,
    },
}

struct Doubler(Arc<Metrics>);

impl Actor for Doubler {
    type Msg = Mail<Msg>;
    type State = Vec<RpcReplyPort<()>>;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Mail<Msg>>, (): ()) -> Result<Self::State, ActorProcessingErr> {
        Ok(Vec::new())
    }

    async fn handle(
        &self,
        _: ActorRef<Mail<Msg>>,
        mail: Mail<Msg>,
        ignored: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let (message, permit) = mail.open(KIND, &self.0);
        match message {
            Msg::Double { n, reply } => drop(reply.send(2 * n)),
            Msg::Block(gate) => gate.notified().await,
            Msg::TakePlace { reply } => drop(reply.send(permit)),
            Msg::Ignore { reply } => ignored.push(reply),
        }
        Ok(())
    }
}

struct Bench {
    handle: Handle<Msg>,
    metrics: Arc<Metrics>,
}

impl Bench {
    fn vacant() -> Self {
        let metrics = Arc::new(Metrics::new());
        Self { handle: Handle::vacant(KIND, CAPACITY, metrics.clone()), metrics }
    }

    async fn occupied() -> Self {
        let bench = Self::vacant();
        bench.start().await;
        bench
    }

    async fn start(&self) -> ActorRef<Mail<Msg>> {
        let (actor, _) = Actor::spawn(None, Doubler(self.metrics.clone()), ()).await.expect("it starts");
        self.handle.install(actor.clone());
        actor
    }

    fn double(&self, n: u32) -> impl Future<Output = Result<u32, AskError>> + Send + 'static {
        let handle = self.handle.clone();
        async move { handle.ask(10 * SECOND, |reply| Msg::Double { n, reply }).await }
    }

    fn block(&self) -> Arc<Notify> {
        let gate = Arc::new(Notify::new());
        self.handle.offer(Msg::Block(gate.clone())).expect("there is room");
        gate
    }

    fn depth(&self) -> i64 {
        self.metrics.actor_mailbox_depth.with_label_values(&[KIND.as_str()]).get()
    }
}

/// Lets everybody run who can.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_mailbox_holds_no_more_than_its_bound_and_takes_more_once_it_is_worked_off() {
    let bench = Bench::occupied().await;
    let (first, second) = (bench.block(), bench.block());
    assert_eq!(bench.depth(), CAPACITY as i64);
    assert_eq!(bench.handle.offer(Msg::Block(Arc::default())), Err(AskError::Overloaded(KIND)));
    let waiting = tokio::spawn(bench.double(21));
    settle().await;
    assert!(!waiting.is_finished(), "who asks waits for room");
    first.notify_one();
    second.notify_one();
    assert_eq!(waiting.await.unwrap(), Ok(42));
    settle().await;
    assert_eq!(bench.depth(), 0);
}

#[tokio::test(start_paused = true)]
async fn work_that_outlives_its_message_keeps_its_place() {
    let bench = Bench::occupied().await;
    let mut places = Vec::new();
    for _ in 0..CAPACITY {
        places.push(bench.handle.ask(SECOND, |reply| Msg::TakePlace { reply }).await.unwrap());
    }
    assert_eq!(bench.depth(), CAPACITY as i64);
    assert_eq!(bench.handle.offer(Msg::Block(Arc::default())), Err(AskError::Overloaded(KIND)));
    places.pop();
    assert_eq!(bench.double(1).await, Ok(2));
    places.clear();
    settle().await;
    assert_eq!(bench.depth(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_room_in_time_is_told_so() {
    let bench = Bench::occupied().await;
    let _gates = (bench.block(), bench.block());
    let asked = Instant::now();
    assert_eq!(bench.handle.tell(SECOND, Msg::Block(Arc::default())).await, Err(AskError::Overloaded(KIND)));
    assert_eq!(asked.elapsed().as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_asks_nobody_waits_for_somebody() {
    let bench = Bench::vacant();
    let answer = tokio::spawn(bench.double(3));
    settle().await;
    advance(5 * SECOND).await;
    bench.handle.vacate();
    settle().await;
    assert!(!answer.is_finished());
    bench.start().await;
    assert_eq!(answer.await.unwrap(), Ok(6));
}

#[tokio::test(start_paused = true)]
async fn who_asks_the_dead_waits_for_the_successor() {
    let bench = Bench::vacant();
    let dead = bench.start().await;
    dead.get_cell().stop_and_wait(None, None).await.unwrap();
    let answer = tokio::spawn(bench.double(4));
    settle().await;
    assert!(!answer.is_finished(), "it is not noticed yet that the actor is dead");
    bench.handle.vacate();
    settle().await;
    assert!(!answer.is_finished());
    bench.start().await;
    assert_eq!(answer.await.unwrap(), Ok(8));
    settle().await;
    assert_eq!(bench.depth(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_vain_for_a_successor_is_told_that_there_is_none() {
    let bench = Bench::vacant();
    let asked = Instant::now();
    assert_eq!(bench.double(1).await, Err(AskError::Down(KIND)));
    assert_eq!(asked.elapsed().as_secs(), 10);
    assert_eq!(bench.depth(), 0, "the place is given back");
}

#[tokio::test(start_paused = true)]
async fn a_question_in_the_hands_of_a_dying_actor_is_lost_and_not_late() {
    let bench = Bench::vacant();
    let actor = bench.start().await;
    let _gate = bench.block();
    let answer = tokio::spawn(bench.double(1));
    settle().await;
    let asked = Instant::now();
    actor.get_cell().kill();
    assert_eq!(answer.await.unwrap(), Err(AskError::Lost(KIND)));
    assert!(asked.elapsed() < SECOND, "it is told at once");
    assert_eq!(bench.depth(), 0, "what died with the actor holds no place");
}

#[tokio::test(start_paused = true)]
async fn a_crash_loses_what_waits_behind_it() {
    let bench = Bench::occupied().await;
    bench.handle.crash().await.unwrap();
    assert_eq!(bench.double(1).await, Err(AskError::Lost(KIND)));
    assert_eq!(bench.depth(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_insists_asks_the_successor_once_more() {
    let bench = Bench::occupied().await;
    let insist = || bench.handle.insist(10 * SECOND, |reply| Msg::Double { n: 4, reply });
    bench.handle.crash().await.unwrap();
    let (answer, _) = tokio::join!(insist(), async {
        settle().await;
        bench.start().await;
    });
    assert_eq!(answer, Ok(8));

    bench.handle.crash().await.unwrap();
    let (answer, ()) = tokio::join!(insist(), settle());
    assert_eq!(answer, Err(AskError::Down(KIND)), "there is no successor");
}

#[tokio::test(start_paused = true)]
async fn a_crash_loses_nothing_that_waits_for_room() {
    let bench = Bench::occupied().await;
    let gate = bench.block();
    bench.handle.crash().await.unwrap();
    let answer = tokio::spawn(bench.double(1));
    settle().await;
    assert!(!answer.is_finished(), "both places are taken");
    gate.notify_one();
    settle().await;
    bench.start().await;
    assert_eq!(answer.await.unwrap(), Ok(2));
    settle().await;
    assert_eq!(bench.depth(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_is_waited_for_no_longer_than_asked() {
    let bench = Bench::occupied().await;
    let asked = Instant::now();
    let answer = bench.handle.ask(3 * SECOND, |reply| Msg::Ignore { reply }).await;
    assert_eq!(answer, Err(AskError::TimedOut(KIND)));
    assert_eq!(asked.elapsed().as_secs(), 3);
    assert_eq!(bench.double(5).await, Ok(10), "others are answered");
    settle().await;
    assert_eq!(bench.depth(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_offer_is_taken_or_declined_without_waiting() {
    let bench = Bench::vacant();
    let offered = Instant::now();
    assert_eq!(bench.handle.offer(Msg::Block(Arc::default())), Err(AskError::Down(KIND)));
    assert_eq!(bench.depth(), 0, "what was declined holds no place");
    let dead = bench.start().await;
    dead.get_cell().stop_and_wait(None, None).await.unwrap();
    assert_eq!(bench.handle.offer(Msg::Block(Arc::default())), Err(AskError::Down(KIND)));
    bench.start().await;
    let _gates = (bench.block(), bench.block());
    assert_eq!(bench.handle.offer(Msg::Block(Arc::default())), Err(AskError::Overloaded(KIND)));
    assert_eq!(offered.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn who_stops_waiting_takes_nothing_along() {
    let bench = Bench::vacant();
    let answer = tokio::spawn(bench.double(1));
    settle().await;
    assert_eq!(bench.depth(), 1);
    answer.abort();
    settle().await;
    assert_eq!(bench.depth(), 0);
}
