//! Warms the chunk cache ahead of need.
//!
//! Hears: `Warm` from HTTP; `WarmAhead` from the dispatcher for every task that is queued. Asks: the dataset loader.
//! Tells: nobody; its outcome is the cache's contents and `kubeml_cache_warm_seconds`.
//! If it dies: nothing is lost; the next task finds a cold cache.

use std::{collections::HashMap, sync::Arc, time::Duration};

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::time::Instant;

use crate::{
    context::Context,
    dataset_loader::{DatasetLoader, LoadError, fill_cache},
    handle::{Handle, Mail, Permit},
    metrics::ActorKind,
    ports::PortError,
};

pub type CacheWarmer = Handle<Msg>;

const WARM_TIMEOUT: Duration = Duration::from_secs(600);
/// What was warm so lately is not looked at again, however many tasks are queued: to look is to read all of it.
const WARM_KEPT: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Warmed {
    /// Every chunk was cached before.
    pub already: bool,
}

impl CacheWarmer {
    /// Puts a stored dataset into the cache. A dataset that is not stored is [`LoadError`].
    pub async fn warm(&self, dataset: String) -> Result<Warmed, LoadError> {
        self.insist(WARM_TIMEOUT, |reply| Msg::Warm { dataset: dataset.clone(), reply }).await?
    }

    /// Like `warm` for who does not wait, and does not mind if nothing comes of it.
    pub fn warm_ahead(&self, dataset: String) {
        let _ = self.offer(Msg::WarmAhead { dataset });
    }
}

pub enum Msg {
    Warm { dataset: String, reply: RpcReplyPort<Result<Warmed, LoadError>> },
    WarmAhead { dataset: String },
    Finished { dataset: String, is_warm: bool },
}

pub struct Warmer {
    pub context: Arc<Context>,
    pub loader: DatasetLoader,
}

#[derive(Default)]
pub struct State {
    /// Since when a dataset is warm; `None` while it is being warmed.
    ahead: HashMap<String, Option<Instant>>,
}

impl Actor for Warmer {
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
        let (message, permit) = mail.open(ActorKind::CacheWarmer, &self.context.metrics);
        match message {
            Msg::Warm { dataset, reply } => self.warm(dataset, reply, permit),
            Msg::WarmAhead { dataset } => self.warm_ahead(myself, state, dataset, permit),
            Msg::Finished { dataset, is_warm: true } => {
                state.ahead.insert(dataset, Some(Instant::now()));
            }
            Msg::Finished { dataset, is_warm: false } => {
                state.ahead.remove(&dataset);
            }
        }
        Ok(())
    }
}

impl Warmer {
    fn warm(&self, dataset: String, reply: RpcReplyPort<Result<Warmed, LoadError>>, permit: Permit) {
        let context = self.context.clone();
        tokio::spawn(async move {
            let _permit = permit;
            // Who asked may have stopped waiting.
            let _ = reply.send(warm(&context, &dataset).await);
        });
    }

    /// Imports the dataset if need be. A burst of submissions warms once.
    fn warm_ahead(&self, myself: ActorRef<Mail<Msg>>, state: &mut State, dataset: String, permit: Permit) {
        match state.ahead.get(&dataset) {
            Some(None) => return,
            Some(Some(since)) if since.elapsed() < WARM_KEPT => return,
            _ => state.ahead.insert(dataset.clone(), None),
        };
        let (context, loader) = (self.context.clone(), self.loader.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let outcome = match loader.import(dataset.clone()).await {
                Ok(_) => warm(&context, &dataset).await.map(|_| ()),
                Err(error) => Err(error),
            };
            let is_warm = outcome.is_ok();
            if let Err(error) = outcome {
                tracing::debug!(dataset, %error, "cache not warmed ahead");
            }
            // A failed cast means that the warmer has died, and its list with it.
            let _ = myself.send_message(Mail::own(Msg::Finished { dataset, is_warm }));
        });
    }
}

async fn warm(context: &Context, dataset: &str) -> Result<Warmed, LoadError> {
    let _timer = context.metrics.cache_warm_seconds.start_timer();
    let manifest = context.ports.datasets.manifest(dataset).await?;
    let manifest = manifest.ok_or_else(|| PortError::NotFound(format!("the dataset {dataset} is not stored")))?;
    Ok(Warmed { already: fill_cache(context, &manifest).await? })
}
