//! The engine on a small dataset: what it reports, how it stops, and that resuming changes nothing.

use std::time::Duration;

use kubeml_actors::{
    dataset::{Dataset, RawDataset, RawSplit},
    ports::{Report, Trained},
    task::{Progress, TaskId},
};
use kubeml_spec::Draft;
use tokio::{sync::mpsc, time::timeout};

use super::*;

const DEADLINE: Duration = Duration::from_secs(60);

/// Bright rows at the top or at the bottom.
fn dataset() -> Arc<Dataset> {
    let split = |samples: usize| {
        let labels: Vec<u8> = (0..samples).map(|sample| (sample % 2) as u8).collect();
        let image = |label: &u8| (0..64).map(|pixel| if (pixel < 32) == (*label == 0) { 200 } else { pixel }).collect();
        let images: Vec<u8> = labels.iter().flat_map(|label| -> Vec<u8> { image(label) }).collect();
        RawSplit { images: images.into(), labels: labels.into() }
    };
    let raw =
        RawDataset { name: "stripes".to_owned(), classes: 2, height: 8, width: 8, train: split(256), test: split(32) };
    let (manifest, chunks) = raw.cut();
    Arc::new(manifest.assemble(&chunks).unwrap())
}

fn work(epochs: u32, checkpoint: Option<Bytes>) -> (Work, mpsc::Receiver<Report>) {
    let draft = Draft::new("mlp").with("epochs", epochs).with("batch_size", 32).with("hidden", vec![8]);
    let (work, heard) = work_on(draft);
    (Work { checkpoint, ..work }, heard)
}

fn work_on(draft: Draft) -> (Work, mpsc::Receiver<Report>) {
    let (reports, heard) = mpsc::channel(2);
    let work = Work {
        task: TaskId::fresh(),
        slot: 0,
        spec: draft.build().unwrap(),
        dataset: dataset(),
        checkpoint: None,
        control: Control::new(Progress::default()),
        reports,
    };
    (work, heard)
}

async fn trained(work: Work, mut heard: mpsc::Receiver<Report>) -> (Fitted, Vec<Report>) {
    let engine = CandleEngine::new(2);
    let listening = tokio::spawn(async move {
        let mut reports = Vec::new();
        while let Some(report) = heard.recv().await {
            reports.push(report);
        }
        reports
    });
    let fitted = timeout(DEADLINE, engine.fit(work)).await.unwrap().unwrap();
    (fitted, timeout(DEADLINE, listening).await.unwrap().unwrap())
}

fn finished(fitted: Fitted) -> Trained {
    match fitted {
        Fitted::Finished(trained) => *trained,
        Fitted::Stopped(snapshot) => panic!("stopped at {snapshot:?}"),
    }
}

#[tokio::test]
async fn every_epoch_is_reported_with_a_checkpoint_that_resumes_to_the_same_weights() {
    let (work_, heard) = work(4, None);
    let (fitted, reports) = trained(work_, heard).await;
    let whole = finished(fitted);
    assert_eq!((whole.outcome.steps, whole.outcome.epochs), (32, 4));
    assert!(whole.outcome.test.accuracy > 0.9, "{:?}", whole.outcome);
    let mut epochs = Vec::new();
    for report in reports {
        if let Report::EpochFinished(metrics, snapshot) = report {
            assert_eq!(snapshot.step, u64::from(metrics.epoch) * 8);
            assert_eq!(snapshot.epochs, metrics.epoch);
            let (resumed, heard) = work(4, Some((snapshot.encode)()));
            let (fitted, _) = trained(resumed, heard).await;
            let resumed = finished(fitted);
            assert_eq!(resumed.outcome.weights_sha256, whole.outcome.weights_sha256, "from epoch {}", metrics.epoch);
            assert_eq!(resumed.outcome.best_epoch, whole.outcome.best_epoch);
            epochs.push(metrics.epoch);
        }
    }
    assert_eq!(epochs, [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_stop_ends_at_a_batch_with_a_snapshot_to_go_on_from() {
    let (work_, mut heard) = work(1_000, None);
    let control = work_.control.clone();
    let engine = CandleEngine::new(1);
    let fitting = tokio::spawn(async move { engine.fit(work_).await });
    assert!(matches!(timeout(DEADLINE, heard.recv()).await.unwrap(), Some(Report::FirstStep { .. })));
    control.want_checkpoint();
    let mut asked_for = false;
    while let Some(report) = timeout(DEADLINE, heard.recv()).await.unwrap() {
        match report {
            Report::Checkpoint(snapshot) => {
                assert_ne!(snapshot.step % 8, 0, "an epoch's last step has the epoch's own");
                asked_for = true;
                control.stop();
            }
            Report::FirstStep { .. } | Report::EpochFinished(..) => {}
        }
    }
    assert!(asked_for);
    let Fitted::Stopped(snapshot) = timeout(DEADLINE, fitting).await.unwrap().unwrap().unwrap() else {
        panic!("trained to the end in spite of the stop")
    };
    assert!(snapshot.step > 0 && snapshot.step < 8_000);
}

#[tokio::test]
async fn dropping_the_future_stops_the_training() {
    let (work_, mut heard) = work(10_000, None);
    let control = work_.control.clone();
    let engine = CandleEngine::new(1);
    let fitting = tokio::spawn(async move { engine.fit(work_).await });
    timeout(DEADLINE, heard.recv()).await.unwrap();
    fitting.abort();
    // The channel closes when the training thread has ended.
    timeout(DEADLINE, async { while heard.recv().await.is_some() {} }).await.unwrap();
    assert!(control.is_stopping());
}

#[tokio::test]
async fn a_checkpoint_that_is_none_is_told_apart_from_a_failure() {
    let (work_, _heard) = work(1, Some(Bytes::from_static(b"no checkpoint")));
    let error = CandleEngine::new(1).fit(work_).await.unwrap_err();
    assert!(matches!(error, EngineError::BadCheckpoint(_)), "{error}");
}

#[test]
fn every_error_of_training_has_its_kind() {
    use kubeml_train::TrainError;
    let checkpoint = train::CheckpointError::Truncated { found: 3 };
    let table = [
        (TrainError::InvalidSpec { problems: Vec::new() }, Some(FailureKind::Permanent)),
        (TrainError::InvalidData { problems: Vec::new() }, Some(FailureKind::Permanent)),
        (TrainError::Kernel(train::KernelError::Msg("no".into())), Some(FailureKind::Permanent)),
        (TrainError::NotFinite { step: 8, epoch: 2, loss: f64::NAN }, Some(FailureKind::Diverged)),
        (TrainError::Threads { threads: 9, reason: "full".into() }, Some(FailureKind::Infrastructure)),
        (TrainError::Panicked { message: "oh".into() }, Some(FailureKind::Crashed)),
        (TrainError::Checkpoint(checkpoint), None),
    ];
    for (error, kind) in table {
        assert_eq!(translate::failure_kind(&error), kind, "{error}");
    }
}

#[tokio::test]
async fn a_model_that_does_not_fit_its_dataset_is_refused_for_good() {
    let (work_, _heard) = work_on(Draft::new("cnn").with("channels", vec![8, 8, 8]));
    let error = CandleEngine::new(1).fit(work_).await.unwrap_err();
    let EngineError::Failed(failure) = error else { panic!("{error}") };
    assert_eq!(failure.kind, FailureKind::Permanent);
    assert!(
        failure.message.contains("/model: conv.1 does not fit: of 8 x 8 pixels, 3 x 3 are left for it"),
        "{}",
        failure.message
    );
}
