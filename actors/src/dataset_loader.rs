//! Brings datasets into the store, and from the store into memory.
//!
//! Hears: `Load` from trainers and the cache warmer, `Import` from HTTP and CLI. Asks: nobody.
//! Tells: the log, line by line while an import runs; its own mailbox when a flight has landed.
//! If it dies: whoever asked asks again; a dataset becomes visible only with its manifest, so none is ever half there.

use std::{collections::HashMap, sync::Arc, time::Duration};

use kubeml_spec::{DatasetChoice, FALLBACK_DATASET};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use crate::{
    context::Context,
    dataset::{Dataset, Manifest},
    handle::{Handle, Mail, Permit},
    metrics::ActorKind,
    task::DatasetUsed,
};

mod absences;
mod flight;

use absences::Absences;
pub use flight::{LoadError, fill_cache};

pub type DatasetLoader = Handle<Msg>;

/// A download may take this long before those who wait for it are told to try again.
const LOAD_TIMEOUT: Duration = Duration::from_secs(3_600);
/// Datasets kept whole in memory for the next attempt.
const RESIDENT_MAX: usize = 2;

#[derive(Clone, Debug)]
pub struct Loaded {
    pub dataset: Arc<Dataset>,
    pub used: DatasetUsed,
}

impl DatasetLoader {
    /// The dataset of a task: the very bytes its earlier attempts used, if there were any.
    pub async fn load(&self, choice: DatasetChoice, pinned: Option<DatasetUsed>) -> Result<Loaded, LoadError> {
        self.insist(LOAD_TIMEOUT, |reply| Msg::Load { choice: choice.clone(), pinned: pinned.clone(), reply }).await?
    }

    /// Fetches and stores a dataset, or finds it stored.
    pub async fn import(&self, name: String) -> Result<Manifest, LoadError> {
        self.insist(LOAD_TIMEOUT, |reply| Msg::Import { name: name.clone(), reply }).await?
    }
}

pub enum Msg {
    Load { choice: DatasetChoice, pinned: Option<DatasetUsed>, reply: RpcReplyPort<Result<Loaded, LoadError>> },
    Import { name: String, reply: RpcReplyPort<Result<Manifest, LoadError>> },
    Landed { name: String, outcome: Result<Arc<Dataset>, LoadError> },
}

pub struct Loader {
    pub context: Arc<Context>,
}

#[derive(Default)]
pub struct State {
    /// Who waits for which dataset: requests for the same one share a flight.
    in_flight: HashMap<String, Vec<Waiting>>,
    resident: Vec<Arc<Dataset>>,
    absences: Absences,
}

struct Waiting {
    ask: Ask,
    _permit: Permit,
}

enum Ask {
    Load { terms: Terms, reply: RpcReplyPort<Result<Loaded, LoadError>> },
    Import { reply: RpcReplyPort<Result<Manifest, LoadError>> },
}

/// What a task will take.
struct Terms {
    /// The built-in digits may stand in.
    fallback: bool,
    /// Why they do.
    instead_of: Option<String>,
    pinned: Option<DatasetUsed>,
}

impl Actor for Loader {
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
        let (message, permit) = mail.open(ActorKind::DatasetLoader, &self.context.metrics);
        match message {
            Msg::Load { choice, pinned, reply } => {
                let fallback = pinned.is_none() && !choice.explicit;
                let name = pinned.as_ref().map_or(choice.name, |used| used.name.clone());
                let ask = Ask::Load { terms: Terms { fallback, instead_of: None, pinned }, reply };
                self.serve(&myself, state, name, Waiting { ask, _permit: permit });
            }
            Msg::Import { name, reply } => {
                self.board(&myself, state, name, Waiting { ask: Ask::Import { reply }, _permit: permit });
            }
            Msg::Landed { name, outcome } => self.landed(&myself, state, &name, &outcome),
        }
        Ok(())
    }
}

