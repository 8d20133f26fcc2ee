//! A node's actors, put together: who holds whose handle, and the order in which they start and stop.

use std::{sync::Arc, time::Duration};

use ractor::{Actor, ActorRef};
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    cache_warmer::{CacheWarmer, Warmer},
    context::Context,
    dataset_loader::{DatasetLoader, Loader},
    handle::{AskError, Crash, Handle},
    live::Live,
    log_relay::{LogRelay, Relay},
    metrics::ActorKind,
    reconciler::{Reconciler, Scanner},
    supervisor::{ChildSpec, Msg, Supervisor},
    task_dispatcher::{Dispatcher, TaskDispatcher},
    trainer_pool::{Pool, TrainerPool},
};

/// The handles of a running node. Those of roles that the node does not have belong to nobody: asking them times out.
#[derive(Clone)]
pub struct Handles {
    pub dispatcher: TaskDispatcher,
    pub reconciler: Reconciler,
    pub loader: DatasetLoader,
    pub warmer: CacheWarmer,
    pub relay: LogRelay,
    pub pool: TrainerPool,
}

#[derive(Debug, thiserror::Error)]
#[error("the actors did not start: {0}")]
pub struct NotStarted(String);

pub struct Tree {
    pub context: Arc<Context>,
    pub handles: Handles,
    pub live: Arc<Live>,
    supervisor: ActorRef<Msg>,
    ended: JoinHandle<()>,
    gave_up: watch::Receiver<Option<String>>,
}

impl Handles {
    fn vacant(context: &Context) -> Self {
        let (mailbox, metrics) = (context.settings.mailbox, &context.metrics);
        Self {
            dispatcher: Handle::vacant(ActorKind::TaskDispatcher, mailbox, metrics.clone()),
            reconciler: Handle::vacant(ActorKind::Reconciler, mailbox, metrics.clone()),
            loader: Handle::vacant(ActorKind::DatasetLoader, mailbox, metrics.clone()),
            warmer: Handle::vacant(ActorKind::CacheWarmer, mailbox, metrics.clone()),
            relay: Handle::vacant(ActorKind::LogRelay, mailbox, metrics.clone()),
            pool: Handle::vacant(ActorKind::TrainerPool, mailbox, metrics.clone()),
        }
    }

    /// Fault injection: the actor of this name panics. The supervisor is not to be crashed, and so not known here.
    pub async fn crash(&self, actor: &str) -> Result<Crash, AskError> {
        match ActorKind::ALL.into_iter().find(|kind| kind.as_str() == actor) {
            Some(ActorKind::TaskDispatcher) => self.dispatcher.crash().await?,
            Some(ActorKind::Reconciler) => self.reconciler.crash().await?,
            Some(ActorKind::DatasetLoader) => self.loader.crash().await?,
            Some(ActorKind::CacheWarmer) => self.warmer.crash().await?,
            Some(ActorKind::LogRelay) => self.relay.crash().await?,
            Some(ActorKind::TrainerPool) => self.pool.crash().await?,
            Some(ActorKind::Trainer) => return self.pool.crash_trainer(0).await,
            Some(ActorKind::Supervisor) | None => return Ok(Crash::Unknown),
        }
        Ok(Crash::Sent)
    }
}

impl Tree {
    pub async fn start(context: Arc<Context>) -> Result<Self, NotStarted> {
        let handles = Handles::vacant(&context);
        let start = context.ports.events.head().borrow().clone();
        let live = Arc::new(Live::new(start, context.settings.ring));
        let (gave_up, hears_giving_up) = watch::channel(None);
        let children = children(&context, &handles, &live);
        let root = Supervisor { context: context.clone(), children, gave_up };
        let started = Actor::spawn(None, root, ()).await;
        let (supervisor, ended) = started.map_err(|error| NotStarted(error.to_string()))?;
        Ok(Self { context, handles, live, supervisor, ended, gave_up: hears_giving_up })
    }

    /// Returns when the tree has ended by itself: the reason, for which the process should end as well.
    pub async fn failed(&self) -> String {
        let mut gave_up = self.gave_up.clone();
        match gave_up.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => "the supervisor has ended".to_owned(),
        }
    }

    /// Has every attempt checkpoint and release its task. Tasks that do not make it in time go on from their last
    /// checkpoint all the same.
    pub async fn drain(&self, limit: Duration) -> Result<(), AskError> {
        if !self.context.settings.roles.trainer {
            return Ok(());
        }
        self.handles.pool.drain(limit).await
    }

    /// Ends every actor, and then says that this node is gone: others need not wait for its lease to run out.
    pub async fn stop(self) {
        // A failed cast means that it has ended already.
        let _ = self.supervisor.send_message(Msg::Stop);
        let _ = self.ended.await;
        if let Err(error) = self.context.ports.nodes.leave(&self.context.me).await {
            tracing::debug!(%error, "others will see that this node is gone");
        }
    }
}

fn children(context: &Arc<Context>, handles: &Handles, live: &Arc<Live>) -> Vec<ChildSpec> {
    let roles = context.settings.roles;
    let mut children = Vec::new();
    if roles.api {
        let (context, warmer) = (context.clone(), handles.warmer.clone());
        let pool = roles.trainer.then(|| handles.pool.clone());
        children.push(ChildSpec::new(&handles.dispatcher, move || Dispatcher {
            context: context.clone(),
            warmer: warmer.clone(),
            pool: pool.clone(),
        }));
    }
    let scanner = context.clone();
    children.push(ChildSpec::new(&handles.reconciler, move || Scanner { context: scanner.clone() }));
    let loader = context.clone();
    children.push(ChildSpec::new(&handles.loader, move || Loader { context: loader.clone() }));
    if roles.api {
        let (warmer, loader) = (context.clone(), handles.loader.clone());
        children
            .push(ChildSpec::new(&handles.warmer, move || Warmer { context: warmer.clone(), loader: loader.clone() }));
        let (relay, live) = (context.clone(), live.clone());
        children.push(ChildSpec::new(&handles.relay, move || Relay { context: relay.clone(), live: live.clone() }));
    }
    if roles.trainer {
        let (pool, loader) = (context.clone(), handles.loader.clone());
        children.push(ChildSpec::new(&handles.pool, move || Pool { context: pool.clone(), loader: loader.clone() }));
    }
    children
}
