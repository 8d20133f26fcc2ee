//! The root: starts the tree in order and restarts what fails, one for one.
//!
//! Hears: the ends of its children; `RestartDue` from itself; `Stop` from the node. Asks: nobody.
//! Tells: nobody; it puts successors into the children's handles, so who holds a handle notices nothing but a wait.
//! If it dies, or a child fails too often: the process ends, and whoever runs it starts it again.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use tokio::{sync::watch, time::Instant};

use crate::{
    context::Context,
    handle::{Handle, Mail},
    metrics::ActorKind,
    restart_policy::{Decision, Failures, chance},
    trainer::stop_reason,
};

#[cfg(test)]
mod tests;

const STOP_TIMEOUT: Duration = Duration::from_secs(2);

pub enum Msg {
    RestartDue { child: usize },
    Stop,
}

type Starting = Pin<Box<dyn Future<Output = Result<ActorCell, SpawnErr>> + Send>>;

/// How one child is made, again and again.
pub struct ChildSpec {
    kind: ActorKind,
    start: Box<dyn Fn(ActorCell) -> Starting + Send + Sync>,
    vacate: Box<dyn Fn() + Send + Sync>,
}

impl ChildSpec {
    pub fn new<M, A>(handle: &Handle<M>, make: impl Fn() -> A + Send + Sync + 'static) -> Self
    where
        M: Send + 'static,
        A: Actor<Msg = Mail<M>, Arguments = ()>,
    {
        let (kind, vacant, handle) = (handle.kind(), handle.clone(), handle.clone());
        let start = move |supervisor: ActorCell| -> Starting {
            let (handle, actor) = (handle.clone(), make());
            Box::pin(async move {
                let (actor, _) = Actor::spawn_linked(None, actor, (), supervisor).await?;
                let cell = actor.get_cell();
                handle.install(actor);
                Ok(cell)
            })
        };
        Self { kind, start: Box::new(start), vacate: Box::new(move || vacant.vacate()) }
    }
}

pub struct Supervisor {
    pub context: Arc<Context>,
    /// In the order in which they start.
    pub children: Vec<ChildSpec>,
    /// Why the supervisor gave up.
    pub gave_up: watch::Sender<Option<String>>,
}

pub struct State {
    children: Vec<Child>,
    since: Instant,
    stopping: bool,
}

#[derive(Default)]
struct Child {
    id: Option<ActorId>,
    failures: Failures,
}

impl Actor for Supervisor {
    type Msg = Msg;
    type State = State;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Msg>, (): ()) -> Result<State, ActorProcessingErr> {
        let label = [ActorKind::Supervisor.as_str()];
        self.context.metrics.actor_started.with_label_values(&label).inc();
        self.context.metrics.actor_alive.with_label_values(&label).set(1);
        let children = self.children.iter().map(|_| Child::default()).collect();
        Ok(State { children, since: Instant::now(), stopping: false })
    }

    async fn post_start(&self, myself: ActorRef<Msg>, state: &mut State) -> Result<(), ActorProcessingErr> {
        for child in 0..self.children.len() {
            self.start(&myself, state, child).await?;
        }
        Ok(())
    }

    async fn handle(&self, myself: ActorRef<Msg>, message: Msg, state: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::RestartDue { child } => self.restart_due(&myself, state, child).await,
            Msg::Stop => {
                state.stopping = true;
                myself.stop_children_and_wait(None, Some(STOP_TIMEOUT)).await;
                myself.stop(None);
                Ok(())
            }
        }
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Msg>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(cell, error) => {
                self.child_down(&myself, state, cell.get_id(), stop_reason(&error), &error.to_string())
            }
            SupervisionEvent::ActorTerminated(cell, _, reason) => {
                let label = if state.stopping { "normal" } else { "killed" };
                self.child_down(&myself, state, cell.get_id(), label, reason.as_deref().unwrap_or("stopped"))
            }
            _ => Ok(()),
        }
    }
}

impl Supervisor {
    async fn restart_due(
        &self,
        myself: &ActorRef<Msg>,
        state: &mut State,
        child: usize,
    ) -> Result<(), ActorProcessingErr> {
        if state.stopping {
            return Ok(());
        }
        self.context.metrics.actor_restarts.with_label_values(&[self.children[child].kind.as_str()]).inc();
        self.start(myself, state, child).await
    }

    async fn start(&self, myself: &ActorRef<Msg>, state: &mut State, child: usize) -> Result<(), ActorProcessingErr> {
        let spec = &self.children[child];
        match (spec.start)(myself.get_cell()).await {
            Ok(cell) => {
                let label = [spec.kind.as_str()];
                self.context.metrics.actor_started.with_label_values(&label).inc();
                self.context.metrics.actor_alive.with_label_values(&label).inc();
                state.children[child].id = Some(cell.get_id());
                Ok(())
            }
            Err(error) => self.restart_or_give_up(myself, state, child, &error.to_string()),
        }
    }

    fn child_down(
        &self,
        myself: &ActorRef<Msg>,
        state: &mut State,
        id: ActorId,
        reason: &str,
        message: &str,
    ) -> Result<(), ActorProcessingErr> {
        let Some(child) = state.children.iter().position(|child| child.id == Some(id)) else { return Ok(()) };
        state.children[child].id = None;
        let spec = &self.children[child];
        (spec.vacate)();
        self.context.presence.note_error(spec.kind, message);
        self.context.metrics.actor_alive.with_label_values(&[spec.kind.as_str()]).dec();
        self.context.metrics.actor_stopped.with_label_values(&[spec.kind.as_str(), reason]).inc();
        if state.stopping {
            return Ok(());
        }
        tracing::warn!(actor = spec.kind.as_str(), reason, why = message, "actor ended; it will be restarted");
        self.restart_or_give_up(myself, state, child, message)
    }

    fn restart_or_give_up(
        &self,
        myself: &ActorRef<Msg>,
        state: &mut State,
        child: usize,
        message: &str,
    ) -> Result<(), ActorProcessingErr> {
        let settings = &self.context.settings;
        let kind = self.children[child].kind.as_str();
        let now = state.since.elapsed();
        match state.children[child].failures.record(now, settings.intensity, settings.backoff, chance()) {
            Decision::Restart { after } => {
                self.context.metrics.supervisor_backoff.with_label_values(&[kind]).set(after.as_secs_f64());
                myself.send_after(after, move || Msg::RestartDue { child });
                Ok(())
            }
            Decision::GiveUp => {
                self.context.metrics.supervisor_intensity_exceeded.inc();
                let why = format!("{kind} failed too often, the last time with: {message}");
                self.gave_up.send_replace(Some(why.clone()));
                Err(why.into())
            }
        }
    }
}
