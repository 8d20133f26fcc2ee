//! What is refused, and how: specs that do not fit their data, datasets, losses that are not numbers, and every error.

use kubeml_spec::{Draft, ModelKind, Problem};

use super::{Scripted, built, data, finished, small_data, small_drafts, split, trained};
use crate::size::{fitting_stages, size};
use crate::{CheckpointError, Data, DataParts, Silent, Split, Threads, TrainError, Trained, fit};

/// Where a draft does not fit its data.
fn pointers(draft: &Draft, data: &Data) -> Vec<String> {
    let problems = fitting_stages(&built(draft), data).err().unwrap_or_default();
    problems.into_iter().map(|problem| problem.pointer).collect()
}

#[test]
fn defaults_have_no_problems() {
    for model in ModelKind::names() {
        assert_eq!(fitting_stages(&built(&Draft::new(model)), &data(4, 4, 28, 28, 10)).err(), None, "{model}");
    }
}

/// Every promise of this package is tested on these.
#[test]
fn every_kind_of_model_has_a_small_draft() {
    let drafted: Vec<ModelKind> = small_drafts().iter().map(|draft| built(draft).model()).collect();
    assert_eq!(drafted, ModelKind::all().collect::<Vec<_>>(), "add the new kind to small_drafts");
}

#[test]
fn all_problems_are_found_at_once() {
    let too_deep = Draft::new("cnn").with("channels", vec![9; 4]).with("validation_fraction", 0.001);
    let error = fit(&built(&too_deep), &small_data(), None, &Threads::new(1), &mut Silent).err().unwrap();
    assert!(matches!(&error, TrainError::InvalidSpec { problems } if problems.len() == 2), "{error}");
    let message = error.to_string();
    assert!(message.contains("/hyperparameters/validation_fraction: 0.001 of 150 training samples"), "{message}");
    assert!(message.contains("/model: conv.2 does not fit"), "{message}");
}

#[test]
fn a_spec_that_does_not_fit_the_data_is_refused() {
    assert_eq!(pointers(&Draft::new("cnn"), &data(4, 4, 9, 28, 3)), ["/model"]);
    for fraction in [0.01, 0.9] {
        let held_out = Draft::new("mlp").with("validation_fraction", fraction);
        assert_eq!(pointers(&held_out, &data(4, 4, 9, 9, 3)), ["/hyperparameters/validation_fraction"], "{fraction}");
    }
}

#[test]
fn a_network_that_would_take_the_machines_memory_is_refused() {
    let large = data(4, 4, 300, 300, 3);
    let wide = Draft::new("mlp").with("hidden", vec![4_096]);
    assert_eq!(pointers(&wide, &large), ["/model"]);
    let long = Draft::new("lstm").with("units", 512).with("dense", 1).with("batch_size", 8_192);
    assert_eq!(pointers(&long, &large), ["/hyperparameters/batch_size"]);
}

#[test]
fn parameters_are_counted_before_there_are_any() {
    let digits = data(4, 4, 28, 28, 10);
    for (model, parameters) in [("mlp", 118_282), ("cnn", 225_034), ("lstm", 98_186)] {
        let spec = built(&Draft::new(model));
        let stages = fitting_stages(&spec, &digits).unwrap();
        assert_eq!(size(&spec, &digits, &stages).parameters, parameters, "{model}");
    }
}

#[test]
fn other_sizes_and_many_classes_train() {
    let data = data(40, 10, 10, 17, 200);
    for draft in small_drafts() {
        let outcome = trained(&built(&draft.with("epochs", 1).with("batch_size", 7)), &data, 2).outcome;
        assert_eq!(outcome.confusion.len(), 200);
        assert!(outcome.test.loss.is_finite());
    }
    let one_sample = super::data(1, 1, 1, 1, 2);
    let spec = built(&Draft::new("mlp").with("hidden", vec![1]).with("epochs", 1));
    assert_eq!(trained(&spec, &one_sample, 4).outcome.steps, 1);
}

#[test]
fn a_thousand_classes_train() {
    let train = Split { images: vec![7; 4 * 9].into(), labels: vec![0, 255, 3, 4].into() };
    let parts = DataParts { height: 3, width: 3, classes: 1_000, test: train.clone(), train, hash: "k".to_string() };
    let spec = built(&Draft::new("mlp").with("hidden", vec![4]).with("epochs", 1));
    assert_eq!(trained(&spec, &Data::new(parts).unwrap(), 1).outcome.confusion.len(), 1_000);
}

