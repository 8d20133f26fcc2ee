//! A spec is within its bounds or is not built; every problem of a draft is told at once.

mod bounds;
mod identity;

use super::*;

/// A draft that names its model and nothing else.
fn draft(model: &str) -> SpecDraft {
    SpecDraft { model: Some(model.to_owned()), ..SpecDraft::default() }
}

fn built(draft: &SpecDraft) -> TaskSpec {
    TaskSpec::build(draft).expect("the draft is good")
}

/// What is wrong with a draft, one `pointer: message` a line.
fn problems(draft: &SpecDraft) -> Vec<String> {
    TaskSpec::build(draft).expect_err("the draft is bad").iter().map(Problem::to_string).collect()
}

#[test]
fn what_is_left_out_takes_the_documented_default() {
    let spec = built(&draft("cnn"));
    assert_eq!(spec.dataset, DatasetChoice { name: "mnist".to_owned(), explicit: false });
    let expected = Hyperparameters {
        epochs: 5,
        batch_size: 128,
        learning_rate: 0.001,
        optimizer: Optimizer::Adam,
        schedule: Schedule::Constant,
        seed: 1,
        dropout: 0.5,
        validation_fraction: 0.0,
        target_accuracy: None,
        patience: None,
        max_seconds: None,
        architecture: Architecture::Cnn { channels: vec![32, 64], dense: 128 },
    };
    assert_eq!(spec.hyperparameters, expected);
}

#[test]
fn each_model_has_an_architecture_of_its_own() {
    let of = |model: &str| built(&draft(model)).hyperparameters;
    assert_eq!(of("mlp").architecture, Architecture::Mlp { hidden: vec![128, 128] });
    assert_eq!(of("lstm").architecture, Architecture::Lstm { units: 128, dense: 128 });
    assert_eq!((of("mlp").dropout, of("lstm").dropout), (0.2, 0.2));
}

#[test]
fn optimizers_and_schedules_take_their_own_settings() {
    let with = |optimizer: &str, schedule: &str| {
        let named =
            SpecDraft { optimizer: Some(optimizer.to_owned()), schedule: Some(schedule.to_owned()), ..draft("mlp") };
        let spec = built(&named).hyperparameters;
        (spec.optimizer, spec.schedule)
    };
    assert_eq!(with("adam", "constant"), (Optimizer::Adam, Schedule::Constant));
    assert_eq!(with("adamw", "cosine"), (Optimizer::AdamW { weight_decay: 0.01 }, Schedule::Cosine));
    assert_eq!(with("sgd", "step"), (Optimizer::Sgd { momentum: 0.9 }, Schedule::Step { every: 1, factor: 0.5 }));
}

#[test]
fn every_problem_is_told_at_once_and_says_where() {
    let bad = SpecDraft {
        model: Some("transformer".to_owned()),
        dataset: Some("No Such".to_owned()),
        epochs: Some(0),
        batch_size: Some(65_537),
        learning_rate: Some(f64::NAN),
        optimizer: Some("lion".to_owned()),
        weight_decay: Some(0.1),
        schedule: Some("linear".to_owned()),
        seed: Some(1 << 53),
        dropout: Some(1.0),
        patience: Some(0),
        hidden: Some(vec![128, 0, 5_000]),
        ..SpecDraft::default()
    };
    let expected = [
        "/model: unknown model \"transformer\": expected one of mlp, cnn, lstm",
        "/dataset: \"No Such\" is no dataset name: expected 1 to 64 of a to z, 0 to 9, '.', '-', '_', not starting with '.'",
        "/hyperparameters/epochs: 0 is outside 1 to 10000",
        "/hyperparameters/batch_size: 65537 is outside 1 to 8192",
        "/hyperparameters/learning_rate: NaN is outside 0.00000001 to 10",
        "/hyperparameters/optimizer: unknown optimizer \"lion\": expected one of adam, adamw, sgd",
        "/hyperparameters/weight_decay: only optimizer adamw has it",
        "/hyperparameters/schedule: unknown schedule \"linear\": expected one of constant, step, cosine",
        "/hyperparameters/seed: 9007199254740992 is outside 0 to 9007199254740991",
        "/hyperparameters/dropout: 1 is outside 0 to 0.95",
        "/hyperparameters/patience: 0 is outside 1 to 10000",
        "/hyperparameters/hidden/1: 0 is outside 1 to 4096",
        "/hyperparameters/hidden/2: 5000 is outside 1 to 4096",
    ];
    assert_eq!(problems(&bad), expected);
}

#[test]
fn a_draft_without_a_model_says_so() {
    assert_eq!(problems(&SpecDraft::default()), ["/model: missing: expected one of mlp, cnn, lstm"]);
}

#[test]
fn a_setting_of_something_else_is_refused() {
    type Set = fn(&mut SpecDraft);
    let wrong: [(&str, &str, Set); 9] = [
        ("mlp", "weight_decay: only optimizer adamw has it", |draft| draft.weight_decay = Some(0.1)),
        ("mlp", "momentum: only optimizer sgd has it", |draft| draft.momentum = Some(0.9)),
        ("mlp", "schedule_every: only schedule step has it", |draft| draft.schedule_every = Some(2)),
        ("mlp", "schedule_factor: only schedule step has it", |draft| draft.schedule_factor = Some(0.5)),
        ("cnn", "hidden: only model mlp has it", |draft| draft.hidden = Some(vec![8])),
        ("lstm", "channels: only model cnn has it", |draft| draft.channels = Some(vec![8])),
        ("cnn", "units: only model lstm has it", |draft| draft.units = Some(8)),
        ("mlp", "dense: only model cnn or lstm has it", |draft| draft.dense = Some(8)),
        ("mlp", "units: only model lstm has it", |draft| draft.units = Some(8)),
    ];
    for (model, expected, set) in wrong {
        let mut draft = draft(model);
        set(&mut draft);
        assert_eq!(problems(&draft), [format!("/hyperparameters/{expected}")]);
    }
}

#[test]
fn dataset_names_fit_into_keys_paths_and_topics() {
    let longest = "a".repeat(64);
    for good in ["mnist", "mnist-10k", "a", "0_1.b", "-", &longest] {
        assert_eq!(valid_dataset_name(good), Ok(()), "{good}");
    }
    let too_long = "a".repeat(65);
    for bad in ["", ".", ".hidden", "..", "Mnist", "a b", "a/b", "a\\b", "a:b", "ä", "a\n", "a\0", &too_long] {
        assert!(valid_dataset_name(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn models_are_named_as_they_are_read() {
    for kind in ModelKind::ALL {
        assert_eq!(kind.to_string().parse(), Ok(kind));
    }
    assert_eq!("MLP".parse::<ModelKind>(), Err(UnknownModel("MLP".to_owned())));
}
