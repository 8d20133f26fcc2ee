//! What is refused, and how: specs, datasets, losses that are no numbers, and the verdict on every error.

use super::{data, small_data, small_specs, split, trained};
use crate::size::Size;
use crate::{
    CheckpointError, Data, DataParts, FitSpec, ModelSpec, OptimizerKind, Schedule, Silent, Split, Threads, TrainError,
    Verdict, fit,
};

fn fields(spec: &FitSpec) -> Vec<&'static str> {
    spec.problems().iter().map(|problem| problem.field).collect()
}

#[test]
fn defaults_have_no_problems() {
    for model in [ModelSpec::mlp(), ModelSpec::cnn(), ModelSpec::lstm()] {
        assert_eq!(FitSpec::new(model).problems_with(&data(4, 4, 28, 28, 10)), []);
    }
}

#[test]
fn all_problems_are_found_at_once() {
    let spec = FitSpec {
        model: ModelSpec::Cnn { channels: vec![0, 9, 9, 9, 9], dense: 0 },
        epochs: 0,
        batch_size: 0,
        optimizer: OptimizerKind::Sgd { momentum: 1.0 },
        learning_rate: f64::NAN,
        schedule: Schedule::Step { every: 0, factor: -1.0 },
        dropout: 1.0,
        seed: 0,
        validation_fraction: -0.1,
        target_accuracy: Some(1.5),
        patience: Some(0),
        max_seconds: Some(0.0),
    };
    let expected = [
        "model.channels",
        "model.channels",
        "model.dense",
        "epochs",
        "batch_size",
        "learning_rate",
        "dropout",
        "validation_fraction",
        "optimizer.momentum",
        "schedule.every",
        "schedule.factor",
        "target_accuracy",
        "patience",
        "max_seconds",
    ];
    assert_eq!(fields(&spec), expected);
    let error = fit(&spec, &small_data(), None, &Threads::new(1), &mut Silent).err().unwrap();
    assert!(matches!(&error, TrainError::InvalidSpec { problems } if problems.len() == 15), "{error}");
    assert!(error.to_string().contains("model.dense: 0 is not between 1 and 4096"), "{error}");
}

#[test]
fn values_that_are_no_numbers_are_problems() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0] {
        let spec = FitSpec {
            learning_rate: value,
            dropout: value,
            validation_fraction: value,
            optimizer: OptimizerKind::AdamW { weight_decay: value },
            max_seconds: Some(value),
            ..FitSpec::new(ModelSpec::mlp())
        };
        assert_eq!(fields(&spec).len(), 5, "{value}");
    }
}

#[test]
fn a_spec_that_does_not_fit_the_data_is_refused() {
    let cnn = FitSpec::new(ModelSpec::cnn());
    assert_eq!(cnn.problems_with(&data(4, 4, 9, 28, 3))[0].field, "model.channels");
    let held_out = FitSpec { validation_fraction: 0.01, ..FitSpec::new(ModelSpec::mlp()) };
    assert_eq!(held_out.problems_with(&data(4, 4, 9, 9, 3))[0].field, "validation_fraction");
}

#[test]
fn a_network_that_would_take_the_machines_memory_is_refused() {
    let data = data(4, 4, 300, 300, 3);
    let wide = FitSpec::new(ModelSpec::Mlp { hidden: vec![4_096] });
    assert_eq!(wide.problems_with(&data)[0].field, "model");
    let long = FitSpec { batch_size: 8_192, ..FitSpec::new(ModelSpec::Lstm { units: 512, dense: 1 }) };
    assert_eq!(long.problems_with(&data)[0].field, "batch_size");
    let counted = |model| Size::of(&FitSpec::new(model), &super::data(4, 4, 28, 28, 10)).parameters;
    assert_eq!(counted(ModelSpec::mlp()), 118_282);
    assert_eq!(counted(ModelSpec::cnn()), 225_034);
    assert_eq!(counted(ModelSpec::lstm()), 98_186);
}

