//! Replay and live fan-out of facts.
//!
//! Hears: `Subscribe…` from HTTP and CLI; `ReadDue` when the log has grown. Asks: nobody; reads the event log.
//! Tells: nobody; it fills [`Live`], which wakes the subscriptions.
//! If it dies: subscriptions read the store themselves, a little later, until its successor goes on where it stopped.

use std::{sync::Arc, time::Duration};

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::time::sleep;

use crate::{
    background::AbortOnDrop,
    context::Context,
    event::Seq,
    handle::{ASK_TIMEOUT, AskError, Handle, Mail},
    live::Live,
    metrics::ActorKind,
    ports::{LogPage, Position},
    subscription::{AllEvents, Feed, Source, TaskEvents},
    task::TaskId,
};

pub type LogRelay = Handle<Msg>;

/// Entries read at a time.
const PAGE: usize = 512;
const RETRY_PAUSE: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    #[error("all {0} subscriptions are taken; try again later")]
    Full(usize),
    #[error("{0}")]
    Ask(#[from] AskError),
}

impl LogRelay {
    /// All facts after a position; `None` starts now.
    pub async fn all(&self, after: Option<Position>) -> Result<AllEvents, SubscribeError> {
        Ok(AllEvents::new(self.source().await?, after))
    }

    /// One task's facts after `after`; `None` starts with the first.
    pub async fn task(&self, task: TaskId, after: Option<Seq>) -> Result<TaskEvents, SubscribeError> {
        Ok(TaskEvents::new(self.source().await?, task, after))
    }

    async fn source(&self) -> Result<Source, SubscribeError> {
        self.insist(ASK_TIMEOUT, |reply| Msg::Subscribe { reply }).await?
    }
}

pub enum Msg {
    Subscribe { reply: RpcReplyPort<Result<Source, SubscribeError>> },
    ReadDue,
}

pub struct Relay {
    pub context: Arc<Context>,
    pub live: Arc<Live>,
}

pub struct State {
    /// Up to here the log is in memory.
    read: Position,
    _wake: AbortOnDrop,
}

impl Actor for Relay {
    type Msg = Mail<Msg>;
    type State = State;
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<Mail<Msg>>, (): ()) -> Result<State, ActorProcessingErr> {
        let read = self.live.newest().borrow().clone();
        Ok(State { _wake: self.wake_after(myself, read.clone(), Duration::ZERO), read })
    }

    async fn handle(
        &self,
        myself: ActorRef<Mail<Msg>>,
        mail: Mail<Msg>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let (message, _permit) = mail.open(ActorKind::LogRelay, &self.context.metrics);
        match message {
            Msg::Subscribe { reply } => {
                // Who asked may have stopped waiting.
                let _ = reply.send(self.subscribe());
            }
            Msg::ReadDue => self.read(myself, state).await,
        }
        Ok(())
    }
}

impl Relay {
    fn subscribe(&self) -> Result<Source, SubscribeError> {
        let open = &self.context.metrics.subscriptions;
        let limit = self.context.settings.subscriptions_max;
        if open.get() >= limit as i64 {
            return Err(SubscribeError::Full(limit));
        }
        let events = self.context.ports.events.clone();
        Ok(Feed { events, live: self.live.clone(), open: open.clone() }.open())
    }

    async fn read(&self, myself: ActorRef<Mail<Msg>>, state: &mut State) {
        let head = self.context.ports.events.head().borrow().clone();
        if state.read.is_unknown() || state.read.lies_beyond(&head) {
            // The log did not answer when the node started, or is another one now: it begins with what it has.
            self.live.skip_to(&head, &[]);
            state.read = head.clone();
        }
        let pause = match self.context.ports.events.read_all(&state.read, PAGE).await {
            Ok(page) => {
                self.take(state, page, head);
                Duration::ZERO
            }
            // Subscriptions read the store themselves meanwhile, and hear the same.
            Err(error) => {
                tracing::warn!(%error, "cannot read the event log");
                RETRY_PAUSE
            }
        };
        state._wake = self.wake_after(myself, state.read.clone(), pause);
    }

    /// `head` is from before the page was read: what it lacks up to there has been removed.
    fn take(&self, state: &mut State, page: LogPage, head: Position) {
        let last = page.entries.last().map(|entry| entry.position.clone());
        let has_hole = page.gap || (last.is_none() && !state.read.covers(&head));
        let kept = if has_hole {
            state.read = last.unwrap_or(head);
            self.live.skip_to(&state.read, &page.entries);
            0
        } else {
            state.read = last.unwrap_or_else(|| state.read.clone());
            self.live.push(page.entries)
        };
        self.context.metrics.log_ring_entries.set(kept as i64);
    }

    /// Sends one `ReadDue` as soon as the log has more than `read`, or less.
    fn wake_after(&self, myself: ActorRef<Mail<Msg>>, read: Position, pause: Duration) -> AbortOnDrop {
        let mut head = self.context.ports.events.head();
        AbortOnDrop(tokio::spawn(async move {
            // A timer takes a millisecond to do nothing.
            if !pause.is_zero() {
                sleep(pause).await;
            }
            // An error means that the log is gone, and with it whatever there was to wake for.
            if head.wait_for(|head| !read.covers(head) || read.lies_beyond(head)).await.is_ok() {
                let _ = myself.send_message(Mail::own(Msg::ReadDue));
            }
        }))
    }
}
