//! The same bits with any number of threads, on every run, whoever watches.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Scripted, data, finished, meaning, small_data, small_specs, trained};
use crate::matmul::tests::DENSE_ONLY;
use crate::simd::{Level, tests::AT_MOST};
use crate::{
    Data, DataParts, FitSpec, ModelSpec, Observer, OptimizerKind, Outcome, Silent, Split, StepProgress, Threads,
    TrainError, fit,
};

#[test]
fn the_number_of_threads_changes_nothing() {
    let data = small_data();
    for spec in small_specs().into_iter().chain(wide_specs()) {
        let one = trained(&spec, &data, 1);
        for threads in [2, 3, 8] {
            assert_eq!(meaning(&one), meaning(&trained(&spec, &data, threads)), "{} on {threads}", spec.model.kind());
        }
    }
}

#[test]
fn a_batch_of_many_shards_is_the_same_on_any_threads() {
    let data = data(700, 200, 9, 9, 3);
    let spec = FitSpec { epochs: 1, batch_size: 600, ..FitSpec::new(ModelSpec::Mlp { hidden: vec![20] }) };
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
            assert_eq!(meaning(&widest), meaning(&narrower), "{} at {level:?}", spec.model.kind());
        }
    }
}

/// Of several blocks and channels, with whole registers and a rest, and another optimizer.
fn wide_specs() -> [FitSpec; 3] {
    [
        (ModelSpec::Cnn { channels: vec![18, 21], dense: 37 }, OptimizerKind::Sgd { momentum: 0.9 }),
        (ModelSpec::Lstm { units: 37, dense: 19 }, OptimizerKind::Adam),
        (ModelSpec::Mlp { hidden: vec![64, 35] }, OptimizerKind::Sgd { momentum: 0.0 }),
    ]
    .map(|(model, optimizer)| FitSpec {
        epochs: 1,
        batch_size: 100,
        learning_rate: 3e-3,
        seed: 12,
        optimizer,
        ..FitSpec::new(model)
    })
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
        assert_eq!(meaning(&sparse), meaning(&dense), "{}", spec.model.kind());
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
    let base = FitSpec { epochs: 1, ..small_specs()[0].clone() };
    let hash = |spec: &FitSpec| trained(spec, &data, 2).weights_sha256.clone();
    let first = hash(&base);
    for changed in [
        FitSpec { seed: 12, ..base.clone() },
        FitSpec { dropout: 0.3, ..base.clone() },
        FitSpec { batch_size: 99, ..base.clone() },
        FitSpec { learning_rate: 2e-3, ..base.clone() },
        FitSpec { validation_fraction: 0.1, ..base.clone() },
        FitSpec { optimizer: crate::OptimizerKind::AdamW { weight_decay: 0.1 }, ..base.clone() },
        FitSpec { schedule: crate::Schedule::Cosine, ..base.clone() },
    ] {
        assert_ne!(changed.hash(), base.hash());
        assert_ne!(hash(&changed), first, "{changed:?}");
    }
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
    assert!(matches!(fit(&small_specs()[0], &small_data(), None, &threads, &mut Silent), Ok(Outcome::Finished(_))));
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
