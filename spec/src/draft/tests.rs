//! A spec is within its bounds or is not built; every problem of a draft is named at once.

use proptest::{collection::vec, prelude::*};
use serde_json::json;

use super::*;
use crate::{catalogue::all_fields, field::Kind};

fn built(draft: &Draft) -> TaskSpec {
    draft.build().expect("the draft is good")
}

/// What is wrong with a draft, one `pointer: message` a line.
fn problems(draft: &Draft) -> Vec<String> {
    draft.build().expect_err("the draft is bad").iter().map(Problem::to_string).collect()
}

fn draft_of(body: Value) -> Draft {
    let Value::Object(mut fields) = body else { panic!("a body is an object") };
    Draft::take_from(&mut fields)
}

#[test]
fn what_is_left_out_takes_the_default_of_its_row() {
    let spec = built(&Draft::new("cnn"));
    assert_eq!(spec.dataset(), &DatasetChoice { name: "mnist".to_owned(), explicit: false });
    let expected = json!({
        "epochs": 5, "batch_size": 128, "learning_rate": 0.001, "optimizer": "adam", "schedule": "constant", "seed": 1,
        "dropout": 0.5, "validation_fraction": 0.0, "target_accuracy": null, "patience": null, "max_seconds": null,
        "channels": [32, 64], "dense": 128
    });
    assert_eq!(Value::Object(spec.hyperparameters_json()), expected);
    assert_eq!(built(&Draft::new("lstm")).hyperparameters().dropout, 0.2);
}

#[test]
fn null_is_as_good_as_left_out() {
    let nulls = json!({"model": "mlp", "dataset": null, "hyperparameters": {"epochs": null, "channels": null}});
    assert_eq!(built(&draft_of(nulls)), built(&Draft::new("mlp")));
}

#[test]
fn a_spec_asks_for_itself() {
    let draft = Draft::new("cnn").on("mnist-10k").with("epochs", 7).with("channels", vec![8, 16]).with("patience", 2);
    let spec = built(&draft);
    assert_eq!(built(&draft_of(spec.to_json())), spec);
}

#[test]
fn every_problem_is_named_at_once_and_says_where() {
    let bad = json!({
        "model": "transformer", "dataset": "No Such",
        "hyperparameters": {
            "epochs": 0, "batch_size": 65537, "learning_rate": "fast", "optimizer": "lion", "weight_decay": 0.1,
            "schedule": "cosin", "seed": 9_007_199_254_740_992_u64, "dropout": 1.0, "patience": 1.5,
            "hidden": [128, 0, 5_000], "lerning_rate": 1, "a/b": 1
        }
    });
    let expected = [
        "/model: unknown model \"transformer\": expected one of mlp, cnn, lstm",
        "/dataset: \"No Such\" is not a dataset name: expected 1 to 64 of a to z, 0 to 9, '.', '-', '_', not starting with '.'",
        "/hyperparameters/epochs: 0 is outside 1 to 10000",
        "/hyperparameters/batch_size: 65537 is outside 1 to 8192",
        "/hyperparameters/learning_rate: expected a number, found \"fast\"",
        "/hyperparameters/optimizer: unknown optimizer \"lion\": expected one of adam, adamw, sgd",
        "/hyperparameters/weight_decay: only optimizer adamw has it",
        "/hyperparameters/schedule: unknown schedule \"cosin\": expected one of constant, step, cosine; did you mean \"cosine\"?",
        "/hyperparameters/seed: 9007199254740992 is outside 0 to 9007199254740991",
        "/hyperparameters/dropout: 1 is outside 0 to 0.95",
        "/hyperparameters/patience: expected a whole number from 0, found 1.5",
        "/hyperparameters/a~1b: unknown field",
        "/hyperparameters/hidden/1: 0 is outside 1 to 4096",
        "/hyperparameters/hidden/2: 5000 is outside 1 to 4096",
        "/hyperparameters/lerning_rate: unknown field; did you mean \"learning_rate\"?",
    ];
    assert_eq!(problems(&draft_of(bad)), expected);
}

#[test]
fn a_model_has_to_be_named() {
    assert_eq!(problems(&Draft::default()), ["/model: missing: expected one of mlp, cnn, lstm"]);
    let number = draft_of(json!({"model": 3, "hyperparameters": 7}));
    assert_eq!(
        problems(&number),
        ["/model: expected a string, found 3", "/hyperparameters: expected an object, found 7"]
    );
}

