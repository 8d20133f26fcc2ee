//! What a node tells the others of itself, and whether it may still speak for its tasks.
//!
//! Actors note how they are; the heartbeat carries it to the registry. A node whose heartbeat has not been confirmed for a
//! lease may have lost its tasks to others: until it has looked at them again it publishes nothing.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::{
    background::AbortOnDrop,
    context::Context,
    metrics::{ActorKind, Metrics},
    ports::{ActorReport, NodeRow, PortError, SlotReport},
    task::{Incarnation, TaskId},
    timestamp::Timestamp,
};

#[cfg(test)]
mod tests;

pub struct Presence {
    lease: Duration,
    started_at: Timestamp,
    board: Mutex<Board>,
    beats: Mutex<Beats>,
    /// When the heartbeats of others were last seen to move.
    others: Mutex<HashMap<Incarnation, Instant>>,
    /// Live nodes with a free slot, as they were last heard of.
    idle: AtomicUsize,
}

/// How the actors are, as far as counters do not tell.
#[derive(Default)]
struct Board {
    /// Of the node's HTTP API, once it listens.
    address: Option<String>,
    last_errors: Vec<(ActorKind, String)>,
    slots: Vec<SlotReport>,
}

#[derive(Default)]
struct Beats {
    seq: u64,
    /// When the last confirmed heartbeat began.
    confirmed: Option<Instant>,
    /// How often confirmations were further apart than the lease.
    lapses: u64,
}

impl Presence {
    pub fn new(lease: Duration, slots: usize, started_at: Timestamp) -> Self {
        let board = Board { slots: vec![SlotReport::default(); slots], ..Board::default() };
        let (beats, others, idle) = (Mutex::default(), Mutex::default(), AtomicUsize::new(0));
        Self { lease, started_at, board: Mutex::new(board), beats, others, idle }
    }

    /// From the next heartbeat on, others know where this node's HTTP API is.
    pub fn listens_at(&self, address: String) {
        lock(&self.board).address = Some(address);
    }

    pub fn note_error(&self, actor: ActorKind, error: &str) {
        let errors = &mut lock(&self.board).last_errors;
        errors.retain(|(kind, _)| *kind != actor);
        errors.push((actor, error.to_owned()));
    }

    pub fn trainer_started(&self, slot: usize) {
        self.change_slot(slot, |report| report.alive = true);
    }

    pub fn trainer_ended(&self, slot: usize, error: &str) {
        self.change_slot(slot, |report| {
            let restarts = report.restarts + 1;
            *report = SlotReport { alive: false, restarts, last_error: Some(error.to_owned()), task: None };
        });
    }

    pub fn slot_holds(&self, slot: usize, task: Option<TaskId>) {
        self.change_slot(slot, |report| report.task = task);
    }

    fn change_slot(&self, slot: usize, change: impl FnOnce(&mut SlotReport)) {
        if let Some(report) = lock(&self.board).slots.get_mut(slot) {
            change(report);
        }
    }

    /// Whether others still take this node for alive, as far as it knows: `None` if not; else a number that is another
    /// one after every lapse.
    pub fn standing(&self) -> Option<u64> {
        let beats = lock(&self.beats);
        beats.confirmed.filter(|began| began.elapsed() <= self.lease).map(|_| beats.lapses)
    }

    pub fn note_others(&self, moved: HashMap<Incarnation, Instant>) {
        *lock(&self.others) = moved;
    }

    /// How long ago a node's heartbeat was last seen to move, by this node's clock.
    pub fn heartbeat_age(&self, of: &Incarnation) -> Option<Duration> {
        lock(&self.others).get(of).map(Instant::elapsed)
    }

    pub fn note_idle(&self, nodes: usize) {
        self.idle.store(nodes, Ordering::Relaxed);
    }

    /// How many live nodes have a free slot; at least 1.
    pub fn idle_nodes(&self) -> usize {
        self.idle.load(Ordering::Relaxed).max(1)
    }

    /// The next heartbeat.
    fn row(&self, context: &Context) -> NodeRow {
        let seq = {
            let mut beats = lock(&self.beats);
            beats.seq += 1;
            beats.seq
        };
        let board = lock(&self.board);
        NodeRow {
            incarnation: context.me.clone(),
            seq,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            address: board.address.clone(),
            roles: context.settings.roles,
            started_at: self.started_at,
            at: context.ports.clock.now(),
            actors: board.reports(&context.metrics),
            slots: board.slots.clone(),
        }
    }

    fn confirm(&self, began: Instant) {
        let mut beats = lock(&self.beats);
        if beats.confirmed.is_some_and(|last| began.duration_since(last) > self.lease) {
            beats.lapses += 1;
        }
        beats.confirmed = Some(began);
    }
}

impl Board {
    fn reports(&self, metrics: &Metrics) -> Vec<ActorReport> {
        let kinds = ActorKind::ALL.into_iter().filter(|kind| *kind != ActorKind::Trainer);
        let reports = kinds.map(|kind| {
            let label = [kind.as_str()];
            let last_error = self.last_errors.iter().find(|(of, _)| *of == kind).map(|(_, error)| error.clone());
            ActorReport {
                actor: kind.as_str().to_owned(),
                alive: metrics.actor_alive.with_label_values(&label).get() > 0,
                restarts: metrics.actor_restarts.with_label_values(&label).get(),
                last_error,
                mailbox: u64::try_from(metrics.actor_mailbox_depth.with_label_values(&label).get()).unwrap_or(0),
            }
        });
        // What was never started belongs to a role that this node does not have.
        let started = |report: &ActorReport| metrics.actor_started.with_label_values(&[&report.actor]).get() > 0;
        reports.filter(started).collect()
    }
}

/// Beats until it is dropped. A heartbeat that takes too long is given up, so that the next one is in time.
pub fn beat(context: Arc<Context>) -> AbortOnDrop {
    AbortOnDrop(tokio::spawn(async move {
        let mut due = interval(context.settings.heartbeat);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_told = false;
        loop {
            let due_at = due.tick().await;
            let began = Instant::now();
            match beat_once(&context).await {
                Ok(()) => {
                    context.presence.confirm(began);
                    context.metrics.heartbeat_seconds.observe(due_at.elapsed().as_secs_f64());
                    if std::mem::take(&mut is_told) {
                        tracing::info!("heartbeats are confirmed again");
                    }
                }
                Err(error) if !is_told && context.presence.standing().is_none() => {
                    is_told = true;
                    tracing::warn!(%error, "heartbeats are not confirmed: others take this node for dead, and it takes no tasks");
                }
                Err(error) => tracing::debug!(%error, "heartbeat not confirmed"),
            }
        }
    }))
}

async fn beat_once(context: &Context) -> Result<(), PortError> {
    let row = context.presence.row(context);
    let limit = context.settings.lease / 2;
    let in_time = timeout(limit, context.ports.nodes.beat(&row)).await;
    in_time.unwrap_or_else(|_| Err(PortError::Unavailable(format!("no answer in {limit:?}"))))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