impl Loader {
    /// From memory if the dataset is there, else by a flight; or its stand-in, if it was to be had nowhere just now.
    fn serve(&self, myself: &ActorRef<Mail<Msg>>, state: &mut State, name: String, waiting: Waiting) {
        if let Some(dataset) = state.resident.iter().find(|dataset| dataset.manifest.name == name) {
            let outcome = Ok(dataset.clone());
            return self.settle(myself, state, &outcome, waiting);
        }
        match state.absences.reason(&name) {
            Some(reason) if waiting.may_fall_back() => {
                let outcome = Err(LoadError::Absent(reason.to_owned()));
                self.settle(myself, state, &outcome, waiting);
            }
            _ => self.board(myself, state, name, waiting),
        }
    }

    /// Joins the flight that is under way for the same dataset, or starts one.
    fn board(&self, myself: &ActorRef<Mail<Msg>>, state: &mut State, name: String, waiting: Waiting) {
        if let Some(others) = state.in_flight.get_mut(&name) {
            others.push(waiting);
            return;
        }
        state.in_flight.insert(name.clone(), vec![waiting]);
        let (context, myself) = (self.context.clone(), myself.clone());
        tokio::spawn(async move {
            let flying = name.clone();
            let flight = tokio::spawn(async move { flight::fly(&context, &flying).await });
            let crashed = |error| LoadError::Unavailable(format!("loading {name} ended badly: {error}"));
            let outcome = flight.await.map_err(crashed).flatten();
            // A failed cast means that the loader has died: its askers have been told by their dropped reply ports.
            let _ = myself.send_message(Mail::own(Msg::Landed { name, outcome }));
        });
    }

    fn landed(
        &self,
        myself: &ActorRef<Mail<Msg>>,
        state: &mut State,
        name: &str,
        outcome: &Result<Arc<Dataset>, LoadError>,
    ) {
        match outcome {
            Ok(dataset) => {
                state.absences.forget(name);
                state.resident.retain(|resident| resident.manifest.name != name);
                state.resident.insert(0, dataset.clone());
                state.resident.truncate(RESIDENT_MAX);
            }
            Err(LoadError::Absent(reason)) => state.absences.note(name, reason),
            Err(_) => {}
        }
        for waiting in state.in_flight.remove(name).unwrap_or_default() {
            self.settle(myself, state, outcome, waiting);
        }
    }

    /// Answers, unless the built-in digits shall stand in: then it waits for those.
    fn settle(
        &self,
        myself: &ActorRef<Mail<Msg>>,
        state: &mut State,
        outcome: &Result<Arc<Dataset>, LoadError>,
        waiting: Waiting,
    ) {
        let Waiting { ask, _permit } = waiting;
        match (ask, outcome) {
            (Ask::Load { terms, reply }, Err(LoadError::Absent(reason))) if terms.fallback => {
                tracing::debug!(reason, "the built-in digits stand in");
                let terms = Terms { fallback: false, instead_of: Some(reason.clone()), ..terms };
                let waiting = Waiting { ask: Ask::Load { terms, reply }, _permit };
                self.serve(myself, state, FALLBACK_DATASET.to_owned(), waiting);
            }
            (Ask::Load { terms, reply }, outcome) => {
                answer(reply, outcome.clone().and_then(|dataset| agree(dataset, terms)));
            }
            (Ask::Import { reply }, outcome) => answer(reply, outcome.clone().map(|dataset| dataset.manifest.clone())),
        }
    }
}

impl Waiting {
    fn may_fall_back(&self) -> bool {
        matches!(&self.ask, Ask::Load { terms, .. } if terms.fallback)
    }
}

/// A task goes on with the bytes that it began with, or not at all.
fn agree(dataset: Arc<Dataset>, terms: Terms) -> Result<Loaded, LoadError> {
    let found = DatasetUsed::of(&dataset.manifest, terms.instead_of);
    match terms.pinned {
        Some(pinned) if pinned.sha256 != found.sha256 => Err(LoadError::Refused(format!(
            "the dataset {} has changed: the task began on {}, the store has {}; submit the task again",
            pinned.name, pinned.sha256, found.sha256
        ))),
        Some(used) => Ok(Loaded { dataset, used }),
        None => Ok(Loaded { dataset, used: found }),
    }
}

fn answer<T>(reply: RpcReplyPort<T>, value: T) {
    // Who asked may have stopped waiting.
    let _ = reply.send(value);
}