#[test]
fn other_sizes_and_many_classes_train() {
    let data = data(40, 10, 10, 17, 200);
    for spec in small_specs() {
        let trained = trained(&FitSpec { epochs: 1, batch_size: 7, ..spec }, &data, 2);
        assert_eq!(trained.test.confusion.len(), 200);
        assert!(trained.test.loss.is_finite());
    }
    let one_sample = super::data(1, 1, 1, 1, 2);
    let spec = FitSpec { epochs: 1, ..FitSpec::new(ModelSpec::Mlp { hidden: vec![1] }) };
    assert_eq!(super::trained(&spec, &one_sample, 4).steps, 1);
}

#[test]
fn a_thousand_classes_train() {
    let train = Split { images: vec![7; 4 * 9].into(), labels: vec![0, 255, 3, 4].into() };
    let parts = DataParts { height: 3, width: 3, classes: 1_000, test: train.clone(), train, hash: "k".to_string() };
    let spec = FitSpec { epochs: 1, ..FitSpec::new(ModelSpec::Mlp { hidden: vec![4] }) };
    assert_eq!(trained(&spec, &Data::new(parts).unwrap(), 1).test.confusion.len(), 1_000);
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

#[test]
fn a_loss_that_is_no_number_names_its_step() {
    // Every step multiplies the weights by -99.
    let optimizer = OptimizerKind::AdamW { weight_decay: 10.0 };
    let spec = FitSpec { epochs: 200, learning_rate: 10.0, optimizer, ..small_specs()[0].clone() };
    match fit(&spec, &small_data(), None, &Threads::new(2), &mut Silent) {
        Err(TrainError::NotFinite { step, epoch, loss }) => {
            assert!(step > 1 && epoch >= 1 && !loss.is_finite(), "step {step} epoch {epoch} loss {loss}");
        }
        other => panic!("it should have failed: {}", other.is_ok()),
    }
}

#[test]
fn weights_that_overflow_in_the_last_step_are_no_result() {
    let (data, optimizer) = (small_data(), OptimizerKind::AdamW { weight_decay: 10.0 });
    // One step an epoch, so that each step is some training's last.
    let batch_size = data.train().len();
    let fits = |epochs: u32| {
        let spec = FitSpec { epochs, batch_size, learning_rate: 10.0, optimizer, ..small_specs()[0].clone() };
        match fit(&spec, &data, None, &Threads::new(1), &mut Silent) {
            Ok(outcome) => {
                let trained = super::finished(outcome);
                assert!([trained.last.val_loss, trained.test.loss].iter().all(|loss| loss.is_finite()), "{epochs}");
                true
            }
            Err(TrainError::NotFinite { step, epoch, .. }) => {
                assert!(step <= u64::from(epochs) && epoch <= epochs, "step {step}, epoch {epoch} of {epochs}");
                false
            }
            Err(error) => panic!("{error}"),
        }
    };
    let ends: Vec<bool> = (1..=30).map(fits).collect();
    assert!(ends.contains(&true) && ends.contains(&false), "{ends:?}");
}

#[test]
fn every_error_has_its_verdict_and_its_words() {
    let checkpoint = CheckpointError::Truncated { found: 3 };
    let table = [
        (TrainError::InvalidSpec { problems: Vec::new() }, Verdict::GiveUp, "problems"),
        (TrainError::InvalidData { problems: Vec::new() }, Verdict::GiveUp, "problems"),
        (TrainError::Checkpoint(checkpoint), Verdict::GiveUp, "3 bytes"),
        (TrainError::NotFinite { step: 8, epoch: 2, loss: f64::NAN }, Verdict::GiveUp, "NaN at step 8 of epoch 2"),
        (TrainError::Threads { threads: 9, reason: "full".into() }, Verdict::Retry, "9 training threads: full"),
        (TrainError::Panicked { message: "oh".into() }, Verdict::Retry, "panicked: oh"),
        (TrainError::Kernel(candle_core::Error::Msg("no".into())), Verdict::GiveUp, "no"),
    ];
    for (error, verdict, words) in table {
        assert_eq!(error.verdict(), verdict, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn equal_specs_have_equal_hashes() {
    let spec = FitSpec::new(ModelSpec::cnn());
    assert_eq!(spec.hash(), FitSpec::new(ModelSpec::cnn()).hash());
    assert_eq!(spec.hash().len(), 64);
}
