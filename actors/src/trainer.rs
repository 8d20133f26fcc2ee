//! One slot: runs one attempt at a time, from the claimed record to its end in the store.
//!
//! Hears: `Run` and `Stop` from the pool; `Ended` from its attempt. Asks: the dataset loader (in the attempt).
//! Tells: the pool, when an attempt has made progress and when it has ended; the task's log.
//! If it dies: its attempt stops at the next batch, the pool releases the task, and the next trainer goes on from the
//! last checkpoint.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinError},
};

use crate::{
    attempt::{Attempt, StopWhy},
    context::Context,
    dataset_loader::DatasetLoader,
    handle::Mail,
    metrics::ActorKind,
    ports::Control,
    task::{Failure, Fence, TaskRecord},
    trainer_pool,
};

pub enum Msg {
    Run { order: Box<Order> },
    Stop { why: StopWhy },
    Ended { fence: Fence, ending: Ending },
}

/// How an attempt ended.
pub enum Ending {
    /// It needs nothing more from this node.
    Settled,
    Failed(Failure),
    Panicked(String),
}

/// A claimed task, handed to a slot.
pub struct Order {
    pub record: TaskRecord,
    pub fence: Fence,
    pub control: Arc<Control>,
}

/// What a trainer ends with after an error. A panic is bare text: ractor hands it on like that.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.message)]
pub struct Broken(pub Failure);

/// Why an actor failed, as a label.
pub fn stop_reason(error: &ActorProcessingErr) -> &'static str {
    match error.downcast_ref::<Broken>() {
        Some(Broken(_)) => "error",
        None => "panic",
    }
}

pub struct Trainer {
    pub slot: usize,
    pub context: Arc<Context>,
    pub loader: DatasetLoader,
    pub pool: ActorRef<Mail<trainer_pool::Msg>>,
}

#[derive(Default)]
pub struct State {
    running: Option<Running>,
}

/// Ends the attempt when it is dropped: after a panic or a kill no hook runs, but the state is dropped.
struct Running {
    control: Arc<Control>,
    stop: watch::Sender<Option<StopWhy>>,
    attempt: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.control.stop();
        self.attempt.abort();
    }
}

impl Actor for Trainer {
    type Msg = Mail<Msg>;
    type State = State;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Mail<Msg>>, (): ()) -> Result<State, ActorProcessingErr> {
        Ok(State::default())
    }

    async fn handle(
        &self,
        myself: ActorRef<Mail<Msg>>,
        mail: Mail<Msg>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let (message, _permit) = mail.open(ActorKind::Trainer, &self.context.metrics);
        match message {
            Msg::Run { order } => self.run(myself, state, *order),
            Msg::Stop { why } => self.stop(state, why),
            Msg::Ended { fence, ending } => self.ended(state, fence, ending)?,
        }
        Ok(())
    }
}

impl Trainer {
    fn run(&self, myself: ActorRef<Mail<Msg>>, state: &mut State, order: Order) {
        let (stop, stopped) = watch::channel(None);
        let (control, fence) = (order.control.clone(), order.fence);
        let attempt =
            Attempt::new(self.context.clone(), self.loader.clone(), self.slot, order, stopped, self.progressed(fence));
        let running = tokio::spawn(attempt.run());
        state.running = Some(Running { control, stop, attempt: running.abort_handle() });
        tokio::spawn(async move {
            let ending = ending(running.await);
            // A failed cast means that the trainer has died; the pool knows.
            let _ = myself.send_message(Mail::own(Msg::Ended { fence, ending }));
        });
    }

    /// Tells the pool that the attempt has made progress.
    fn progressed(&self, fence: Fence) -> Box<dyn Fn() + Send + Sync> {
        let (slot, pool) = (self.slot, self.pool.clone());
        Box::new(move || {
            let _ = pool.send_message(Mail::own(trainer_pool::Msg::Progressed { slot, fence }));
        })
    }

    fn stop(&self, state: &State, why: StopWhy) {
        if let Some(running) = &state.running {
            running.stop.send_replace(Some(why));
        }
    }

    fn ended(&self, state: &mut State, fence: Fence, ending: Ending) -> Result<(), ActorProcessingErr> {
        state.running = None;
        match ending {
            Ending::Settled => {}
            Ending::Failed(failure) => return Err(Broken(failure).into()),
            Ending::Panicked(text) => return Err(text.into()),
        }
        // A failed cast means that the pool has died, and this trainer is about to.
        let _ = self.pool.send_message(Mail::own(trainer_pool::Msg::AttemptEnded { slot: self.slot, fence }));
        Ok(())
    }
}

fn ending(outcome: Result<Result<(), Failure>, JoinError>) -> Ending {
    match outcome.map_err(JoinError::try_into_panic) {
        Ok(Ok(())) => Ending::Settled,
        Ok(Err(failure)) => Ending::Failed(failure),
        Err(Ok(panic)) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Ending::Panicked(format!("the attempt panicked: {}", text.unwrap_or_default()))
        }
        Err(Err(_)) => Ending::Failed(Failure::crashed("the attempt was aborted")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_told_from_an_error_by_what_happened_and_not_by_its_text() {
        let error = || Failure::crashed("the attempt panicked: or so it says");
        let ended = |outcome| match ending(outcome) {
            Ending::Settled => "settled",
            Ending::Failed(failure) => stop_reason(&Broken(failure).into()),
            Ending::Panicked(text) => stop_reason(&text.into()),
        };
        assert_eq!(ended(Ok(Ok(()))), "settled");
        assert_eq!(ended(Ok(Err(error()))), "error");
        assert_eq!(ended(Err(tokio::spawn(async { panic!("scripted") }).await.unwrap_err())), "panic");
    }
}
