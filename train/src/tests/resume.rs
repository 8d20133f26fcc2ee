//! Stopped anywhere and resumed, a training ends with the bits of the undisturbed one, metrics included.

use kubeml_spec::TaskSpec;

use super::{Scripted, built, finished, meaning, small_data, small_drafts, small_specs, stopped, trained};
use crate::checkpoint::Progress;
use crate::{Checkpoint, Data, Silent, Snapshot, Threads, fit, hex, kernel_set};

fn through_bytes(snapshot: &Snapshot) -> Checkpoint {
    Checkpoint::decode(&snapshot.encode()).unwrap()
}

fn stopped_after(step: u64, spec: &TaskSpec, data: &Data) -> Snapshot {
    let mut observer = Scripted { stop_at: Some(step), ..Scripted::default() };
    stopped(fit(spec, data, None, &Threads::new(2), &mut observer).unwrap())
}

/// The small specs, and two that use every other feature.
fn specs() -> Vec<TaskSpec> {
    let [mlp, ..] = small_drafts();
    let sgd = mlp.clone().with("epochs", 3).with("batch_size", 33).with("optimizer", "sgd").with("schedule", "cosine");
    let adamw = mlp.with("optimizer", "adamw").with("weight_decay", 0.1).with("schedule", "step");
    let others = [sgd.with("validation_fraction", 0.25).with("patience", 2), adamw];
    small_drafts().iter().chain(&others).map(built).collect()
}

#[test]
fn resumed_at_any_step_it_ends_as_if_undisturbed() {
    let data = small_data();
    for spec in specs() {
        let undisturbed = trained(&spec, &data, 2);
        for step in 1..=undisturbed.outcome.steps {
            let snapshot = stopped_after(step, &spec, &data);
            assert_eq!(snapshot.step(), step);
            let resumed = fit(&spec, &data, Some(through_bytes(&snapshot)), &Threads::new(1), &mut Silent).unwrap();
            assert_eq!(meaning(&finished(resumed)), meaning(&undisturbed), "{} at {step}", spec.model());
        }
    }
}

#[test]
fn resumed_from_any_snapshot_it_ends_as_if_undisturbed() {
    let data = small_data();
    for spec in specs() {
        let mut observer = Scripted { snapshots_wanted: true, ..Scripted::default() };
        let undisturbed = finished(fit(&spec, &data, None, &Threads::new(2), &mut observer).unwrap());
        assert_eq!(observer.snapshots.len() as u64, undisturbed.outcome.steps + u64::from(undisturbed.outcome.epochs));
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
    for step in 1..=undisturbed.outcome.steps {
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
    let ([draft, ..], data) = (small_drafts(), small_data());
    let (spec, other) = (built(&draft), built(&draft.with("seed", 99)));
    let snapshot = stopped_after(1, &spec, &data);
    let refused = |spec: &TaskSpec, data, snapshot: &Snapshot| {
        let checkpoint = Checkpoint::from(snapshot.clone());
        fit(spec, data, Some(checkpoint), &Threads::new(1), &mut Silent).err().unwrap().to_string()
    };
    let message = refused(&other, &data, &snapshot);
    assert!(message.contains(&hex(spec.hash())) && message.contains(&hex(other.hash())), "{message}");
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
        finished(resumed).outcome.kernel_set
    };
    let here = kernel_set();
    assert_eq!(snapshot.kernel_sets, here);
    assert_eq!(kernel_sets(here), here);
    assert_eq!(kernel_sets("other"), format!("other+{here}"));
    assert_eq!(kernel_sets(&format!("{here}+other")), format!("{here}+other"));
}
