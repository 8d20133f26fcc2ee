//! Tests of the package: fixtures here, promises by subject in the files below.

mod checking;
mod corruption;
mod determinism;
mod early_ends;
mod forward;
mod gradients;
mod learning;
mod networks;
mod optimizing;
mod pytorch;
mod random;
mod resume;

use kubeml_spec::{Draft, EpochMetrics, Outcome, TaskSpec};

use crate::rng::{Purpose, Stream};
use crate::{
    Control, Data, DataParts, Ended, EvaluationProgress, Observer, Silent, Snapshot, Split, StepProgress, Threads,
    Trained, fit,
};

/// Numbers from -1 to 1, a function of `name` and their place; `fixtures/pytorch.py` makes the same.
fn noise(name: &str, count: usize) -> Vec<f32> {
    let stream = Stream::named(7, Purpose::Init, name);
    let number = |at| (f64::from(stream.block(0, 0, at)[0]) + 0.5) / 4_294_967_296.0;
    (0..count as u32).map(|at| (number(at) * 2.0 - 1.0) as f32).collect()
}

/// Images in which each class lights its own stripe over noise.
fn split(name: &str, samples: usize, height: usize, width: usize, classes: usize) -> Split {
    let pixels = height * width;
    let noise = noise(name, samples * pixels);
    let labels: Vec<u8> = (0..samples).map(|sample| (sample * 7 % classes) as u8).collect();
    let pixel = |at: usize| {
        let class = usize::from(labels[at / pixels]);
        let lit = at % pixels * classes / pixels == class;
        (60.0 + 50.0 * noise[at] + if lit { 130.0 } else { 0.0 }) as u8
    };
    Split { images: (0..samples * pixels).map(pixel).collect(), labels: labels.into() }
}

fn data(train: usize, test: usize, height: usize, width: usize, classes: usize) -> Data {
    let (train, test) = (split("train", train, height, width, classes), split("test", test, height, width, classes));
    Data::new(DataParts { height, width, classes, train, test, hash: "synthetic".to_string() }).unwrap()
}

/// 150 and 70 images of 12 x 10 pixels in 4 classes.
fn small_data() -> Data {
    data(150, 70, 12, 10, 4)
}

/// A quick draft of each model: two epochs of two batches, the second partial, on [`small_data`].
fn small_drafts() -> [Draft; 3] {
    [
        Draft::new("mlp").with("hidden", vec![24, 17]),
        Draft::new("cnn").with("channels", vec![5]).with("dense", 9),
        Draft::new("lstm").with("units", 13).with("dense", 9),
    ]
    .map(|draft| draft.with("epochs", 2).with("batch_size", 100).with("learning_rate", 3e-3).with("seed", 11))
}

fn small_specs() -> [TaskSpec; 3] {
    small_drafts().map(|draft| built(&draft))
}

fn built(draft: &Draft) -> TaskSpec {
    draft.build().unwrap()
}

fn trained(spec: &TaskSpec, data: &Data, threads: usize) -> Box<Trained> {
    finished(fit(spec, data, None, &Threads::new(threads), &mut Silent).unwrap())
}

fn finished(ended: Ended) -> Box<Trained> {
    match ended {
        Ended::Finished(trained) => trained,
        Ended::Stopped(snapshot) => panic!("it was stopped at step {}", snapshot.step()),
    }
}

fn stopped(ended: Ended) -> Snapshot {
    match ended {
        Ended::Finished(_) => panic!("it finished"),
        Ended::Stopped(snapshot) => *snapshot,
    }
}

/// A training's result without what computed it and how long that took, to compare two of them.
fn meaning(trained: &Trained) -> Trained {
    let outcome = Outcome { train_seconds: 0.0, kernel_set: String::new(), ..trained.outcome.clone() };
    Trained { outcome, ..trained.clone() }
}

/// An observer that writes down what it hears and acts by the step.
#[derive(Default)]
struct Scripted {
    /// Stop after this step.
    stop_at: Option<u64>,
    /// Stop at the n-th evaluation fact, from 1.
    stop_at_evaluation: Option<usize>,
    /// Ask for a snapshot at every step.
    snapshots_wanted: bool,
    /// The clock goes on by this much at every question.
    seconds_per_question: f64,
    seconds: f64,
    steps: Vec<StepProgress>,
    epochs: Vec<EpochMetrics>,
    evaluations: Vec<EvaluationProgress>,
    snapshots: Vec<Snapshot>,
}

impl Observer for Scripted {
    fn step(&mut self, step: &StepProgress) -> Control {
        self.steps.push(step.clone());
        if self.stop_at == Some(step.step) { Control::Stop } else { Control::Continue }
    }

    fn wants_checkpoint(&mut self, _: &StepProgress) -> bool {
        self.snapshots_wanted
    }

    fn checkpoint(&mut self, snapshot: Snapshot) {
        self.snapshots.push(snapshot);
    }

    fn epoch_finished(&mut self, metrics: &EpochMetrics) -> Control {
        self.epochs.push(*metrics);
        Control::Continue
    }

    fn evaluating(&mut self, progress: &EvaluationProgress) -> Control {
        self.evaluations.push(*progress);
        if self.stop_at_evaluation == Some(self.evaluations.len()) { Control::Stop } else { Control::Continue }
    }

    fn now_seconds(&mut self) -> f64 {
        self.seconds += self.seconds_per_question;
        self.seconds
    }
}
