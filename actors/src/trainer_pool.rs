//! Claims tasks when a slot is free, and supervises one trainer per slot.
//!
//! Hears: hints from the bus; `Cancel` from the dispatcher; `Drain` from the node; its trainers; its own timers.
//! Asks: nobody. Tells: its trainers. Hints are latency; the scan of the store is the guarantee.
//! If it dies: its trainers die with it, and its successor releases their tasks (the search for orphans) and runs them.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    attempt::StopWhy,
    background::{AbortOnDrop, unless_it_panics},
    context::Context,
    dataset_loader::DatasetLoader,
    handle::{ASK_TIMEOUT, AskError, Crash, Handle, Mail},
    metrics::ActorKind,
    task::{Failure, Fence, TaskId, TaskRecord},
    trainer::{Order, stop_reason},
};

mod claiming;
mod hints;
mod slots;
#[cfg(test)]
mod tests;

use claiming::{Claim, Claimed, Seat};
use hints::{Backlog, Heeded, Hints};
use slots::{Held, Slot};

pub type TrainerPool = Handle<Msg>;

impl TrainerPool {
    /// Has a task's cancellation seen at once, if it runs here. Otherwise the owner's heartbeat sees it.
    pub fn cancel(&self, task: TaskId) {
        let _ = self.offer(Msg::Cancel { task });
    }

    /// Takes no more work, has every attempt checkpoint and release its task, and returns when all slots are empty.
    pub async fn drain(&self, limit: Duration) -> Result<(), AskError> {
        self.insist(limit, |reply| Msg::Drain { reply }).await
    }

    /// Fault injection: the trainer of `slot` panics.
    pub async fn crash_trainer(&self, slot: usize) -> Result<Crash, AskError> {
        self.ask(ASK_TIMEOUT, |reply| Msg::CrashTrainer { slot, reply }).await
    }
}

pub enum Msg {
    /// There may be work.
    Hinted,
    ScanDue,
    Claimed {
        slot: usize,
        outcome: Claim,
    },
    Progressed {
        slot: usize,
        fence: Fence,
    },
    AttemptEnded {
        slot: usize,
        fence: Fence,
    },
    RestartDue {
        slot: usize,
    },
    StallCheckDue,
    OrphanCheckDue,
    RunningRead {
        records: Vec<TaskRecord>,
    },
    Released {
        fence: Fence,
    },
    Cancel {
        task: TaskId,
    },
    CrashTrainer {
        slot: usize,
        reply: RpcReplyPort<Crash>,
    },
    Drain {
        reply: RpcReplyPort<()>,
    },
}

pub struct Pool {
    pub context: Arc<Context>,
    pub loader: DatasetLoader,
}

pub struct State {
    slots: Vec<Slot>,
    trainers: HashMap<ActorId, usize>,
    /// The nonce of the claim that is under way: one at a time.
    claiming: Option<Uuid>,
    /// More work may have come while a claim was under way.
    look_again: bool,
    backlog: Backlog,
    /// What is being given back.
    releasing: HashSet<Fence>,
    draining: Option<Vec<RpcReplyPort<()>>>,
    /// Until it has looked for orphans once, a pool does not know what its predecessor has left.
    knows_orphans: bool,
    heeded: Heeded,
    _hints: AbortOnDrop,
}

impl Actor for Pool {
    type Msg = Mail<Msg>;
    type State = State;
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<Mail<Msg>>, (): ()) -> Result<State, ActorProcessingErr> {
        let hints = Hints::default();
        // A predecessor's trainers have died with it.
        self.context.metrics.actor_alive.with_label_values(&[ActorKind::Trainer.as_str()]).set(0);
        Ok(State {
            slots: (0..self.context.settings.slots).map(|_| Slot::default()).collect(),
            trainers: HashMap::new(),
            claiming: None,
            look_again: false,
            backlog: Backlog::Unread,
            releasing: HashSet::new(),
            draining: None,
            knows_orphans: false,
            _hints: self.listen(myself, hints.clone()),
            heeded: Heeded { bus: self.context.ports.bus.clone(), hints, heeded: Vec::new() },
        })
    }

    async fn post_start(&self, myself: ActorRef<Mail<Msg>>, state: &mut State) -> Result<(), ActorProcessingErr> {
        for slot in 0..state.slots.len() {
            self.start_trainer(&myself, state, slot).await;
        }
        for first in [Msg::OrphanCheckDue, Msg::ScanDue, Msg::StallCheckDue] {
            // A failed cast means that the pool has ended.
            let _ = myself.send_message(Mail::own(first));
        }
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Mail<Msg>>,
        mail: Mail<Msg>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let (message, _permit) = mail.open(ActorKind::TrainerPool, &self.context.metrics);
        match message {
            Msg::Hinted => self.hinted(&myself, state),
            Msg::ScanDue => self.scan_due(&myself, state),
            Msg::Claimed { slot, outcome } => self.claimed(&myself, state, slot, outcome),
            Msg::Progressed { slot, fence } => self.progressed(&myself, state, slot, fence),
            Msg::AttemptEnded { slot, fence } => self.attempt_ended(&myself, state, slot, fence),
            Msg::RestartDue { slot } => self.restart_due(&myself, state, slot).await,
            Msg::StallCheckDue => self.stall_check_due(&myself, state),
            Msg::OrphanCheckDue => self.orphan_check_due(myself),
            Msg::RunningRead { records } => self.release_orphans(&myself, state, records),
            Msg::Released { fence } => {
                state.releasing.remove(&fence);
                self.drained(state);
            }
            Msg::Cancel { task } => self.cancel(state, task),
            Msg::CrashTrainer { slot, reply } => {
                // Who asked may have stopped waiting.
                let _ = reply.send(slots::crash(state, slot));
            }
            Msg::Drain { reply } => self.drain(state, reply),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Mail<Msg>>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(cell, error) => {
                self.trainer_down(&myself, state, cell.get_id(), stop_reason(&error), error.to_string());
            }
            SupervisionEvent::ActorTerminated(cell, _, reason) => {
                let reason = reason.unwrap_or_else(|| "stopped".to_owned());
                self.trainer_down(&myself, state, cell.get_id(), "killed", reason);
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
            #[allow(unreachable_patterns)] // ractor's cluster features add variants
            _ => {}
        }
        Ok(())
    }
}

