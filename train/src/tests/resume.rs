//! Stopped anywhere and resumed, a training ends with the bits of the undisturbed one, metrics included.

use super::{Scripted, finished, meaning, small_data, small_specs, stopped, trained};
use crate::checkpoint::Progress;
use crate::{Checkpoint, Data, FitSpec, OptimizerKind, Schedule, Silent, Snapshot, Threads, fit, kernel_set};

fn through_bytes(snapshot: &Snapshot) -> Checkpoint {
    Checkpoint::decode(&snapshot.encode()).unwrap()
}

fn stopped_after(step: u64, spec: &FitSpec, data: &Data) -> Snapshot {
    let mut observer = Scripted { stop_at: Some(step), ..Scripted::default() };
    stopped(fit(spec, data, None, &Threads::new(2), &mut observer).unwrap())
}

/// The small specs, and one that uses every other feature.
fn specs() -> Vec<FitSpec> {
    let mut specs = small_specs().to_vec();
    specs.push(FitSpec {
        epochs: 3,
        batch_size: 33,
        optimizer: OptimizerKind::Sgd { momentum: 0.9 },
        schedule: Schedule::Cosine,
        validation_fraction: 0.25,
        patience: Some(2),
        ..small_specs()[0].clone()
    });
    specs.push(FitSpec {
        optimizer: OptimizerKind::AdamW { weight_decay: 0.1 },
        schedule: Schedule::Step { every: 1, factor: 0.5 },
        ..small_specs()[0].clone()
    });
    specs
}

#[test]
fn resumed_at_any_step_it_ends_as_if_undisturbed() {
    let data = small_data();
    for spec in specs() {
        let undisturbed = trained(&spec, &data, 2);
        for step in 1..=undisturbed.steps {
            let snapshot = stopped_after(step, &spec, &data);
            assert_eq!(snapshot.step(), step);
            let resumed = fit(&spec, &data, Some(through_bytes(&snapshot)), &Threads::new(1), &mut Silent).unwrap();
            assert_eq!(meaning(&finished(resumed)), meaning(&undisturbed), "{} at {step}", spec.model.kind());
        }
    }
}

#[test]
fn resumed_from_any_snapshot_it_ends_as_if_undisturbed() {
    let data = small_data();
    for spec in specs() {
        let mut observer = Scripted { snapshots_wanted: true, ..Scripted::default() };
        let undisturbed = finished(fit(&spec, &data, None, &Threads::new(2), &mut observer).unwrap());
        assert_eq!(observer.snapshots.len() as u64, undisturbed.steps + u64::from(undisturbed.epochs_run));
        for snapshot in &observer.snapshots {
            let resumed = fit(&spec, &data, Some(through_bytes(snapshot)), &Threads::new(2), &mut Silent).unwrap();
            assert_eq!(meaning(&finished(resumed)), meaning(&undisturbed));
        }
    }
}

#[test]
fn stopped_during_any_evaluation_it_ends_as_if_undisturbed() {
    let data = small_data();
    for spec in specs() {
        let mut heard = Scripted::default();
        let undisturbed = finished(fit(&spec, &data, None, &Threads::new(1), &mut heard).unwrap());
        for at in 1..=heard.evaluations.len() {
            let mut observer = Scripted { stop_at_evaluation: Some(at), ..Scripted::default() };
            let snapshot = stopped(fit(&spec, &data, None, &Threads::new(1), &mut observer).unwrap());
            let resumed = fit(&spec, &data, Some(through_bytes(&snapshot)), &Threads::new(2), &mut Silent).unwrap();
            assert_eq!(meaning(&finished(resumed)), meaning(&undisturbed));
        }
    }
}

