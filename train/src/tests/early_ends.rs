//! Early stops, the clock, and what is kept as the best model.

use kubeml_spec::{Draft, StopReason, TaskSpec};

use super::{Scripted, built, finished, meaning, small_data, small_drafts, stopped, trained};
use crate::{Checkpoint, Silent, Threads, Trained, fit};

fn draft() -> Draft {
    let [mlp, ..] = small_drafts();
    mlp.with("epochs", 12)
}

fn watched(spec: &TaskSpec, observer: &mut Scripted) -> Box<Trained> {
    finished(fit(spec, &small_data(), None, &Threads::new(2), observer).unwrap())
}

#[test]
fn it_ends_with_the_epoch_that_reaches_the_target() {
    let spec = built(&draft().with("target_accuracy", 0.8));
    let mut observer = Scripted::default();
    let trained = watched(&spec, &mut observer);
    assert_eq!(trained.outcome.stop_reason, StopReason::TargetAccuracy);
    assert!(trained.last.val_accuracy >= 0.8 && trained.outcome.epochs < 12, "{:?}", trained.last);
    assert!(observer.epochs.iter().rev().skip(1).all(|metrics| metrics.val_accuracy < 0.8));
}

#[test]
fn a_target_reached_in_the_last_epoch_is_a_completed_training() {
    let spec = built(&draft().with("epochs", 1).with("target_accuracy", 0.0));
    assert_eq!(watched(&spec, &mut Scripted::default()).outcome.stop_reason, StopReason::Completed);
}

#[test]
fn patience_ends_it_and_the_best_model_is_kept() {
    // A rate far too high makes later epochs worse.
    let spec = built(&draft().with("patience", 2).with("learning_rate", 0.5).with("epochs", 40));
    let mut observer = Scripted::default();
    let Trained { outcome, best, .. } = *watched(&spec, &mut observer);
    assert_eq!(outcome.stop_reason, StopReason::Patience);
    assert_eq!((outcome.epochs, outcome.best_epoch), (best.epoch + 2, best.epoch));
    let highest = observer.epochs.iter().map(|metrics| metrics.val_accuracy).fold(0.0, f64::max);
    assert_eq!((best.val_accuracy, outcome.best_test.accuracy), (highest, highest));
    assert_ne!(outcome.weights_sha256, outcome.best_weights_sha256);
    let bests: Vec<u32> = observer.epochs.iter().filter(|m| m.is_best).map(|m| m.epoch).collect();
    assert_eq!(bests.last(), Some(&best.epoch));
}

#[test]
fn time_ends_it_at_a_batch_and_the_open_epoch_counts() {
    // Every question of the clock takes a second: one before an epoch's steps, one after each.
    let spec = built(&draft().with("max_seconds", 3));
    let mut observer = Scripted { seconds_per_question: 1.0, ..Scripted::default() };
    let Trained { outcome, last, .. } = *watched(&spec, &mut observer);
    assert_eq!((outcome.stop_reason, outcome.steps, outcome.epochs), (StopReason::MaxSeconds, 3, 2));
    assert_eq!((last.samples, outcome.train_seconds), (100, 3.0));
    assert_eq!(observer.epochs[0].train_seconds, 2.0);
    assert_eq!(observer.epochs[0].samples_per_second, 75.0);
    assert_eq!(observer.evaluations.last().unwrap().samples_done, 70);
}

#[test]
fn time_goes_on_after_a_resume_and_a_decided_end_stays_decided() {
    let (spec, data) = (built(&draft().with("max_seconds", 3)), small_data());
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
    let spec = built(&draft().with("epochs", 2).with("max_seconds", 1));
    assert_eq!(watched(&spec, &mut Scripted::default()).outcome.stop_reason, StopReason::Completed);
}

#[test]
fn validation_is_on_the_held_out_share_or_on_the_test_split() {
    let Trained { outcome, last, .. } = *trained(&built(&draft()), &small_data(), 2);
    assert_eq!((last.val_loss, last.val_accuracy), (outcome.test.loss, outcome.test.accuracy));
    let held_out = built(&draft().with("validation_fraction", 0.2));
    let mut observer = Scripted::default();
    let on_share = watched(&held_out, &mut observer);
    assert_eq!((on_share.last.samples, observer.evaluations[0].samples_total), (120, 30));
    assert_ne!(on_share.last.val_loss, on_share.outcome.test.loss);
}

#[test]
fn the_final_models_confusion_matrix_counts_every_test_sample_once() {
    let labels = small_data().test().labels.clone();
    // At the higher rate, the final model is not the best.
    for (learning_rate, is_best) in [(3e-3, true), (0.5, false)] {
        let spec = built(&draft().with("patience", 2).with("learning_rate", learning_rate));
        let outcome = trained(&spec, &small_data(), 2).outcome;
        assert_eq!(outcome.test == outcome.best_test, is_best);
        for (class, row) in outcome.confusion.iter().enumerate() {
            let of_class = labels.iter().filter(|&&label| usize::from(label) == class).count();
            assert_eq!(row.iter().sum::<u64>(), of_class as u64);
        }
        let right: u64 = (0..4).map(|class| outcome.confusion[class][class]).sum();
        assert_eq!(right as f64 / 70.0, outcome.test.accuracy);
    }
}