impl Pool {
    /// Turns hints into at most one waiting message.
    fn listen(&self, myself: ActorRef<Mail<Msg>>, hints: Hints) -> AbortOnDrop {
        let bus = self.context.ports.bus.clone();
        AbortOnDrop(tokio::spawn(async move {
            loop {
                match bus.receive().await {
                    Ok(hint) => {
                        if hints.add(hint) && myself.send_message(Mail::own(Msg::Hinted)).is_err() {
                            return;
                        }
                    }
                    Err(error) => {
                        tracing::debug!(%error, "no hints; the scan finds tasks meanwhile");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
            }
        }))
    }

    fn scan_due(&self, myself: &ActorRef<Mail<Msg>>, state: &mut State) {
        self.look_for_work(myself, state);
        myself.send_after(self.context.scan_interval(), || Mail::own(Msg::ScanDue));
    }

    /// With a free slot, hints are acknowledged when the claim they led to is durable; without one they are dropped: their
    /// tasks are in the queue, which is looked at as soon as a slot is free.
    fn hinted(&self, myself: &ActorRef<Mail<Msg>>, state: &mut State) {
        state.backlog.add(state.heeded.heed());
        self.look_for_work(myself, state);
        if state.claiming.is_none() {
            state.heeded.acknowledge();
        }
    }

    /// Starts a claim if there is a free slot. One at a time, so that a decision sees the outcome of the one before.
    fn look_for_work(&self, myself: &ActorRef<Mail<Msg>>, state: &mut State) {
        if state.draining.is_some() || !self.context.may_claim() {
            // What has come since then will not be known when it may claim again.
            state.backlog = Backlog::Unread;
            return;
        }
        if state.claiming.is_some() {
            state.look_again = true;
            return;
        }
        let Some(slot) = state.slots.iter().position(Slot::is_free) else {
            state.backlog = Backlog::Unread;
            return;
        };
        let hinted = state.backlog.take();
        let nonce = Uuid::new_v4();
        state.claiming = Some(nonce);
        state.look_again = false;
        let seat = Seat { slot, nonce, busy: state.slots.iter().filter_map(Slot::suspect).collect() };
        let (context, myself) = (self.context.clone(), myself.clone());
        tokio::spawn(async move {
            let claiming = async move { claiming::claim(&context, &seat, &hinted).await };
            let outcome = unless_it_panics(claiming).await.unwrap_or(Claim::Unknown);
            // A failed cast means that the pool has died: its successor finds the task as an orphan.
            let _ = myself.send_message(Mail::own(Msg::Claimed { slot, outcome }));
        });
    }

    fn claimed(&self, myself: &ActorRef<Mail<Msg>>, state: &mut State, slot: usize, outcome: Claim) {
        state.claiming = None;
        state.heeded.acknowledge();
        state.backlog.note(&outcome);
        let found = matches!(outcome, Claim::Claimed(_));
        if let Claim::Claimed(claimed) = outcome
            && let Err(claimed) = self.hand_over(state, slot, claimed)
        {
            self.release(myself, state, *claimed, Failure::drained());
        }
        self.note_slots(state);
        if found || state.look_again {
            self.look_for_work(myself, state);
        }
        self.drained(state);
    }

    /// Gives a claimed task to its slot's trainer; or gives it back, if there is none any more.
    fn hand_over(&self, state: &mut State, slot: usize, claimed: Box<Claimed>) -> Result<(), Box<Claimed>> {
        let free = &mut state.slots[slot];
        let (Some(trainer), None, None) = (&free.trainer, &free.held, &state.draining) else { return Err(claimed) };
        let held = Held::new(&claimed);
        let order = Order { record: claimed.record.clone(), fence: claimed.fence, control: held.control.clone() };
        let run = crate::trainer::Msg::Run { order: Box::new(order) };
        if trainer.send_message(Mail::own(run)).is_err() {
            return Err(claimed);
        }
        free.held = Some(held);
        Ok(())
    }

    fn progressed(&self, myself: &ActorRef<Mail<Msg>>, state: &mut State, slot: usize, fence: Fence) {
        if let Some(held) = state.slots[slot].holding(fence) {
            // As the checkpoint's transition has it: who was a suspect until now lets others run beside it.
            held.record.no_progress = 0;
            state.slots[slot].failures = 0;
            self.look_for_work(myself, state);
        }
    }

    fn attempt_ended(&self, myself: &ActorRef<Mail<Msg>>, state: &mut State, slot: usize, fence: Fence) {
        if state.slots[slot].holding(fence).is_some() {
            state.slots[slot].held = None;
        }
        self.note_slots(state);
        self.look_for_work(myself, state);
        self.drained(state);
    }

    fn cancel(&self, state: &mut State, task: TaskId) {
        for slot in &state.slots {
            if slot.held.as_ref().is_some_and(|held| held.record.id == task) {
                slot.tell_stop(StopWhy::Cancel);
            }
        }
    }

    fn drain(&self, state: &mut State, reply: RpcReplyPort<()>) {
        state.draining.get_or_insert_default().push(reply);
        state.slots.iter().for_each(|slot| slot.tell_stop(StopWhy::Drain));
        self.drained(state);
    }

    /// Tells who waits for the drain when nothing is held any more.
    fn drained(&self, state: &mut State) {
        let at_rest = state.knows_orphans && state.claiming.is_none() && state.releasing.is_empty();
        let empty = at_rest && state.slots.iter().all(|slot| slot.held.is_none());
        if let (true, Some(waiting)) = (empty, &mut state.draining) {
            for reply in waiting.drain(..) {
                // Who asked may have stopped waiting.
                let _ = reply.send(());
            }
        }
    }

    fn note_slots(&self, state: &State) {
        for (number, slot) in state.slots.iter().enumerate() {
            self.context.presence.slot_holds(number, slot.held.as_ref().map(|held| held.record.id));
        }
        let busy = state.slots.iter().filter(|slot| slot.held.is_some()).count();
        let gauge = &self.context.metrics.trainer_slots;
        gauge.with_label_values(&["busy"]).set(busy as i64);
        gauge.with_label_values(&["idle"]).set((state.slots.len() - busy) as i64);
    }

    fn stall_check_due(&self, myself: &ActorRef<Mail<Msg>>, state: &mut State) {
        let limit = self.context.settings.stall_timeout;
        let now = Instant::now();
        for slot in &mut state.slots {
            if slot.has_stalled(now, limit) {
                self.context.metrics.trainer_stalls.inc();
                slot.kill(Failure::crashed(format!("no progress for {} s", limit.as_secs_f64())));
            }
        }
        let next = (limit / 4).clamp(Duration::from_millis(10), Duration::from_secs(5));
        myself.send_after(next, || Mail::own(Msg::StallCheckDue));
    }

    fn orphan_check_due(&self, myself: ActorRef<Mail<Msg>>) {
        let context = self.context.clone();
        tokio::spawn(async move {
            let lease = context.settings.lease;
            let reading = async move { claiming::running_here(&context).await };
            // A read that failed says nothing about orphans. Failed casts mean that the pool has died.
            if let Some(Ok(records)) = unless_it_panics(reading).await {
                let _ = myself.send_message(Mail::own(Msg::RunningRead { records }));
            }
            myself.send_after(lease, || Mail::own(Msg::OrphanCheckDue));
        });
    }

    /// Releases what this incarnation owns and no slot runs or is about to. What is held is looked up after the read, so
    /// a task claimed meanwhile is not taken for an orphan.
    fn release_orphans(&self, myself: &ActorRef<Mail<Msg>>, state: &mut State, records: Vec<TaskRecord>) {
        for record in records {
            let Some(fence) = record.fence() else { continue };
            let in_work = state.claiming == Some(fence.nonce) || state.releasing.contains(&fence);
            if !in_work && !state.slots.iter().any(|slot| slot.holds(fence)) {
                let failure = Failure::crashed("its trainer pool was restarted");
                self.release(myself, state, Claimed { record, fence }, failure);
            }
        }
        state.knows_orphans = true;
        self.drained(state);
    }
}
