//! The only way into an actor.
//!
//! A [`Handle`] stays valid while its actor is restarted: it waits for the successor. Mailboxes are unbounded in ractor,
//! so every producer first gets one of the handle's permits, and the message carries it until it has been dealt with.

use std::{sync::Arc, time::Duration};

use prometheus::IntGauge;
use ractor::{ActorRef, RpcReplyPort};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, watch},
    time::{Instant, timeout_at},
};

use crate::metrics::{ActorKind, Metrics};

#[cfg(test)]
mod tests;

/// How long an ask takes at most, unless its caller says otherwise.
pub const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// What became of an actor that fault injection is to crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// It panics when it comes to it in its mailbox.
    Sent,
    /// It is down already, and about to be replaced.
    Restarting,
    /// The node has no such actor.
    Unknown,
}

/// What lies in a mailbox.
pub struct Mail<M> {
    content: Content<M>,
    permit: Permit,
    sent: Instant,
}

enum Content<M> {
    Message(M),
    Crash,
}

/// Keeps a message's place in the mailbox's bound. Work that outlives the handler takes it along.
pub struct Permit {
    place: Option<(OwnedSemaphorePermit, IntGauge)>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some((_, depth)) = &self.place {
            depth.dec();
        }
    }
}

impl<M> Mail<M> {
    /// A message from an actor to itself or between a pool and its slots: their number is bounded by what they are
    /// about, so they need no permit.
    pub fn own(message: M) -> Self {
        Self { content: Content::Message(message), permit: Permit { place: None }, sent: Instant::now() }
    }

    /// Fault injection.
    pub(crate) fn crash() -> Self {
        Self { content: Content::Crash, permit: Permit { place: None }, sent: Instant::now() }
    }

    /// To be called first thing in `handle`.
    ///
    /// # Panics
    /// When fault injection sent a crash instead of a message.
    pub fn open(self, kind: ActorKind, metrics: &Metrics) -> (M, Permit) {
        let waited = self.sent.elapsed().as_secs_f64();
        metrics.actor_message_wait.with_label_values(&[kind.as_str()]).observe(waited);
        match self.content {
            Content::Message(message) => (message, self.permit),
            Content::Crash => panic!("crashed by fault injection"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    #[error("{} has too much to do; try again", .0.as_str())]
    Overloaded(ActorKind),
    #[error("{} is being restarted; try again", .0.as_str())]
    Down(ActorKind),
    /// The actor ended with the question in its hands: it may have acted on it or not.
    #[error("{} was restarted before it could answer; try again", .0.as_str())]
    Lost(ActorKind),
    #[error("{} did not answer in time; try again", .0.as_str())]
    TimedOut(ActorKind),
}

pub struct Handle<M> {
    inner: Arc<Inner<M>>,
}

struct Inner<M> {
    kind: ActorKind,
    permits: Arc<Semaphore>,
    current: watch::Sender<Option<ActorRef<Mail<M>>>>,
    metrics: Arc<Metrics>,
}

impl<M> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<M: Send + 'static> Handle<M> {
    /// A handle to an actor that does not exist yet. `capacity` bounds its mailbox.
    pub fn vacant(kind: ActorKind, capacity: usize, metrics: Arc<Metrics>) -> Self {
        let permits = Arc::new(Semaphore::new(capacity));
        let (current, _) = watch::channel(None);
        Self { inner: Arc::new(Inner { kind, permits, current, metrics }) }
    }

    pub fn kind(&self) -> ActorKind {
        self.inner.kind
    }

    /// For supervisors: `actor` is who messages go to from now on.
    pub fn install(&self, actor: ActorRef<Mail<M>>) {
        self.inner.current.send_replace(Some(actor));
    }

    /// For supervisors: there is nobody until the next `install`; who asks waits.
    pub fn vacate(&self) {
        self.inner.current.send_replace(None);
    }

    /// Sends what `question` makes of a reply port and waits for the answer.
    pub async fn ask<T: Send + 'static>(
        &self,
        limit: Duration,
        question: impl FnOnce(RpcReplyPort<T>) -> M,
    ) -> Result<T, AskError> {
        let deadline = Instant::now() + limit;
        let permit = self.permit(deadline).await?;
        let (reply, answer) = ractor::concurrency::oneshot();
        self.deliver(Content::Message(question(reply.into())), permit, deadline).await?;
        match timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(AskError::Lost(self.kind())),
            Err(_) => Err(AskError::TimedOut(self.kind())),
        }
    }

    /// Asks a question that may be repeated: once more, if the actor ended with it in its hands.
    pub async fn insist<T: Send + 'static>(
        &self,
        limit: Duration,
        question: impl Fn(RpcReplyPort<T>) -> M,
    ) -> Result<T, AskError> {
        match self.ask(limit, &question).await {
            Err(AskError::Lost(_)) => self.ask(limit, &question).await,
            answer => answer,
        }
    }

    /// Hands a message over, waiting for room and for a living actor.
    pub async fn tell(&self, limit: Duration, message: M) -> Result<(), AskError> {
        let deadline = Instant::now() + limit;
        let permit = self.permit(deadline).await?;
        self.deliver(Content::Message(message), permit, deadline).await
    }

    /// Hands a message over if that needs no waiting: for what may be lost, like hints.
    pub fn offer(&self, message: M) -> Result<(), AskError> {
        let permit = match self.inner.permits.clone().try_acquire_owned() {
            Ok(permit) => self.measured(permit),
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => return Err(AskError::Overloaded(self.kind())),
        };
        let actor = self.inner.current.borrow().clone().ok_or(AskError::Down(self.kind()))?;
        let mail = Mail { content: Content::Message(message), permit, sent: Instant::now() };
        actor.send_message(mail).map_err(|_| AskError::Down(self.kind()))
    }

    /// Fault injection: the actor panics when it comes to this in its mailbox.
    pub async fn crash(&self) -> Result<(), AskError> {
        let deadline = Instant::now() + ASK_TIMEOUT;
        let permit = self.permit(deadline).await?;
        self.deliver(Content::Crash, permit, deadline).await
    }

    async fn permit(&self, deadline: Instant) -> Result<Permit, AskError> {
        match timeout_at(deadline, self.inner.permits.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(self.measured(permit)),
            Ok(Err(_)) | Err(_) => Err(AskError::Overloaded(self.kind())),
        }
    }

    fn measured(&self, place: OwnedSemaphorePermit) -> Permit {
        let depth = self.inner.metrics.actor_mailbox_depth.with_label_values(&[self.kind().as_str()]);
        depth.inc();
        Permit { place: Some((place, depth)) }
    }

    async fn deliver(&self, content: Content<M>, permit: Permit, deadline: Instant) -> Result<(), AskError> {
        let mut current = self.inner.current.subscribe();
        let mut mail = Mail { content, permit, sent: Instant::now() };
        loop {
            let actor = current.borrow_and_update().clone();
            if let Some(actor) = actor {
                match actor.send_message(mail) {
                    Ok(()) => return Ok(()),
                    Err(ractor::MessagingErr::SendErr(returned)) => mail = returned,
                    Err(_) => return Err(AskError::Lost(self.kind())),
                }
            }
            match timeout_at(deadline, current.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(AskError::Down(self.kind())),
            }
        }
    }
}
