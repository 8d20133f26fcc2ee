//! Finds what fell between: tasks whose owner is dead, ends that nobody announced. Says to others that this node lives.
//!
//! Hears: `ScanDue` from itself, at once when it starts and then every second, or with every heartbeat if there are other
//! nodes to watch, and more often when one of them is silent; `RetentionDue`, once an hour. Asks: nobody; scans the store and the registry of nodes.
//! Tells: the registry; the bus, about tasks that are free again. Counts tasks by state on the way.
//! If it dies: nothing is lost; its successor beats and scans at once, well within a lease.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::{
    background::AbortOnDrop,
    commit::CommitError,
    context::{Context, Settings},
    event::Seq,
    handle::{Handle, Mail},
    metrics::ActorKind,
    observer::Observer,
    ports::{Hint, PortError},
    presence, retention,
    task::{Incarnation, TaskId, TaskRecord, TaskState},
    transition::{Input, Next},
};

pub type Reconciler = Handle<Msg>;

/// Tasks looked at in one scan; the next scan sees the rest.
const PAGE: usize = 10_000;
/// Counting is cheap and dashboards are read by people.
const SCAN_INTERVAL_MAX: Duration = Duration::from_secs(1);
/// A dead node's tasks do not wait longer than this for a log that is away.
const RELAY_TIMEOUT: Duration = Duration::from_secs(1);

pub enum Msg {
    ScanDue,
    RetentionDue,
}

pub struct Scanner {
    pub context: Arc<Context>,
}

pub struct State {
    /// Who else is there. A node that is alone knows: nobody.
    others: Option<Arc<Mutex<Observer>>>,
    _watching: Option<AbortOnDrop>,
    /// Ends that the last scan found unannounced: whoever ended them may still be at it.
    unannounced: HashSet<TaskId>,
    announcing: Option<AbortOnDrop>,
    _heartbeat: AbortOnDrop,
}

impl Actor for Scanner {
    type Msg = Mail<Msg>;
    type State = State;
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<Mail<Msg>>, (): ()) -> Result<State, ActorProcessingErr> {
        for first in [Msg::ScanDue, Msg::RetentionDue] {
            // A failed cast means that the actor has ended.
            let _ = myself.send_message(Mail::own(first));
        }
        let Context { me, settings, .. } = &*self.context;
        let observer = || Arc::new(Mutex::new(Observer::new(me.clone(), settings.lease, settings.heartbeat)));
        let others = (!settings.alone).then(observer);
        let _watching = others.clone().map(|others| AbortOnDrop(tokio::spawn(watch(self.context.clone(), others))));
        let _heartbeat = presence::beat(self.context.clone());
        Ok(State { others, _watching, unannounced: HashSet::new(), announcing: None, _heartbeat })
    }

    async fn handle(
        &self,
        myself: ActorRef<Mail<Msg>>,
        mail: Mail<Msg>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let (message, _permit) = mail.open(ActorKind::Reconciler, &self.context.metrics);
        match message {
            Msg::ScanDue => self.scan_due(&myself, state).await,
            Msg::RetentionDue => self.retention_due(myself),
        }
        Ok(())
    }
}

impl Scanner {
    async fn scan_due(&self, myself: &ActorRef<Mail<Msg>>, state: &mut State) {
        if let Err(error) = self.scan(state).await {
            tracing::warn!(%error, "cannot scan the task store");
        }
        let Settings { lease, heartbeat, .. } = self.context.settings;
        let next = match &state.others {
            None => lease.min(SCAN_INTERVAL_MAX),
            Some(others) if lock(others).is_suspicious() => heartbeat / 4,
            Some(_) => heartbeat,
        };
        myself.send_after(next, || Mail::own(Msg::ScanDue));
    }

    /// Takes its time, so not in the mailbox.
    fn retention_due(&self, myself: ActorRef<Mail<Msg>>) {
        let context = self.context.clone();
        tokio::spawn(async move {
            if let Err(error) = retention::apply(&context).await {
                tracing::warn!(%error, "old tasks and facts not removed yet");
            }
            myself.send_after(retention::INTERVAL, || Mail::own(Msg::RetentionDue));
        });
    }

    async fn scan(&self, state: &mut State) -> Result<(), PortError> {
        let tasks = &self.context.ports.tasks;
        for (state, count) in tasks.counts().await? {
            self.context.metrics.tasks.with_label_values(&[state.as_str()]).set(count as i64);
        }
        let unfinished = [TaskState::Running, TaskState::Succeeded, TaskState::Failed, TaskState::Cancelled];
        let seen_before = std::mem::take(&mut state.unannounced);
        let mut left = Vec::new();
        let records = tasks.queue(&unfinished, PAGE).await?;
        let owners: Vec<Incarnation> = records.iter().filter_map(owner_of).cloned().collect();
        for record in records {
            match owner_of(&record) {
                Some(owner) if state.is_dead(owner, &self.context.me) => self.reap(state, record).await?,
                Some(_) => {}
                // Each announcement is patient: one that waited in vain for the log is enough for this scan.
                None => {
                    state.unannounced.insert(record.id);
                    if seen_before.contains(&record.id) {
                        left.push(record);
                    }
                }
            }
        }
        if let Some(others) = &state.others {
            lock(others).retain(&owners);
        }
        self.announce_all(state, left);
        Ok(())
    }

