//! Early stops, the clock, and what is kept as the best model.

use super::{Scripted, finished, meaning, small_data, small_specs, stopped, trained};
use crate::{Checkpoint, FitSpec, Silent, StopReason, Threads, Trained, fit};

fn spec() -> FitSpec {
    FitSpec { epochs: 12, ..small_specs()[0].clone() }
}

fn watched(spec: &FitSpec, observer: &mut Scripted) -> Box<Trained> {
    finished(fit(spec, &small_data(), None, &Threads::new(2), observer).unwrap())
}

#[test]
fn it_ends_with_the_epoch_that_reaches_the_target() {
    let spec = FitSpec { target_accuracy: Some(0.8), ..spec() };
    let mut observer = Scripted::default();
    let trained = watched(&spec, &mut observer);
    assert_eq!(trained.stop_reason, StopReason::TargetAccuracy);
    assert!(trained.last.val_accuracy >= 0.8 && trained.epochs_run < 12, "{:?}", trained.last);
    assert!(observer.epochs.iter().rev().skip(1).all(|metrics| metrics.val_accuracy < 0.8));
}

#[test]
fn a_target_reached_in_the_last_epoch_is_a_completed_training() {
    let spec = FitSpec { epochs: 1, target_accuracy: Some(0.0), ..spec() };
    assert_eq!(watched(&spec, &mut Scripted::default()).stop_reason, StopReason::Completed);
}

#[test]
fn patience_ends_it_and_the_best_model_is_kept() {
    // A rate far too high makes later epochs worse.
    let spec = FitSpec { patience: Some(2), learning_rate: 0.5, epochs: 40, ..spec() };
    let mut observer = Scripted::default();
    let trained = watched(&spec, &mut observer);
    assert_eq!(trained.stop_reason, StopReason::Patience);
    assert_eq!(trained.epochs_run, trained.best.epoch + 2);
    let best = observer.epochs.iter().map(|metrics| metrics.val_accuracy).fold(0.0, f64::max);
    assert_eq!(trained.best.val_accuracy, best);
    assert_eq!(trained.best_test.accuracy, best);
    assert_ne!(trained.weights_sha256, trained.best_weights_sha256);
    let bests: Vec<u32> = observer.epochs.iter().filter(|m| m.is_best).map(|m| m.epoch).collect();
    assert_eq!(bests.last(), Some(&trained.best.epoch));
}

#[test]
fn time_ends_it_at_a_batch_and_the_open_epoch_counts() {
    // Every question of the clock takes a second: one before an epoch's steps, one after each.
    let spec = FitSpec { max_seconds: Some(3.0), ..spec() };
    let mut observer = Scripted { seconds_per_question: 1.0, ..Scripted::default() };
    let trained = watched(&spec, &mut observer);
    assert_eq!((trained.stop_reason, trained.steps, trained.epochs_run), (StopReason::MaxSeconds, 3, 2));
    assert_eq!((trained.last.samples, trained.train_seconds), (100, 3.0));
    assert_eq!(observer.epochs[0].train_seconds, 2.0);
    assert_eq!(observer.epochs[0].samples_per_second(), 75.0);
    assert_eq!(observer.evaluations.last().unwrap().samples_done, 70);
}

#[test]
fn time_goes_on_after_a_resume_and_a_decided_end_stays_decided() {
    let (spec, data) = (FitSpec { max_seconds: Some(3.0), ..spec() }, small_data());
    let clock = || Scripted { seconds_per_question: 1.0, ..Scripted::default() };
    let undisturbed = watched(&spec, &mut clock());
    for stop_at in 1..=2 {
        let mut observer = Scripted { stop_at: Some(stop_at), ..clock() };
        let snapshot = stopped(fit(&spec, &data, None, &Threads::new(1), &mut observer).unwrap());
        let resumed = fit(&spec, &data, Some(snapshot.into()), &Threads::new(1), &mut clock()).unwrap();
        assert_eq!(meaning(&finished(resumed)), meaning(&undisturbed));
    }
    // Stopped in the evaluation after the end was decided; the second attempt's clock stands still.
    let mut observer = Scripted { stop_at_evaluation: Some(2), ..clock() };
    let snapshot = stopped(fit(&spec, &data, None, &Threads::new(1), &mut observer).unwrap());
    let checkpoint = Checkpoint::decode(&snapshot.encode()).unwrap();
    let resumed = fit(&spec, &data, Some(checkpoint), &Threads::new(1), &mut Silent).unwrap();
    assert_eq!(meaning(&finished(resumed)), meaning(&undisturbed));
}

#[test]
fn without_a_clock_time_never_ends_it() {
    let spec = FitSpec { epochs: 2, max_seconds: Some(1e-9), ..spec() };
    assert_eq!(watched(&spec, &mut Scripted::default()).stop_reason, StopReason::Completed);
}

#[test]
fn validation_is_on_the_held_out_share_or_on_the_test_split() {
    let on_test = trained(&spec(), &small_data(), 2);
    assert_eq!((on_test.last.val_loss, on_test.last.val_accuracy), (on_test.test.loss, on_test.test.accuracy));
    let held_out = FitSpec { validation_fraction: 0.2, ..spec() };
    let mut observer = Scripted::default();
    let on_share = watched(&held_out, &mut observer);
    assert_eq!((on_share.last.samples, observer.evaluations[0].samples_total), (120, 30));
    assert_ne!(on_share.last.val_loss, on_share.test.loss);
}

#[test]
fn the_confusion_matrix_counts_every_test_sample_once() {
    let trained = trained(&spec(), &small_data(), 2);
    let confusion = &trained.test.confusion;
    let labels = small_data().test().labels.clone();
    for (class, row) in confusion.iter().enumerate() {
        let of_class = labels.iter().filter(|&&label| usize::from(label) == class).count();
        assert_eq!(row.iter().sum::<u64>(), of_class as u64);
    }
    let right: u64 = (0..4).map(|class| confusion[class][class]).sum();
    assert_eq!(right as f64 / 70.0, trained.test.accuracy);
}
