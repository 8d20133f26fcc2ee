//! The pool's slots: what each holds, and what becomes of it when its trainer ends.

use std::{sync::Arc, time::Duration};

use ractor::{Actor, ActorId, ActorRef};
use tokio::time::Instant;

use super::{Claimed, Msg, Pool, State};
use crate::{
    attempt::StopWhy,
    background::unless_it_panics,
    commit::CommitError,
    context::Context,
    handle::{Crash, Mail},
    metrics::ActorKind,
    ports::{Control, Hint},
    restart_policy::chance,
    task::{Failure, Fence, TaskRecord},
    trainer::{self, Trainer},
    transition::Input,
};

#[derive(Default)]
pub struct Slot {
    pub trainer: Option<ActorRef<Mail<trainer::Msg>>>,
    pub held: Option<Held>,
    /// Trainers in a row that ended without progress.
    pub failures: u32,
    /// Why the pool killed the trainer.
    verdict: Option<Failure>,
}

/// The attempt that a slot runs.
pub struct Held {
    pub record: TaskRecord,
    pub fence: Fence,
    pub control: Arc<Control>,
    heard: (u64, Instant),
}

impl Held {
    pub fn new(claimed: &Claimed) -> Self {
        let control = Control::new(*claimed.record.progress);
        let heard = (control.beats(), Instant::now());
        Self { record: claimed.record.clone(), fence: claimed.fence, control, heard }
    }
}

impl Slot {
    pub fn is_free(&self) -> bool {
        self.trainer.is_some() && self.held.is_none()
    }

    pub fn holds(&self, fence: Fence) -> bool {
        self.held.as_ref().is_some_and(|held| held.fence == fence)
    }

    pub fn holding(&mut self, fence: Fence) -> Option<&mut Held> {
        self.held.as_mut().filter(|held| held.fence == fence)
    }

    /// Whether the held task, if there is one, must not have neighbours.
    pub fn suspect(&self) -> Option<bool> {
        self.held.as_ref().map(|held| held.record.is_suspect())
    }

    pub fn tell_stop(&self, why: StopWhy) {
        if let (Some(trainer), Some(_)) = (&self.trainer, &self.held) {
            // A failed cast means that the trainer has died: its end is about to be heard of.
            let _ = trainer.send_message(Mail::own(trainer::Msg::Stop { why }));
        }
    }

    pub fn has_stalled(&mut self, now: Instant, limit: Duration) -> bool {
        let Some(held) = &mut self.held else { return false };
        let beats = held.control.beats();
        if beats != held.heard.0 {
            held.heard = (beats, now);
        }
        self.verdict.is_none() && now.duration_since(held.heard.1) > limit
    }

    pub fn kill(&mut self, why: Failure) {
        if let Some(trainer) = &self.trainer {
            self.verdict = Some(why);
            trainer.get_cell().kill();
        }
    }
}

/// Has the slot's trainer panic.
pub fn crash(state: &State, slot: usize) -> Crash {
    match state.slots.get(slot).map(|slot| &slot.trainer) {
        None => Crash::Unknown,
        Some(Some(trainer)) if trainer.send_message(Mail::crash()).is_ok() => Crash::Sent,
        Some(_) => Crash::Restarting,
    }
}

async fn give_back(context: Arc<Context>, Claimed { record, fence }: Claimed, failure: Failure) {
    let (task, retry_after) = (record.id, context.retry_delay(&record, failure.kind));
    let input = Input::EndAttempt { fence, failure, retry_after };
    match context.committer.commit_from(record, &input).await {
        Ok(next) if next.record.state.is_terminal() => {
            if let Err(error) = context.committer.announce(&next.record).await {
                tracing::warn!(%task, %error, "end not announced yet; the reconciler will");
            }
        }
        Ok(next) => context.ports.bus.publish(Hint::of(&next.record)),
        // It ended by itself before its trainer did.
        Err(CommitError::Refused(_) | CommitError::NoSuchTask(_)) => {}
        Err(CommitError::Port(error)) => tracing::warn!(%task, %error, "task not released yet"),
    }
}

impl Pool {
    /// A failed start is one more failure of the slot.
    pub(super) async fn start_trainer(&self, myself: &ActorRef<Mail<Msg>>, state: &mut State, slot: usize) {
        let trainer =
            Trainer { slot, context: self.context.clone(), loader: self.loader.clone(), pool: myself.clone() };
        match Actor::spawn_linked(None, trainer, (), myself.get_cell()).await {
            Ok((trainer, _)) => {
                let label = [ActorKind::Trainer.as_str()];
                self.context.metrics.actor_started.with_label_values(&label).inc();
                self.context.metrics.actor_alive.with_label_values(&label).inc();
                state.trainers.insert(trainer.get_id(), slot);
                state.slots[slot].trainer = Some(trainer);
                self.context.presence.trainer_started(slot);
                self.note_slots(state);
            }
            Err(error) => {
                tracing::error!(slot, %error, "trainer not started");
                self.restart_later(myself, state, slot);
            }
        }
    }

    pub(super) async fn restart_due(&self, myself: &ActorRef<Mail<Msg>>, state: &mut State, slot: usize) {
        if state.draining.is_some() {
            return;
        }
        self.context.metrics.actor_restarts.with_label_values(&[ActorKind::Trainer.as_str()]).inc();
        self.start_trainer(myself, state, slot).await;
        self.look_for_work(myself, state);
    }

    /// Releases what the trainer held, and has a new one take its place.
    pub(super) fn trainer_down(
        &self,
        myself: &ActorRef<Mail<Msg>>,
        state: &mut State,
        id: ActorId,
        reason: &'static str,
        message: String,
    ) {
        let Some(slot) = state.trainers.remove(&id) else { return };
        let label = ActorKind::Trainer.as_str();
        self.context.metrics.actor_alive.with_label_values(&[label]).dec();
        self.context.metrics.actor_stopped.with_label_values(&[label, reason]).inc();
        state.slots[slot].trainer = None;
        let verdict = state.slots[slot].verdict.take();
        let failure = verdict.unwrap_or_else(|| Failure::crashed(message));
        tracing::warn!(slot, reason, why = failure.message, "trainer ended; it will be replaced");
        self.context.presence.trainer_ended(slot, &failure.message);
        if let Some(held) = state.slots[slot].held.take() {
            self.release(myself, state, Claimed { record: held.record, fence: held.fence }, failure);
        }
        self.note_slots(state);
        self.restart_later(myself, state, slot);
        self.drained(state);
    }

    /// Gives a task back, in the background. If that fails, the search for orphans does it later.
    pub(super) fn release(&self, myself: &ActorRef<Mail<Msg>>, state: &mut State, claimed: Claimed, failure: Failure) {
        let (context, myself, fence) = (self.context.clone(), myself.clone(), claimed.fence);
        state.releasing.insert(fence);
        tokio::spawn(async move {
            unless_it_panics(give_back(context, claimed, failure)).await;
            // A failed cast means that the pool has died.
            let _ = myself.send_message(Mail::own(Msg::Released { fence }));
        });
    }

    fn restart_later(&self, myself: &ActorRef<Mail<Msg>>, state: &mut State, slot: usize) {
        state.slots[slot].failures += 1;
        let delay = self.context.settings.backoff.delay(state.slots[slot].failures, chance());
        let label = [ActorKind::Trainer.as_str()];
        self.context.metrics.supervisor_backoff.with_label_values(&label).set(delay.as_secs_f64());
        myself.send_after(delay, move || Mail::own(Msg::RestartDue { slot }));
    }
}
