//! One attempt at a task: load, train, checkpoint, publish, end.
//!
//! Everything it writes carries its fence. When a write is refused because the attempt is no longer the current one, it
//! just stops: somebody else has the task.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::future::maybe_done;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, interval_at, sleep, sleep_until, timeout},
};

use crate::{
    checkpoint_policy,
    commit::CommitError,
    context::Context,
    dataset_loader::{DatasetLoader, Loaded},
    ports::{Control, EngineError, Fitted, PortError, Report, Work},
    task::{Failure, FailureKind, Fence, TaskRecord},
    trainer::Order,
    transition::{Input, Next, Refused},
};

mod saving;
mod telling;

/// Progress facts come at most this often.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// Reports under way from the engine; one that is further ahead waits.
const REPORTS: usize = 2;
/// While it waits for others, an attempt says this often that it is alive.
const BEAT_INTERVAL: Duration = Duration::from_secs(1);
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(1);
/// Tries to write an attempt's end, each as patient as any write.
const CONCLUDE_TRIES: u32 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopWhy {
    Cancel,
    Drain,
}

/// Why an attempt does not go on.
#[derive(Debug)]
enum Halt {
    /// Another attempt is the current one, or the task has ended.
    Fenced,
    Stopped(StopWhy),
    /// The attempt ends; its trainer is fine.
    Ended(Failure),
    /// The trainer is to be replaced.
    Crashed(Failure),
}

pub struct Attempt {
    context: Arc<Context>,
    loader: DatasetLoader,
    slot: usize,
    record: TaskRecord,
    fence: Fence,
    control: Arc<Control>,
    stop: watch::Receiver<Option<StopWhy>>,
    progressed: Box<dyn Fn() + Send + Sync>,
    teller: telling::Teller,
    /// What the last checkpoint took.
    checkpoint_cost: Option<Duration>,
    /// Something may be stored that no pointer names.
    has_leftovers: bool,
    /// The node's, when it was last seen to hold the task.
    standing: Option<u64>,
}

impl Attempt {
    pub fn new(
        context: Arc<Context>,
        loader: DatasetLoader,
        slot: usize,
        order: Order,
        stop: watch::Receiver<Option<StopWhy>>,
        progressed: Box<dyn Fn() + Send + Sync>,
    ) -> Self {
        let Order { record, fence, control } = order;
        // The claim has written the attempt's fact 0.
        let teller = telling::Teller::new(record.id, fence.attempt, 1);
        let standing = context.presence.standing();
        Self {
            context,
            loader,
            slot,
            record,
            fence,
            control,
            stop,
            progressed,
            teller,
            checkpoint_cost: None,
            // An earlier one's, perhaps.
            has_leftovers: fence.attempt > 1,
            standing,
        }
    }

    /// Returns when the attempt has ended in the store, or with the failure of its trainer.
    pub async fn run(mut self) -> Result<(), Failure> {
        match self.train().await {
            Ok(()) | Err(Halt::Fenced) => Ok(()),
            Err(Halt::Stopped(why)) => {
                self.stopped(why).await;
                Ok(())
            }
            Err(Halt::Ended(failure)) => {
                self.end(failure).await;
                Ok(())
            }
            Err(Halt::Crashed(failure)) => Err(failure),
        }
    }

    async fn train(&mut self) -> Result<(), Halt> {
        let loaded = self.load().await?;
        loop {
            let checkpoint = self.read_checkpoint().await?;
            match self.fit(&loaded, checkpoint).await? {
                Ok(Fitted::Finished(trained)) => return self.finish(*trained).await,
                Ok(Fitted::Stopped(snapshot)) => {
                    let why = self.stop.borrow().unwrap_or(StopWhy::Drain);
                    if why == StopWhy::Drain && snapshot.step > self.record.resume_step() {
                        self.save(snapshot, None).await?;
                    }
                    return Err(Halt::Stopped(why));
                }
                Err(error) => self.recover(error).await?,
            }
        }
    }

    /// A checkpoint that the engine cannot read gives way to the one before; other errors end the attempt.
    async fn recover(&mut self, error: EngineError) -> Result<(), Halt> {
        match (error, self.record.newest_checkpoint().copied()) {
            (EngineError::BadCheckpoint(why), Some(newest)) => self.lose_checkpoint(newest.artifact, why).await,
            (error, _) => Err(halt(error)),
        }
    }

