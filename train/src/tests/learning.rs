//! The models learn: they overfit a few samples, tell new ones apart, and walk the losses they walked before.

use kubeml_spec::{Draft, TaskSpec};

use super::{Scripted, built, data, finished, small_data, small_drafts, small_specs, trained};
use crate::{Observer, Phase, Threads, fit};

fn losses(spec: &TaskSpec) -> Vec<f64> {
    let mut observer = Scripted::default();
    finished(fit(spec, &small_data(), None, &Threads::new(2), &mut observer).unwrap());
    observer.steps.iter().map(|step| step.batch_loss).collect()
}

#[test]
fn every_step_tells_its_phases_in_order() {
    struct Phases(Vec<Phase>);
    impl Observer for Phases {
        fn phase(&mut self, phase: Phase) {
            self.0.push(phase);
        }
    }
    let mut phases = Phases(Vec::new());
    let trained = finished(fit(&small_specs()[0], &small_data(), None, &Threads::new(2), &mut phases).unwrap());
    assert_eq!(phases.0, [Phase::Shards, Phase::Update, Phase::Between].repeat(trained.outcome.steps as usize));
}

#[test]
fn every_metric_of_the_table_is_computed() {
    let mut observer = Scripted { seconds_per_question: 1.0, ..Scripted::default() };
    finished(fit(&small_specs()[0], &small_data(), None, &Threads::new(2), &mut observer).unwrap());
    for (metric, value) in observer.epochs[1].values() {
        assert!(value.is_finite() && value > 0.0, "{} is {value}", metric.name);
    }
}

#[test]
fn every_model_overfits_a_few_samples() {
    let data = data(24, 8, 12, 10, 4);
    for draft in small_drafts() {
        let draft = draft.with("epochs", 150).with("batch_size", 8).with("dropout", 0.0).with("learning_rate", 5e-3);
        let spec = built(&draft);
        let trained = trained(&spec, &data, 2);
        assert_eq!(trained.last.accuracy, 1.0, "{}", spec.model());
        assert!(trained.last.loss < 0.02, "{} {}", spec.model(), trained.last.loss);
    }
}

#[test]
fn every_model_and_optimizer_generalises_on_stripes() {
    let data = data(600, 200, 12, 10, 4);
    for draft in small_drafts() {
        for (optimizer, learning_rate) in [("adam", 1e-2), ("sgd", 5e-2)] {
            let draft = draft.clone().with("epochs", 12).with("batch_size", 32);
            let spec = built(&draft.with("optimizer", optimizer).with("learning_rate", learning_rate));
            let accuracy = trained(&spec, &data, 2).outcome.test.accuracy;
            assert!(accuracy > 0.9, "{} {optimizer} {accuracy}", spec.model());
        }
    }
}

#[test]
fn losses_are_those_of_the_day_they_were_written_down() {
    // Kernels of other instruction sets round differently, hence the tolerance.
    let found: Vec<Vec<f64>> = small_specs().iter().map(losses).collect();
    for (found_losses, expected) in found.iter().zip(EXPECTED) {
        assert_eq!(found_losses.len(), expected.len());
        for (loss, expected) in found_losses.iter().zip(expected) {
            assert!((loss - expected).abs() < 1e-4, "{found:.6?}");
        }
    }
}

/// Loss of each step of each of [`small_specs`].
const EXPECTED: [[f64; 4]; 3] = [
    [1.522155, 1.389064, 1.347251, 1.320845],
    [1.415128, 1.400817, 1.377150, 1.359125],
    [1.410696, 1.387765, 1.392354, 1.387173],
];

#[test]
fn parameters_are_counted_as_in_the_reference_models() {
    struct Count(usize);
    impl crate::Observer for Count {
        fn started(&mut self, started: &crate::Started) {
            self.0 = started.parameters;
        }
        fn step(&mut self, _: &crate::StepProgress) -> crate::Control {
            crate::Control::Stop
        }
    }
    let data = data(8, 4, 28, 28, 10);
    for (model, expected) in [("mlp", 118_282), ("cnn", 225_034), ("lstm", 98_186)] {
        let mut count = Count(0);
        fit(&built(&Draft::new(model)), &data, None, &Threads::new(1), &mut count).unwrap();
        assert_eq!(count.0, expected);
    }
}
