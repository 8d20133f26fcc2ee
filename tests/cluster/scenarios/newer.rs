//! Records that a newer version of KubeML has written, in the hands of nodes of this version (docs/adr/0017).
//!
//! The newer version is this test: it changes rows in the database as a newer node would have written them.

use std::collections::BTreeMap;

use kubeml::codec::Stored;
use kubeml_actors::task::TaskRecord;
use kubeml_spec::unknown::Any;
use uuid::Uuid;

use super::{
    super::{cassandra::rows::TaskRows, nodes::Cluster},
    assert_all_is_well, assert_same_result, trained_alone,
};

/// Format and checksum in front of a record.
const HEADER_BYTES: usize = 9;
const FIELD: &str = "from_the_future";
/// Long enough that the first worker is stopped in the middle.
const EPOCHS: u32 = 120;

#[tokio::test(flavor = "multi_thread")]
async fn fields_of_a_newer_version_survive_claims_checkpoints_and_the_end_of_a_task() {
    let mut cluster = Cluster::start_with(1, 0, &[]).await;
    let mut listener = cluster.listen();
    let rows = TaskRows::of(cluster.name()).await;
    let id = cluster.submit("mlp", EPOCHS).await;
    let task: Uuid = id.parse().expect("an id");
    add_fields(&rows, task).await;

    cluster.join("worker-1").await;
    cluster.wait_for_step(&id, 100).await;
    assert_eq!(cluster.node_mut("worker-1").terminate().await, Some(0), "{}", cluster.log("worker-1"));
    assert!(has_field(&read(&rows, task).await, &[]), "its claims and checkpoints keep it");
    // The record has a dataset, checkpoints, epochs and a failure by then.
    add_fields(&rows, task).await;

    cluster.join("worker-2").await;
    assert_same_result(&cluster.succeeded(&id).await, &trained_alone("mlp", EPOCHS));
    let history = cluster.history(&id).await;
    let resumed = history.iter().find(|event| event["kind"] == "resumed").expect("it goes on");
    assert_ne!(resumed["from_step"], 0, "its checkpoint is used");
    let record = read(&rows, task).await;
    for path in [&[][..], &["dataset"], &["epochs"]] {
        assert!(has_field(&record, path), "{path:?}: {record:?}");
    }
    assert_all_is_well(&cluster, &mut listener, &[id]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_in_a_newer_format_is_refused_by_name_and_disturbs_no_other() {
    let mut cluster = Cluster::start_with(1, 0, &[]).await;
    let mut listener = cluster.listen();
    let rows = TaskRows::of(cluster.name()).await;
    // It is the first in the queue.
    let ids = [cluster.submit("mlp", 3).await, cluster.submit("mlp", 2).await];
    let task: Uuid = ids[0].parse().expect("an id");
    let readable = rows.record(task).await;
    let newer = sealed(TaskRecord::newest_format() + 1, &readable[HEADER_BYTES..]);
    rows.replace(task, &newer).await;

    cluster.join("worker-1").await;
    assert_same_result(&cluster.succeeded(&ids[1]).await, &trained_alone("mlp", 2));
    let (status, refusal) = cluster.get(&cluster.apis[0], &format!("/api/v1/tasks/{}", ids[0])).await;
    let known = TaskRecord::newest_format();
    let why = format!("task {task}: a task record is in format {}, newer than the {known} that this", known + 1);
    assert!(status == 409 && refusal.contains(&why), "{status}: {refusal}");
    let log = cluster.log("worker-1");
    assert!(log.contains(&why), "{log}");
    let (status, list) = cluster.get(&cluster.apis[0], "/api/v1/tasks").await;
    assert!(status == 200 && list.contains(&ids[1]), "{status}: {list}");
    assert!(rows.record(task).await == newer, "no node has written it");

    // A node that can read it carries it out.
    rows.replace(task, &readable).await;
    assert_same_result(&cluster.succeeded(&ids[0]).await, &trained_alone("mlp", 3));
    assert_all_is_well(&cluster, &mut listener, &ids).await;
}

/// Writes the record as a newer version would that has one more field, at every depth.
async fn add_fields(rows: &TaskRows, task: Uuid) {
    let more = with_field(&read(rows, task).await);
    let encoded = rmp_serde::to_vec_named(&more).expect("it can be written");
    rows.replace(task, &sealed(1, &encoded)).await;
}

async fn read(rows: &TaskRows, task: Uuid) -> Any {
    rmp_serde::from_slice(&rows.record(task).await[HEADER_BYTES..]).expect("it describes itself")
}

fn with_field(value: &Any) -> Any {
    match value {
        Any::Map(fields) => {
            let more = fields.iter().map(|(name, field)| (name.clone(), with_field(field)));
            let own = (FIELD.to_owned(), Any::Whole(7));
            Any::Map(more.chain([own]).collect::<BTreeMap<_, _>>())
        }
        Any::List(items) => Any::List(items.iter().map(with_field).collect()),
        other => other.clone(),
    }
}

/// Whether the part at `path` has the field that only a newer version knows.
fn has_field(record: &Any, path: &[&str]) -> bool {
    let field = |part: &Any, name: &str| match part {
        Any::Map(fields) => fields.get(name).cloned(),
        _ => None,
    };
    let part = path.iter().try_fold(record.clone(), |part, name| field(&part, name));
    part.and_then(|part| field(&part, FIELD)) == Some(Any::Whole(7))
}

/// The header of `src/codec.rs` in front of an encoded record.
fn sealed(format: u8, encoded: &[u8]) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(TaskRecord::NAME.as_bytes()).update(&[0, format]).update(encoded);
    let mut checksum = [0; HEADER_BYTES - 1];
    hasher.finalize_xof().fill(&mut checksum);
    [&[format], checksum.as_slice(), encoded].concat()
}