    /// The dataset may have to be downloaded first; the attempt is alive meanwhile, and hears when it shall stop.
    async fn load(&mut self) -> Result<Loaded, Halt> {
        let loader = self.loader.clone();
        let mut loading =
            pin!(loader.load(self.record.spec.dataset().clone(), self.record.dataset.as_deref().cloned()));
        let mut beats = interval(BEAT_INTERVAL);
        loop {
            tokio::select! {
                loaded = &mut loading => return loaded.map_err(|error| Halt::Ended(error.failure())),
                why = stop_asked(&mut self.stop) => return Err(Halt::Stopped(why)),
                _ = beats.tick() => self.control.beat(),
            }
        }
    }

    async fn start(&mut self, loaded: &Loaded) -> Result<(), Halt> {
        let n = self.teller.next_n();
        self.commit(Input::Start { fence: self.fence, dataset: loaded.used.clone(), n }).await
    }

    /// Runs the engine, and does what it asks for meanwhile.
    async fn fit(&mut self, loaded: &Loaded, checkpoint: Option<Bytes>) -> Result<Result<Fitted, EngineError>, Halt> {
        let (reports, mut heard) = mpsc::channel(REPORTS);
        self.control.set_progress(*self.record.progress);
        let engine = self.context.ports.engine.clone();
        let mut fitting = pin!(maybe_done(engine.fit(Work {
            task: self.record.id,
            slot: self.slot,
            spec: self.record.spec.clone(),
            dataset: loaded.dataset.clone(),
            checkpoint,
            control: self.control.clone(),
            reports,
        })));
        // The engine gets ready meanwhile; what it reports is heard of after that.
        beside(self.start(loaded), fitting.as_mut()).await?;
        let (mut progress_due, mut heartbeat) = (ticks(PROGRESS_INTERVAL), ticks(self.context.settings.heartbeat));
        let mut checkpoint_due: Option<Instant> = None;
        loop {
            tokio::select! {
                biased;
                _ = stop_asked(&mut self.stop), if !self.control.is_stopping() => self.control.stop(),
                Some(report) = heard.recv() => {
                    self.heed(report).await?;
                    checkpoint_due = Some(Instant::now() + self.checkpoint_interval());
                }
                () = &mut fitting => {
                    while let Ok(report) = heard.try_recv() {
                        self.heed(report).await?;
                    }
                    return Ok(fitting.as_mut().take_output().expect("it is done, and nobody has taken it"));
                }
                () = sleep_until(checkpoint_due.unwrap_or_else(Instant::now)), if checkpoint_due.is_some() => {
                    checkpoint_due = None;
                    self.control.want_checkpoint();
                }
                _ = progress_due.tick() => {
                    if self.may_speak().await? {
                        self.tell_progress().await;
                    }
                }
                _ = heartbeat.tick() => self.heartbeat().await?,
            }
        }
    }

    async fn heed(&mut self, report: Report) -> Result<(), Halt> {
        match report {
            Report::FirstStep { began } => {
                self.note_first_step(began);
                if self.may_speak().await? {
                    self.tell_progress().await;
                }
                Ok(())
            }
            Report::Checkpoint(snapshot) => self.save(snapshot, None).await,
            Report::EpochFinished(metrics, snapshot) => self.save(snapshot, Some(metrics)).await,
        }
    }

    fn note_first_step(&self, began: std::time::Instant) {
        if self.fence.attempt == 1 {
            let since_submitted = self.context.ports.clock.now().since(self.record.created_at);
            let until_it_began = since_submitted.saturating_sub(began.elapsed());
            self.context.metrics.task_first_step_seconds.observe(until_it_began.as_secs_f64());
        }
    }

    fn checkpoint_interval(&self) -> Duration {
        checkpoint_policy::interval(self.checkpoint_cost, self.context.settings.checkpoint_interval_max)
    }

    /// Whether facts that no compare-and-set guards may be written. A node that others may have taken for dead looks at the
    /// task first: somebody else may have it.
    async fn may_speak(&mut self) -> Result<bool, Halt> {
        let standing = self.context.presence.standing();
        if standing.is_some() && standing != self.standing {
            self.heartbeat().await?;
            self.standing = standing;
        }
        Ok(standing.is_some())
    }

    /// Looks whether the task is still this attempt's, and whether somebody wants it cancelled.
    async fn heartbeat(&mut self) -> Result<(), Halt> {
        match self.context.ports.tasks.get(self.record.id).await {
            Ok(Some(record)) if !record.holds(self.fence) => {
                self.context.metrics.fenced.with_label_values(&["heartbeat"]).inc();
                Err(Halt::Fenced)
            }
            Ok(Some(record)) => {
                if record.cancel_requested && !self.control.is_stopping() {
                    self.tell_cancel_requested().await;
                    return Err(Halt::Stopped(StopWhy::Cancel));
                }
                Ok(())
            }
            Ok(None) => Err(Halt::Fenced),
            // Whether it still holds the task shows at its next write.
            Err(error) => {
                tracing::debug!(task = %self.record.id, %error, "heartbeat not read");
                Ok(())
            }
        }
    }

