//! A node's actors over in-memory ports, on virtual time: submit, break things, wait for facts.

use std::{sync::Arc, time::Duration};

use kubeml_spec::Draft;
use tokio::time::timeout;

use super::{
    scripted_engine::{Fault, FaultKind, ScriptedEngine},
    tokio_clock::TokioClock,
};
use crate::{
    context::{Context, Settings},
    dataset::{RawDataset, RawSplit},
    event::{EventKind, TaskEvent},
    in_memory::{
        FixedSource, InMemoryArtifactStore, InMemoryCache, InMemoryDatasetStore, InMemoryNodes, InMemoryState,
        InProcessBus,
    },
    metrics::Metrics,
    ports::{EdgeKinds, Ports},
    task::{Incarnation, Submission, TaskId, TaskRecord, TaskState},
    timestamp::Timestamp,
    tree::Tree,
};

/// Virtual time after which a wait has failed.
const DEADLINE: Duration = Duration::from_secs(3_600);

/// What outlives a node's process: its stores, and the engine's script.
#[derive(Clone)]
pub struct World {
    pub ports: Ports,
    pub engine: Arc<ScriptedEngine>,
}

impl World {
    /// Three epochs of ten steps take three seconds, unless a task says otherwise.
    pub fn new() -> Self {
        let engine = Arc::new(ScriptedEngine::new(10, Duration::from_millis(100)));
        let state = Arc::new(InMemoryState::new());
        let ports = Ports {
            tasks: state.clone(),
            events: state,
            bus: Arc::new(InProcessBus::new(1_024)),
            datasets: Arc::new(InMemoryDatasetStore::new()),
            cache: Arc::new(InMemoryCache::new(1 << 20)),
            source: Arc::new(FixedSource::new([digits("mnist"), digits("mnist-10k")])),
            artifacts: Arc::new(InMemoryArtifactStore::new()),
            engine: engine.clone(),
            clock: Arc::new(TokioClock::starting_at(Timestamp(1_700_000_000_000_000))),
            nodes: Arc::new(InMemoryNodes::new()),
            kinds: EdgeKinds { store: "memory", bus: "memory", cache: "memory" },
        };
        Self { ports, engine }
    }

    /// A node's process begins.
    pub async fn start(&self, settings: Settings) -> TestTree {
        self.start_as("node-1", settings).await
    }

    pub async fn start_as(&self, node: &str, settings: Settings) -> TestTree {
        let me = Incarnation::fresh(node);
        let context = Context::new(me, self.ports.clone(), Arc::new(Metrics::new()), settings);
        let tree = Tree::start(context).await.expect("the tree starts");
        TestTree { tree, world: self.clone() }
    }

    pub async fn record(&self, id: TaskId) -> TaskRecord {
        self.ports.tasks.get(id).await.expect("the store answers").expect("the task is stored")
    }

    pub async fn history(&self, id: TaskId) -> Vec<TaskEvent> {
        self.ports.events.read_task(id, None, usize::MAX).await.expect("the log answers")
    }

    /// The kinds of a task's facts in order, without progress.
    pub async fn story(&self, id: TaskId) -> Vec<&'static str> {
        let facts = self.history(id).await;
        facts.iter().map(|fact| fact.kind.as_str()).filter(|kind| *kind != "progress").collect()
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

pub struct TestTree {
    pub tree: Tree,
    pub world: World,
}

impl TestTree {
    pub async fn start() -> Self {
        World::new().start(Settings::default()).await
    }

    pub async fn submit(&self, draft: Draft) -> TaskId {
        let submission = submission(draft);
        let submitted = self.tree.handles.dispatcher.submit(submission).await.expect("the task is taken");
        submitted.record().id
    }

    /// Waits for a fact of the task.
    pub async fn wait_for(&self, id: TaskId, wanted: impl Fn(&EventKind) -> bool) -> TaskEvent {
        let mut facts = self.tree.handles.relay.task(id, None).await.expect("the relay answers");
        let waiting = async {
            loop {
                let page = facts.next().await.expect("the log answers").expect("the task has not ended without it");
                if let Some(found) = page.into_iter().find(|fact| wanted(&fact.kind)) {
                    return found;
                }
            }
        };
        match timeout(DEADLINE, waiting).await {
            Ok(found) => found,
            Err(_) => panic!("waited in vain; so far: {:?}", self.world.story(id).await),
        }
    }

    pub async fn wait_for_kind(&self, id: TaskId, kind: &str) -> TaskEvent {
        self.wait_for(id, |found| found.as_str() == kind).await
    }

    pub async fn wait_for_step(&self, id: TaskId, step: u64) -> TaskEvent {
        self.wait_for(id, |kind| matches!(kind, EventKind::Progress(progress) if progress.step >= step)).await
    }

    /// Waits until the task has ended and its end is announced.
    pub async fn wait_for_end(&self, id: TaskId) -> TaskRecord {
        self.wait_for(id, EventKind::is_terminal).await;
        let announced = async {
            loop {
                let record = self.world.record(id).await;
                if record.announced {
                    return record;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(DEADLINE, announced).await.expect("the end is announced")
    }

    pub async fn expect_success(&self, id: TaskId) -> TaskRecord {
        let record = self.wait_for_end(id).await;
        assert_eq!(record.state, TaskState::Succeeded, "{:?}", record.failure);
        let h = record.spec.hyperparameters();
        let expected = self.world.engine.expected_weights(h.seed, h.epochs);
        assert_eq!(record.result.as_ref().map(|result| result.outcome.weights_sha256.clone()), Some(expected));
        record
    }

    pub fn add_fault(&self, kind: FaultKind, at_step: u64, times: u32, task: Option<TaskId>) {
        self.world.engine.add_fault(Fault { kind, at_step, times, task });
    }

    pub fn restarts(&self, actor: &str) -> u64 {
        self.tree.context.metrics.actor_restarts.with_label_values(&[actor]).get()
    }
}

pub fn draft() -> Draft {
    Draft::new("mlp").with("epochs", 3)
}

pub fn submission(draft: Draft) -> Submission {
    Submission {
        id: TaskId::fresh(),
        name: None,
        tags: Vec::new(),
        priority: 0,
        retry_of: None,
        spec: draft.build().expect("the draft is valid"),
    }
}

/// A few small images.
pub fn digits(name: &str) -> RawDataset {
    let split = |samples: u8| RawSplit {
        images: (0..samples).flat_map(|sample| [sample; 4]).collect::<Vec<u8>>().into(),
        labels: (0..samples).map(|sample| sample % 2).collect::<Vec<u8>>().into(),
    };
    RawDataset { name: name.to_owned(), classes: 2, height: 2, width: 2, train: split(20), test: split(4) }
}