#[test]
fn a_field_of_something_else_is_refused() {
    for (model, field, owner) in [
        ("mlp", "weight_decay", "optimizer adamw"),
        ("mlp", "momentum", "optimizer sgd"),
        ("mlp", "schedule_every", "schedule step"),
        ("mlp", "schedule_factor", "schedule step"),
        ("cnn", "hidden", "model mlp"),
        ("lstm", "channels", "model cnn"),
        ("cnn", "units", "model lstm"),
        ("mlp", "dense", "model cnn or lstm"),
    ] {
        let row = all_fields().into_iter().find(|row| row.name == field).unwrap();
        let draft = Draft::new(model).with(field, row.default.to_json());
        assert_eq!(problems(&draft), [format!("/hyperparameters/{field}: only {owner} has it")]);
    }
}

/// A draft in which `field` applies.
fn with_owner(field: &Field) -> Draft {
    let owner = ModelKind::all().find(|model| model.row().fields.iter().any(|own| own.name == field.name));
    let draft = Draft::new(owner.map_or("mlp", ModelKind::as_str));
    field.applies_when.map_or(draft.clone(), |(owner, is)| draft.with(owner, is))
}

/// Values at and just beyond the bounds of a row.
fn edges(kind: Kind) -> (Vec<Value>, Vec<Value>) {
    match kind {
        Kind::Real { min, max } => {
            (vec![json!(min), json!(max)], vec![json!(min - min.abs().max(1.0) * 1e-3), json!(max * 1.001)])
        }
        Kind::Whole { min, max } => {
            let below = min.checked_sub(1).map(|below| json!(below));
            (vec![json!(min), json!(max)], below.into_iter().chain([json!(max + 1)]).collect())
        }
        Kind::Choice(of) => (of.iter().map(|name| json!(name)).collect(), vec![json!("")]),
        Kind::Flag => (vec![json!(true), json!(false)], vec![json!("true")]),
        Kind::List { length_max, min, max } => (
            vec![json!([min]), json!(vec![max; length_max])],
            vec![json!([]), json!(vec![min; length_max + 1]), json!([max + 1]), json!([min - 1])],
        ),
    }
}

#[test]
fn every_row_is_held_to_its_bounds() {
    for field in all_fields() {
        let (within, outside) = edges(field.kind);
        for value in within {
            built(&with_owner(field).with(field.name, value));
        }
        for value in outside.into_iter().chain([json!({})]) {
            let found = problems(&with_owner(field).with(field.name, value.clone()));
            let is_told = found.len() == 1 && found[0].starts_with(&format!("/hyperparameters/{}", field.name));
            assert!(is_told, "{} {value}: {found:?}", field.name);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) })]

    #[test]
    fn whatever_is_asked_for_is_built_or_named(
        model in 0_usize..4,
        dataset in proptest::option::of("[a-z.]{0,3}"),
        settings in vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u64>()), 0..6),
    ) {
        let mut draft = Draft::new(["mlp", "cnn", "lstm", ""][model]);
        if let Some(dataset) = &dataset {
            draft = draft.on(dataset);
        }
        for (field, edge, number) in settings {
            let field = field.get(&all_fields()).name;
            let kind = all_fields().into_iter().find(|row| row.name == field).unwrap().kind;
            let (mut values, outside) = edges(kind);
            values.extend(outside);
            values.extend([json!(number), json!(f64::from_bits(number)), json!("adam"), json!([number])]);
            draft = draft.with(field, edge.get(&values).clone());
        }
        match draft.build() {
            Ok(spec) => {
                for (field, setting) in spec.settings().filter(|(_, setting)| *setting != Setting::Off) {
                    prop_assert_eq!(field.read(&setting.to_json(), &mut Vec::new()), Some(setting));
                }
                prop_assert_eq!(TaskSpec::from_canonical(&spec.canonical()), Ok(spec));
            }
            Err(problems) => {
                prop_assert!(!problems.is_empty());
                prop_assert!(problems.iter().all(|p| p.pointer.starts_with('/') && !p.message.is_empty()));
            }
        }
    }
}
