//! The same bits with any number of threads, on every run, whoever watches.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kubeml_spec::{Draft, TaskSpec, training::fields};

use super::{Scripted, built, data, finished, meaning, small_data, small_drafts, small_specs, trained};
use crate::matmul::tests::DENSE_ONLY;
use crate::simd::{Level, tests::AT_MOST};
use crate::{Data, DataParts, Ended, Observer, Silent, Split, StepProgress, Threads, TrainError, fit};

#[test]
fn the_number_of_threads_changes_nothing() {
    let data = small_data();
    for spec in small_specs().into_iter().chain(wide_specs()) {
        let one = trained(&spec, &data, 1);
        for threads in [2, 3, 8] {
            assert_eq!(meaning(&one), meaning(&trained(&spec, &data, threads)), "{} on {threads}", spec.model());
        }
    }
}

#[test]
fn a_batch_of_many_shards_is_the_same_on_any_threads() {
    let data = data(700, 200, 9, 9, 3);
    let spec = built(&Draft::new("mlp").with("hidden", vec![20]).with("epochs", 1).with("batch_size", 600));
    assert_eq!(meaning(&trained(&spec, &data, 1)), meaning(&trained(&spec, &data, 5)));
}

#[test]
fn loops_for_wide_registers_change_nothing() {
    let data = small_data();
    for spec in small_specs().into_iter().chain(wide_specs()) {
        let widest = trained(&spec, &data, 2);
        for level in [Level::Avx2, Level::Baseline] {
            *AT_MOST.write().unwrap() = Some(level);
            let narrower = trained(&spec, &data, 2);
            *AT_MOST.write().unwrap() = None;
            assert_eq!(meaning(&widest), meaning(&narrower), "{} at {level:?}", spec.model());
        }
    }
}

/// Of several blocks and channels, with whole registers and a rest, and another optimizer.
fn wide_specs() -> [TaskSpec; 3] {
    [
        Draft::new("cnn")
            .with("channels", vec![18, 21])
            .with("dense", 37)
            .with("optimizer", "sgd")
            .with("momentum", 0.9),
        Draft::new("lstm").with("units", 37).with("dense", 19),
        Draft::new("mlp").with("hidden", vec![64, 35]).with("optimizer", "sgd").with("momentum", 0.0),
    ]
    .map(|draft| draft.with("epochs", 1).with("batch_size", 100).with("learning_rate", 3e-3).with("seed", 12))
    .map(|draft| built(&draft))
}

/// As in pictures of digits, most of which is paper: then a product leaves out what is 0.
#[test]
fn leaving_out_zeros_changes_nothing() {
    let data = strokes(&small_data());
    for spec in small_specs().into_iter().chain(wide_specs()) {
        let sparse = trained(&spec, &data, 2);
        for threads in [1, 3] {
            assert_eq!(meaning(&sparse), meaning(&trained(&spec, &data, threads)));
        }
        DENSE_ONLY.store(true, Ordering::Relaxed);
        let dense = trained(&spec, &data, 2);
        DENSE_ONLY.store(false, Ordering::Relaxed);
        assert_eq!(meaning(&sparse), meaning(&dense), "{}", spec.model());
    }
}

/// Of five pixels one is left.
fn strokes(data: &Data) -> Data {
    let thin = |split: &Split| Split {
        images: split.images.iter().enumerate().map(|(at, pixel)| if at * 7 % 5 == 0 { *pixel } else { 0 }).collect(),
        labels: split.labels.clone(),
    };
    let (train, test) = (thin(data.train()), thin(data.test()));
    let (height, width, classes) = (data.height(), data.width(), data.classes());
    Data::new(DataParts { height, width, classes, train, test, hash: "strokes".to_string() }).unwrap()
}

#[test]
fn an_observer_changes_nothing() {
    let data = small_data();
    for spec in small_specs() {
        let mut observer = Scripted { snapshots_wanted: true, ..Scripted::default() };
        let watched = finished(fit(&spec, &data, None, &Threads::new(2), &mut observer).unwrap());
        assert_eq!(meaning(&watched), meaning(&trained(&spec, &data, 2)));
    }
}