#[test]
fn bad_data_is_refused_with_every_problem() {
    let good = || split("good", 4, 3, 3, 3);
    let parts = |height, classes, train: Split, hash: &str| DataParts {
        height,
        width: 3,
        classes,
        train,
        test: good(),
        hash: hash.to_string(),
    };
    assert!(Data::new(parts(3, 3, good(), "h")).is_ok());
    for (bad, count) in [
        (parts(0, 3, good(), "h"), 1),
        (parts(usize::MAX, 3, good(), "h"), 1),
        (parts(3, 1, good(), ""), 4),
        (parts(3, 2_000, good(), "two\nlines"), 2),
        (parts(4, 3, Split::default(), "h"), 2),
        (parts(3, 3, Split { images: vec![0; 18].into(), labels: vec![0, 3].into() }, "h"), 1),
        (parts(3, 3, Split { images: vec![0; 17].into(), labels: vec![0, 2].into() }, "h"), 1),
    ] {
        match Data::new(bad) {
            Err(TrainError::InvalidData { problems }) => assert_eq!(problems.len(), count, "{problems:?}"),
            _ => panic!("it should have been refused"),
        }
    }
}

/// Multiplies every weight by -9 in every step.
fn diverging() -> Draft {
    let [mlp, ..] = small_drafts();
    mlp.with("optimizer", "adamw").with("weight_decay", 1.0).with("learning_rate", 10.0)
}

#[test]
fn a_loss_that_is_not_a_number_names_its_step() {
    let spec = built(&diverging().with("epochs", 200));
    match fit(&spec, &small_data(), None, &Threads::new(2), &mut Silent) {
        Err(TrainError::NotFinite { step, epoch, loss }) => {
            assert!(step > 1 && epoch >= 1 && !loss.is_finite(), "step {step} epoch {epoch} loss {loss}");
        }
        other => panic!("it should have failed: {}", other.is_ok()),
    }
}

#[test]
fn weights_that_overflow_in_the_last_step_are_not_a_result() {
    let data = small_data();
    // One step an epoch, so that each step is some training's last.
    let draft = diverging().with("batch_size", data.train().len());
    let mut first_failure = None;
    for epochs in 1..=30 {
        let (spec, mut observer) = (built(&draft.clone().with("epochs", epochs)), Scripted::default());
        match fit(&spec, &data, None, &Threads::new(1), &mut observer) {
            Ok(ended) => {
                let Trained { last, outcome, .. } = *finished(ended);
                assert!([last.val_loss, outcome.test.loss].iter().all(|loss| loss.is_finite()), "{epochs}");
            }
            Err(TrainError::NotFinite { step, epoch, .. }) => {
                assert!(step <= u64::from(epochs) && epoch <= epochs, "step {step}, epoch {epoch} of {epochs}");
                first_failure.get_or_insert((epochs, observer.steps.len() as u32));
            }
            Err(error) => panic!("{error}"),
        }
    }
    let (epochs, finite_steps) = first_failure.unwrap();
    assert!(epochs > 1 && finite_steps == epochs, "{finite_steps} of {epochs} steps have a finite loss");
}

#[test]
fn every_error_has_its_words() {
    let checkpoint = CheckpointError::Truncated { found: 3 };
    let problems = vec![Problem::new("/model", "too deep")];
    let table = [
        (TrainError::InvalidSpec { problems }, "does not fit its dataset: /model: too deep"),
        (TrainError::InvalidData { problems: vec!["two".into()] }, "the dataset has 1 problems: two"),
        (TrainError::Checkpoint(checkpoint), "cannot resume: the checkpoint has 3 bytes"),
        (TrainError::NotFinite { step: 8, epoch: 2, loss: f64::NAN }, "NaN at step 8 of epoch 2"),
        (TrainError::Threads { threads: 9, reason: "full".into() }, "9 training threads: full"),
        (TrainError::Panicked { message: "oh".into() }, "panicked: oh"),
        (TrainError::Kernel(candle_core::Error::Msg("no".into())), "a kernel failed: no"),
    ];
    for (error, words) in table {
        assert!(error.to_string().contains(words), "{error}");
    }
}
