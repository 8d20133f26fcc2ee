//! Where `kubeml train` has its tasks run: on a node in this process, or on a server over HTTP.

use std::{collections::VecDeque, time::Duration};

use anyhow::{Context as _, bail};
use kubeml_actors::{
    subscription::{AllEvents, Delivery, TaskEvents},
    task::TaskId,
};
use kubeml_spec::TaskSpec;

use super::remote::{Remote, RemoteEvents};
use crate::{
    config::{Config, Role},
    edges::data_dir::{DataDir, DataDirError},
    node::{Node, StartError},
    wire::{Event, TaskBody, TaskView},
};

pub enum Backend {
    Local(Box<Node>),
    Remote(Remote),
}

/// How long a node in this process may take to give its tasks back when it is interrupted.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

impl Backend {
    /// The server that is asked for, or that already holds the data directory; a node in this process otherwise.
    pub async fn open(config: &Config, server: Option<&str>, detach: bool) -> anyhow::Result<Self> {
        if let Some(url) = server {
            return Ok(Self::Remote(Remote::new(url)?));
        }
        if let Some(address) = DataDir::holder(&config.node.data_dir).and_then(|holder| holder.address) {
            return Ok(Self::Remote(Remote::new(&address)?));
        }
        if detach {
            bail!("--detach needs a server: start one with `kubeml serve`, or name one with --server URL");
        }
        if !(config.node.has(Role::Api) && config.node.has(Role::Trainer)) {
            bail!("a node in this process needs the roles api and trainer; see [node] roles, or use --server URL");
        }
        match Node::start(config).await {
            Ok(node) => Ok(Self::Local(Box::new(node))),
            // It may have begun to serve while this process looked.
            Err(StartError::DataDir(DataDirError::InUse { holder: Some(holder), .. })) if holder.address.is_some() => {
                Ok(Self::Remote(Remote::new(&holder.address.unwrap_or_default())?))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Where it is, for people.
    pub fn place(&self) -> String {
        match self {
            Self::Local(_) => "in this process".to_owned(),
            Self::Remote(remote) => format!("on {}", remote.url()),
        }
    }

    pub async fn submit(&self, spec: TaskSpec) -> anyhow::Result<TaskId> {
        match self {
            Self::Remote(remote) => remote.submit(&spec.to_json()).await,
            Self::Local(node) => {
                let submission = TaskBody::from(spec).submission(TaskId::fresh(), None);
                Ok(node.tree.handles.dispatcher.submit(submission).await?.record().id)
            }
        }
    }

    pub async fn view(&self, id: TaskId) -> anyhow::Result<TaskView> {
        match self {
            Self::Remote(remote) => remote.view(id).await,
            Self::Local(node) => {
                let record = node.tree.handles.dispatcher.get(id).await?;
                let live = node.tree.live.progress(id, record.attempt);
                Ok(TaskView::new(&record, live, node.tree.context.ports.clock.now()))
            }
        }
    }

    /// Everything that happens to a task, from its beginning to its end.
    pub async fn events(&self, id: TaskId) -> anyhow::Result<Events> {
        Ok(match self {
            Self::Remote(remote) => Events { source: Source::Remote(remote.events(id)), waiting: VecDeque::new() },
            Self::Local(node) => {
                let facts = node.tree.handles.relay.task(id, None).await?;
                Events { source: Source::Local(facts), waiting: VecDeque::new() }
            }
        })
    }

    /// What happens beside the tasks from now on, like the import of a dataset. A server's log has it as well.
    pub async fn notices(&self) -> anyhow::Result<Notices> {
        Ok(Notices(match self {
            Self::Remote(_) => None,
            Self::Local(node) => Some(node.tree.handles.relay.all(None).await?),
        }))
    }

    /// Returns when the node in this process has ended by itself.
    pub async fn failed(&self) -> String {
        match self {
            Self::Local(node) => node.tree.failed().await,
            Self::Remote(_) => std::future::pending().await,
        }
    }

    /// Gives back what still runs in this process; a server goes on.
    pub async fn close(self) {
        if let Self::Local(node) = self {
            // What is not given back in time goes on from its last checkpoint.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, node.drain()).await;
            node.stop().await;
        }
    }
}

pub struct Notices(Option<AllEvents>);

impl Notices {
    pub async fn next(&mut self) -> anyhow::Result<Vec<Event>> {
        let Some(facts) = &mut self.0 else { return std::future::pending().await };
        let (Delivery::Entries(entries) | Delivery::Gap(entries)) =
            facts.next().await.context("cannot read the log")?;
        Ok(entries
            .iter()
            .filter(|entry| entry.event.task == TaskId::NONE)
            .map(|entry| Event::new(&entry.event))
            .collect())
    }
}

/// The events of one task, however they come.
pub struct Events {
    source: Source,
    waiting: VecDeque<Event>,
}

enum Source {
    Local(TaskEvents),
    Remote(RemoteEvents),
}

impl Events {
    /// `None` after the terminal event.
    pub async fn next(&mut self) -> anyhow::Result<Option<Event>> {
        while self.waiting.is_empty() {
            let more: Option<Vec<Event>> = match &mut self.source {
                Source::Local(facts) => {
                    let facts = facts.next().await.context("cannot read the task's log")?;
                    facts.map(|facts| facts.iter().map(Event::new).collect())
                }
                Source::Remote(events) => events.next().await?.map(|event| vec![event]),
            };
            match more {
                Some(events) => self.waiting.extend(events),
                None => return Ok(None),
            }
        }
        Ok(self.waiting.pop_front())
    }
}