    /// Announces, in the background: while the log is away each waits for it.
    fn announce_all(&self, state: &mut State, left: Vec<TaskRecord>) {
        if left.is_empty() || state.announcing.as_ref().is_some_and(|AbortOnDrop(announcing)| !announcing.is_finished())
        {
            return;
        }
        let context = self.context.clone();
        state.announcing = Some(AbortOnDrop(tokio::spawn(async move {
            for record in left {
                if !announce(&context, &record).await {
                    return;
                }
            }
        })));
    }

    /// An error means that the store is away: whoever is next would wait for it as long.
    async fn reap(&self, state: &mut State, record: TaskRecord) -> Result<(), PortError> {
        let Some(fence) = record.fence() else { return Ok(()) };
        let id = record.id;
        let why = format!("{} is gone", record.worker_id.as_deref().unwrap_or("its worker"));
        match self.context.committer.commit_from(record, &Input::Reap { fence, why }).await {
            Ok(Next { record, .. }) if record.state.is_terminal() => self.announce_all(state, vec![record]),
            Ok(Next { record, .. }) => {
                tracing::info!(task = %record.id, attempt = record.attempt, "released: its worker is gone");
                self.context.ports.bus.publish(Hint::of(&record));
            }
            // Somebody else was faster.
            Err(CommitError::Refused(_) | CommitError::NoSuchTask(_)) => {}
            Err(CommitError::Port(error)) if error.is_transient() => return Err(error),
            // Those after it shall not wait for it.
            Err(CommitError::Port(error)) => {
                tracing::error!(task = %id, %error, "cannot be released: what is stored of it is damaged");
            }
        }
        Ok(())
    }
}

impl State {
    fn is_dead(&mut self, owner: &Incarnation, me: &Incarnation) -> bool {
        match &mut self.others {
            Some(others) => lock(others).is_dead(owner),
            None => owner != me,
        }
    }
}

/// Who runs the task, if somebody does.
fn owner_of(record: &TaskRecord) -> Option<&Incarnation> {
    record.owner.as_ref().filter(|_| record.state == TaskState::Running).map(|owner| &owner.incarnation)
}

/// `false` when the log or the store did not answer.
async fn announce(context: &Context, record: &TaskRecord) -> bool {
    // Its owner may have stored facts that it did not live to tell, and nobody hears of them after the end.
    let telling = context.ports.events.relay(record.id, Seq::new(record.attempt, 0));
    let told = timeout(RELAY_TIMEOUT, telling).await;
    let told = told.unwrap_or_else(|_| Err(PortError::Unavailable("the log takes no facts".to_owned())));
    let announced = match told {
        Err(error) if error.is_transient() => Err(CommitError::Port(error)),
        // What cannot be read will never be told.
        _ => context.committer.announce(record).await,
    };
    match announced {
        Ok(()) | Err(CommitError::Refused(_) | CommitError::NoSuchTask(_)) => true,
        Err(CommitError::Port(error)) => {
            tracing::warn!(task = %record.id, %error, "end not announced yet");
            false
        }
    }
}

/// Looks who else is there, twice as often as they say so: however slow a scan is, it must not look like a pause.
async fn watch(context: Arc<Context>, others: Arc<Mutex<Observer>>) {
    let Settings { heartbeat, lease, .. } = context.settings;
    let began = Instant::now();
    let mut due = interval(heartbeat / 2);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut has_double = false;
    loop {
        due.tick().await;
        let rows = timeout(lease / 2, context.ports.nodes.nodes()).await;
        let mut others = lock(&others);
        let Ok(Ok(rows)) = rows else {
            others.read_failed();
            continue;
        };
        others.read(&rows, began.elapsed());
        let alive = || rows.iter().filter(|row| others.is_alive(&row.incarnation));
        context.metrics.nodes_alive.set(alive().count() as i64);
        context.presence.note_idle(alive().filter(|row| row.has_free_slot()).count());
        context.presence.note_others(others.moved().map(|(node, at)| (node, began + at)).collect());
        if others.has_double() && !has_double {
            tracing::error!(id = context.me.node, "another live node has this id; give each its own [node] id");
        }
        has_double = others.has_double();
    }
}

fn lock(others: &Mutex<Observer>) -> MutexGuard<'_, Observer> {
    others.lock().unwrap_or_else(PoisonError::into_inner)
}
