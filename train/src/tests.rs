//! Tests of the package: fixtures here, promises by subject in the files below.

mod checking;
mod corruption;
mod determinism;
mod early_ends;
mod forward;
mod gradients;
mod learning;
mod optimizing;
mod pytorch;
mod random;
mod resume;

use crate::rng::{Purpose, Stream};
use crate::{
    Control, Data, DataParts, EpochMetrics, EvaluationProgress, FitSpec, ModelSpec, Observer, Outcome, Silent,
    Snapshot, Split, StepProgress, Threads, Trained, fit,
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

/// A quick spec of each model: two epochs of two batches, the second partial, on [`small_data`].
fn small_specs() -> [FitSpec; 3] {
    [
        ModelSpec::Mlp { hidden: vec![24, 17] },
        ModelSpec::Cnn { channels: vec![5], dense: 9 },
        ModelSpec::Lstm { units: 13, dense: 9 },
    ]
    .map(|model| FitSpec { epochs: 2, batch_size: 100, learning_rate: 3e-3, seed: 11, ..FitSpec::new(model) })
}

fn trained(spec: &FitSpec, data: &Data, threads: usize) -> Box<Trained> {
    finished(fit(spec, data, None, &Threads::new(threads), &mut Silent).unwrap())
}

fn finished(outcome: Outcome) -> Box<Trained> {
    match outcome {
        Outcome::Finished(trained) => trained,
        Outcome::Stopped(snapshot) => panic!("it was stopped at step {}", snapshot.step()),
    }
}

fn stopped(outcome: Outcome) -> Snapshot {
    match outcome {
        Outcome::Finished(_) => panic!("it finished"),
        Outcome::Stopped(snapshot) => *snapshot,
    }
}

/// Everything a training says about its result, to compare two of them; models as bytes, metrics as numbers.
fn meaning(trained: &Trained) -> impl PartialEq + std::fmt::Debug + use<> {
    (
        trained.weights_sha256.clone(),
        trained.best_weights_sha256.clone(),
        (trained.model.clone(), trained.best_model.clone()),
        (trained.last, trained.best),
        (trained.test.clone(), trained.best_test.clone()),
        (trained.epochs_run, trained.steps, trained.stop_reason),
    )
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
