//! The stub engine keeps the port's manners.

use kubeml_spec::Draft;
use std::sync::Arc;

use kubeml_actors::{
    dataset::{Dataset, RawDataset, RawSplit},
    ports::Control,
    task::TaskId,
};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::*;

fn dataset() -> Arc<Dataset> {
    let split = || RawSplit { images: vec![1; 8].into(), labels: vec![0, 1].into() };
    let (train, test) = (split(), split());
    let raw = RawDataset { name: "dots".to_owned(), classes: 2, height: 2, width: 2, train, test };
    let (manifest, chunks) = raw.cut();
    Arc::new(manifest.assemble(&chunks).unwrap())
}

fn work(checkpoint: Option<Bytes>) -> (Work, mpsc::Receiver<Report>) {
    let draft = Draft::new("mlp");
    let (reports, heard) = mpsc::channel(2);
    let spec = draft.build().unwrap();
    let control = Control::new(Progress::default());
    (Work { task: TaskId::fresh(), slot: 0, spec, dataset: dataset(), checkpoint, control, reports }, heard)
}

fn encoded(snapshot: Snapshot) -> Bytes {
    (snapshot.encode)()
}

#[tokio::test]
async fn one_epoch_of_one_step_is_told_and_what_it_saved_is_taken_again() {
    let (first, mut heard) = work(None);
    let Ok(Fitted::Finished(trained)) = StubEngine.fit(first).await else { panic!("it has nothing to stumble over") };
    assert!(matches!(heard.recv().await, Some(Report::FirstStep { .. })));
    let Some(Report::EpochFinished(metrics, snapshot)) = heard.recv().await else { panic!("no epoch was told") };
    assert_eq!((metrics.epoch, snapshot.step, trained.outcome.steps), (1, 1, 1));
    let digest: String = Sha256::digest(&trained.model).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(trained.outcome.weights_sha256, digest);
    assert_eq!(trained.outcome.confusion, [[0, 0], [0, 0]]);

    let (again, mut heard) = work(Some(encoded(snapshot)));
    assert!(matches!(StubEngine.fit(again).await, Ok(Fitted::Finished(_))));
    assert!(heard.recv().await.is_none(), "the epoch was told by the attempt that made it");
}

#[tokio::test]
async fn it_stops_when_it_is_told_to() {
    let (work, _heard) = work(None);
    work.control.stop();
    let Ok(Fitted::Stopped(snapshot)) = StubEngine.fit(work).await else { panic!("it did not stop") };
    assert_eq!(snapshot.step, 0);
}

#[tokio::test]
async fn another_engines_checkpoint_is_refused() {
    let (work, _heard) = work(Some(Bytes::from_static(b"weights")));
    assert!(matches!(StubEngine.fit(work).await, Err(EngineError::BadCheckpoint(_))));
}
