//! `GET /api/v1/system`: every node with its actors and trainers, and what the nodes work with.

use std::collections::BTreeMap;

use kubeml_actors::{
    metrics::ActorKind,
    ports::{ActorReport, NodeRow, SlotReport},
    task::TaskId,
};
use serde::Serialize;
use uuid::Uuid;
use warp::http::StatusCode;

use super::{
    call::{Answer, Call, json as answer},
    ops::{Checks, is_ok},
};
use crate::wire::time;

#[derive(Serialize)]
struct System {
    nodes: Vec<NodeView>,
    edges: Vec<EdgeView>,
}

#[derive(Serialize)]
struct NodeView {
    id: String,
    incarnation: Uuid,
    roles: Vec<&'static str>,
    /// By the clock of the node that answers.
    heartbeat_age_seconds: f64,
    version: String,
    address: Option<String>,
    started_at: String,
    tree: Vec<ActorView>,
    trainers: Vec<TrainerView>,
}

#[derive(Serialize)]
struct ActorView {
    actor: String,
    state: &'static str,
    restarts: u64,
    last_error: Option<String>,
    mailbox: u64,
    children: Vec<ActorView>,
}

#[derive(Serialize)]
struct TrainerView {
    worker_id: String,
    state: &'static str,
    task_id: Option<TaskId>,
    restarts: u64,
    last_error: Option<String>,
}

#[derive(Serialize)]
struct EdgeView {
    role: &'static str,
    kind: &'static str,
    reachable: bool,
    last_error: Option<String>,
}

/// While the registry cannot be read there are no nodes to show, and the edges say why.
pub async fn nodes(call: Call) -> Answer {
    let context = &call.api.context;
    let (rows, checks) = tokio::join!(context.ports.nodes.nodes(), Checks::make(&call));
    let rows = rows.unwrap_or_else(|error| {
        tracing::debug!(%error, "nodes not read");
        Vec::new()
    });
    let nodes = latest(rows).into_iter().map(|row| view(&call, row)).collect();
    let kinds = context.ports.kinds;
    let edges = checks.edges().into_iter().zip([kinds.store, kinds.bus, kinds.cache]);
    let edges = edges.map(|((role, check), kind)| EdgeView {
        role,
        kind,
        reachable: is_ok(check),
        last_error: (!is_ok(check)).then(|| check.to_owned()),
    });
    answer(StatusCode::OK, &System { nodes, edges: edges.collect() })
}

/// One row for each node id: its latest life.
fn latest(rows: Vec<NodeRow>) -> Vec<NodeRow> {
    let mut latest: BTreeMap<String, NodeRow> = BTreeMap::new();
    for row in rows {
        let node = row.incarnation.node.clone();
        if latest.get(&node).is_none_or(|known| (known.started_at, known.at) < (row.started_at, row.at)) {
            latest.insert(node, row);
        }
    }
    latest.into_values().collect()
}

fn view(call: &Call, row: NodeRow) -> NodeView {
    let context = &call.api.context;
    // A node that watches no others knows of itself.
    let age = context.presence.heartbeat_age(&row.incarnation);
    let age = age.unwrap_or_else(|| context.ports.clock.now().since(row.at));
    let trainers = row.slots.iter().enumerate();
    let trainers = trainers.map(|(slot, report)| trainer(row.incarnation.worker_id(slot), report)).collect();
    NodeView {
        heartbeat_age_seconds: age.as_secs_f64(),
        roles: [("api", row.roles.api), ("trainer", row.roles.trainer)]
            .into_iter()
            .filter_map(|(name, has)| has.then_some(name))
            .collect(),
        started_at: time(row.started_at),
        tree: tree(row.actors, &row.slots),
        trainers,
        id: row.incarnation.node,
        incarnation: row.incarnation.boot,
        version: row.version,
        address: row.address,
    }
}

fn trainer(worker_id: String, report: &SlotReport) -> TrainerView {
    let state = match (report.alive, report.task) {
        (true, Some(_)) => "training",
        (true, None) => "idle",
        (false, _) => "restarting",
    };
    let SlotReport { restarts, last_error, task, .. } = report.clone();
    TrainerView { worker_id, state, task_id: task, restarts, last_error }
}

/// The supervisor with the others below it, and the pool's trainers below the pool.
fn tree(actors: Vec<ActorReport>, slots: &[SlotReport]) -> Vec<ActorView> {
    let mut root = None;
    let mut children = Vec::new();
    for report in actors {
        let mut view = actor(report);
        if view.actor == ActorKind::TrainerPool.as_str() {
            view.children = slots.iter().enumerate().map(|(slot, report)| trainer_actor(slot, report)).collect();
        }
        match view.actor == ActorKind::Supervisor.as_str() {
            true => root = Some(view),
            false => children.push(view),
        }
    }
    match root {
        Some(root) => vec![ActorView { children, ..root }],
        None => children,
    }
}

fn actor(report: ActorReport) -> ActorView {
    let ActorReport { actor, alive, restarts, last_error, mailbox } = report;
    ActorView { actor, state: state(alive), restarts, last_error, mailbox, children: Vec::new() }
}

fn trainer_actor(slot: usize, report: &SlotReport) -> ActorView {
    let SlotReport { alive, restarts, last_error, .. } = report.clone();
    let actor = format!("{}/{slot}", ActorKind::Trainer.as_str());
    ActorView { actor, state: state(alive), restarts, last_error, mailbox: 0, children: Vec::new() }
}

fn state(alive: bool) -> &'static str {
    if alive { "running" } else { "restarting" }
}