    async fn stopped(&mut self, why: StopWhy) {
        match why {
            StopWhy::Drain => self.end(Failure::drained()).await,
            StopWhy::Cancel => {
                self.tell_cancel_requested().await;
                self.conclude(Input::ConfirmCancel { fence: self.fence }).await;
            }
        }
    }

    async fn end(&mut self, failure: Failure) {
        let retry_after = self.context.retry_delay(&self.record, failure.kind);
        self.conclude(Input::EndAttempt { fence: self.fence, failure, retry_after }).await;
    }

    /// Writes the attempt's end, however long the store is away: nobody else knows how it ended, and whether it is to be
    /// charged. An end that could not be written even so is found by the pool's search for orphans.
    async fn conclude(&mut self, end: Input) {
        for _ in 0..CONCLUDE_TRIES {
            match self.commit(end.clone()).await {
                Ok(()) if self.record.state.is_terminal() => return self.announce().await,
                Ok(()) | Err(Halt::Fenced | Halt::Stopped(_)) => return,
                Err(Halt::Ended(failure) | Halt::Crashed(failure)) => {
                    tracing::warn!(task = %self.record.id, why = failure.message, "the attempt's end is not written yet");
                }
            }
            self.control.beat();
            sleep(BEAT_INTERVAL).await;
        }
    }

    /// The slot is needed for other tasks: a log that is away is waited for by the reconciler.
    async fn announce(&self) {
        let announcing = timeout(ANNOUNCE_TIMEOUT, self.context.committer.announce(&self.record));
        if !matches!(announcing.await, Ok(Ok(()))) {
            tracing::warn!(task = %self.record.id, "end not announced yet; the reconciler will");
        }
    }

    /// Makes `input` happen, after everything told before it is in the log.
    async fn commit(&mut self, input: Input) -> Result<(), Halt> {
        self.confirm_told().await?;
        match self.context.committer.commit_from(self.record.clone(), &input).await {
            Ok(Next { record, facts }) => {
                self.has_leftovers |= self.record.checkpoints.iter().any(|before| !record.checkpoints.contains(before));
                self.record = record;
                self.teller.told(facts.len());
                Ok(())
            }
            Err(CommitError::Refused(Refused::NotNewer | Refused::AlreadySo)) => self.read_again().await,
            Err(CommitError::Refused(_) | CommitError::NoSuchTask(_)) => Err(Halt::Fenced),
            Err(CommitError::Port(error)) => Err(Halt::Ended(port_failure(&error))),
        }
    }

    /// What was to be written is so already: whoever looks next needs the record that says so.
    async fn read_again(&mut self) -> Result<(), Halt> {
        self.has_leftovers = true;
        let read = self.context.ports.tasks.get(self.record.id).await;
        self.record = read.map_err(|error| Halt::Ended(port_failure(&error)))?.ok_or(Halt::Fenced)?;
        Ok(())
    }
}

/// Waits for `this`, and keeps `other` going.
async fn beside<T>(this: impl Future<Output = T>, mut other: Pin<&mut impl Future>) -> T {
    let mut this = pin!(this);
    poll_fn(|context| {
        let _ = other.as_mut().poll(context);
        this.as_mut().poll(context)
    })
    .await
}

async fn stop_asked(stop: &mut watch::Receiver<Option<StopWhy>>) -> StopWhy {
    let asked = stop.wait_for(Option::is_some).await.map(|why| *why);
    match asked {
        Ok(why) => why.unwrap_or(StopWhy::Drain),
        // The trainer is gone and about to abort this attempt.
        Err(_) => std::future::pending().await,
    }
}

/// The first comes after a period: what has just begun has nothing to tell, and has just been seen to hold its task.
fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// A trainer whose training crashed is replaced; every other failure is the attempt's alone.
fn halt(error: EngineError) -> Halt {
    let failure = match error {
        EngineError::Failed(failure) => failure,
        EngineError::BadCheckpoint(why) => Failure::crashed(why),
    };
    if failure.kind == FailureKind::Crashed { Halt::Crashed(failure) } else { Halt::Ended(failure) }
}

fn port_failure(error: &PortError) -> Failure {
    Failure::new(FailureKind::Infrastructure, error.to_string())
}