#[test]
fn every_field_of_the_spec_that_should_matter_does() {
    let data = small_data();
    let [base, ..] = small_drafts();
    let base = base.with("epochs", 1);
    let adamw = base.clone().with("optimizer", "adamw");
    let sgd = base.clone().with("optimizer", "sgd");
    let changes = [
        base.clone().with("seed", 12),
        base.clone().with("hidden", vec![24, 18]),
        base.clone().with("dropout", 0.3),
        base.clone().with("batch_size", 99),
        base.clone().with("learning_rate", 2e-3),
        base.clone().with("validation_fraction", 0.1),
        base.clone().with("schedule", "cosine"),
        adamw.clone().with("weight_decay", 0.1),
        adamw.with("weight_decay", 0.2),
        sgd.clone().with("momentum", 0.5),
        sgd.with("momentum", 0.6),
        // In the only epoch, a step schedule is constant.
        base.clone().with("epochs", 2),
        base.clone().with("epochs", 2).with("schedule", "step"),
        base.clone().with("epochs", 2).with("schedule", "step").with("schedule_factor", 0.4),
    ];
    let specs: Vec<TaskSpec> = std::iter::once(&base).chain(&changes).map(built).collect();
    let unchanged: Vec<&str> =
        fields().iter().map(|field| field.name).filter(|name| !is_changed(name, &specs)).collect();
    assert_eq!(unchanged, ENDS, "add a change of each new field");
    let weights: Vec<String> = specs.iter().map(|spec| trained(spec, &data, 2).outcome.weights_sha256).collect();
    for (at, spec) in specs.iter().enumerate() {
        for before in 0..at {
            assert_ne!(spec.hash(), specs[before].hash(), "{spec:?}");
            assert_ne!(weights[at], weights[before], "{spec:?} and {:?}", specs[before]);
        }
    }
}

/// Fields that only end a training early: `early_ends` tests them.
const ENDS: [&str; 3] = ["target_accuracy", "patience", "max_seconds"];

/// Whether two of the specs have different settings of a field, or only some have it.
fn is_changed(name: &str, specs: &[TaskSpec]) -> bool {
    let setting = |spec: &TaskSpec| spec.settings().find(|(field, _)| field.name == name).map(|(_, setting)| setting);
    specs.iter().any(|spec| setting(spec) != setting(&specs[0]))
}

#[test]
fn threads_are_named_and_told_when_they_start() {
    let (started, heard) = std::sync::mpsc::channel();
    let on_start = Arc::new(move || {
        let name = std::thread::current().name().map(ToString::to_string);
        started.send(name.unwrap_or_default()).expect("the test listens");
    });
    let threads = Threads { count: 3, on_start: Some(on_start) };
    fit(&small_specs()[0], &small_data(), None, &threads, &mut Silent).unwrap();
    // The last thread may start after the others have done all the work.
    let mut names: Vec<_> = (0..3).map(|_| heard.recv_timeout(Duration::from_secs(30)).unwrap()).collect();
    names.sort();
    assert_eq!(names, ["train-0", "train-1", "train-2"]);
}

#[test]
fn a_panic_when_threads_start_does_not_matter() {
    let threads = Threads { count: 2, on_start: Some(Arc::new(|| panic!("no permission"))) };
    assert!(matches!(fit(&small_specs()[0], &small_data(), None, &threads, &mut Silent), Ok(Ended::Finished(_))));
}

struct Panics;

impl Observer for Panics {
    fn wants_checkpoint(&mut self, step: &StepProgress) -> bool {
        assert!(step.step < 2, "the observer broke at step {}", step.step);
        false
    }
}

#[test]
fn a_panic_on_a_training_thread_is_an_error() {
    match fit(&small_specs()[0], &small_data(), None, &Threads::new(2), &mut Panics) {
        Err(TrainError::Panicked { message }) => assert!(message.contains("broke at step 2"), "{message}"),
        _ => panic!("it should have failed"),
    }
}

#[test]
fn no_threads_are_an_error() {
    for count in [0, 100_000] {
        let outcome = fit(&small_specs()[0], &small_data(), None, &Threads::new(count), &mut Silent);
        assert!(matches!(outcome, Err(TrainError::Threads { .. })));
    }
}