#[test]
fn stopped_at_every_single_step_it_still_gets_there() {
    let (spec, data) = (&small_specs()[2], small_data());
    let undisturbed = trained(spec, &data, 2);
    let mut checkpoint = None;
    for step in 1..=undisturbed.steps {
        let mut observer = Scripted { stop_at: Some(step), ..Scripted::default() };
        let snapshot = stopped(fit(spec, &data, checkpoint, &Threads::new(2), &mut observer).unwrap());
        assert_eq!(observer.steps.len(), 1);
        checkpoint = Some(through_bytes(&snapshot));
    }
    let resumed = fit(spec, &data, checkpoint, &Threads::new(2), &mut Silent).unwrap();
    assert_eq!(meaning(&finished(resumed)), meaning(&undisturbed));
}

#[test]
fn running_metrics_go_on_where_they_were() {
    let (spec, data) = (&small_specs()[1], small_data());
    let mut whole = Scripted::default();
    fit(spec, &data, None, &Threads::new(2), &mut whole).unwrap();
    let mut first = Scripted { stop_at: Some(1), ..Scripted::default() };
    let snapshot = stopped(fit(spec, &data, None, &Threads::new(2), &mut first).unwrap());
    let mut second = Scripted::default();
    fit(spec, &data, Some(snapshot.into()), &Threads::new(2), &mut second).unwrap();
    first.steps.extend(second.steps);
    assert_eq!(first.steps, whole.steps);
    assert_eq!(second.epochs, whole.epochs);
}

#[test]
fn a_checkpoint_of_something_else_is_refused_by_name() {
    let (spec, data) = (small_specs()[0].clone(), small_data());
    let snapshot = stopped_after(1, &spec, &data);
    let other = FitSpec { seed: 99, ..spec.clone() };
    let refused = |spec: &FitSpec, data, snapshot: &Snapshot| {
        let checkpoint = Checkpoint::from(snapshot.clone());
        fit(spec, data, Some(checkpoint), &Threads::new(1), &mut Silent).err().unwrap().to_string()
    };
    let message = refused(&other, &data, &snapshot);
    assert!(message.contains(&spec.hash()) && message.contains(&other.hash()), "{message}");
    let elsewhere = Snapshot { dataset_hash: "other".to_string(), ..snapshot.clone() };
    let message = refused(&spec, &data, &elsewhere);
    assert!(message.contains("synthetic") && message.contains("other"), "{message}");
    let smaller = super::data(150, 70, 9, 9, 4);
    let message = refused(&spec, &smaller, &snapshot);
    assert!(message.contains("hidden.0.weight"), "{message}");
}

#[test]
fn progress_that_no_training_makes_is_refused() {
    let (spec, data) = (small_specs()[0].clone(), small_data());
    let snapshot = stopped_after(3, &spec, &data);
    let changes: [fn(&mut Progress); 6] = [
        |progress| progress.step = 9,
        |progress| progress.last = None,
        |progress| progress.best = None,
        |progress| progress.best.as_mut().unwrap().epoch = 2,
        |progress| progress.last.as_mut().unwrap().epoch = 2,
        |progress| {
            (progress.epoch, progress.step) = (3, 6);
            progress.last.as_mut().unwrap().epoch = 3;
        },
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let mut changed = snapshot.clone();
        change(&mut changed.progress);
        let refused = fit(&spec, &data, Some(changed.into()), &Threads::new(1), &mut Silent).err();
        let message = refused.map(|error| error.to_string()).unwrap_or_default();
        assert!(message.contains("the checkpoint is malformed"), "change {at}: {message}");
    }
}

#[test]
fn a_receipt_names_every_kernel_set_that_had_a_part() {
    let (spec, data) = (small_specs()[0].clone(), small_data());
    let snapshot = stopped_after(1, &spec, &data);
    let kernel_sets = |before: &str| {
        let snapshot = Snapshot { kernel_sets: before.to_string(), ..snapshot.clone() };
        let resumed = fit(&spec, &data, Some(through_bytes(&snapshot)), &Threads::new(1), &mut Silent).unwrap();
        finished(resumed).kernel_sets
    };
    let here = kernel_set();
    assert_eq!(snapshot.kernel_sets, here);
    assert_eq!(kernel_sets(here), here);
    assert_eq!(kernel_sets("other"), format!("other+{here}"));
    assert_eq!(kernel_sets(&format!("{here}+other")), format!("{here}+other"));
}
