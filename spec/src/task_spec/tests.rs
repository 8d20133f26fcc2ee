//! Stored hashes keep their meaning for ever: the literals below never change. A spec that needs something new is
//! refused by name.

use super::*;

fn built(draft: Draft) -> TaskSpec {
    draft.build().expect("the draft is good")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A draft in which every field that an mlp has in the first release is set.
fn full() -> Draft {
    Draft::new("mlp")
        .on("mnist")
        .with("epochs", 3)
        .with("batch_size", 64)
        .with("learning_rate", 0.01)
        .with("optimizer", "adamw")
        .with("weight_decay", 0.02)
        .with("schedule", "step")
        .with("schedule_every", 2)
        .with("schedule_factor", 0.1)
        .with("seed", 42)
        .with("dropout", 0.25)
        .with("validation_fraction", 0.1)
        .with("target_accuracy", 0.99)
        .with("patience", 4)
        .with("max_seconds", 600)
        .with("hidden", vec![64, 32])
}

#[test]
fn the_canonical_text_says_everything() {
    assert_eq!(
        built(full()).canonical(),
        r#"1{"dataset":{"explicit":true,"name":"mnist"},"hyperparameters":{"batch_size":64,"dropout":0.25,"epochs":3,"#
            .to_owned()
            + r#""hidden":[64,32],"learning_rate":0.01,"max_seconds":600,"optimizer":"adamw","patience":4,"#
            + r#""schedule":"step","schedule_every":2,"schedule_factor":0.1,"seed":42,"target_accuracy":0.99,"#
            + r#""validation_fraction":0.1,"weight_decay":0.02},"model":"mlp"}"#
    );
    let lstm = Draft::new("lstm").with("learning_rate", 1e-8);
    assert_eq!(
        built(lstm).canonical(),
        r#"1{"dataset":{"explicit":false,"name":"mnist"},"hyperparameters":{"batch_size":128,"dense":128,"dropout":0.2,"#
            .to_owned()
            + r#""epochs":5,"learning_rate":1e-8,"max_seconds":null,"optimizer":"adam","patience":null,"#
            + r#""schedule":"constant","seed":1,"target_accuracy":null,"units":128,"validation_fraction":0.0},"model":"lstm"}"#
    );
}

#[test]
fn a_stored_hash_keeps_its_meaning() {
    let hashes =
        [full(), Draft::new("mlp"), Draft::new("cnn"), Draft::new("lstm")].map(|draft| hex(built(draft).hash()));
    assert_eq!(
        hashes,
        [
            "87026a5cd0121e4f5118b58266fd1967d4868d2d5bca53ccde4434f118327569",
            "9b4112774bf71464d02e0a908583f35be16bc1d2c5c39b74f68901728adc6ac5",
            "2715ca7944816379c5631f0fe0a45e23e86dcdecc72bf9420d16a6912dc236e8",
            "a8f3827831d71e2be60e5c793ed458aa1d26c828a0c162065b4344df2918a091",
        ]
    );
}

#[test]
fn every_setting_is_part_of_the_hash() {
    let changes = [
        full().on("other"),
        full().with("epochs", 4),
        full().with("batch_size", 65),
        full().with("learning_rate", 0.010_000_000_000_000_002),
        full().with("optimizer", "adam").with("weight_decay", Value::Null),
        full().with("weight_decay", 0.03),
        full().with("schedule_every", 3),
        full().with("schedule_factor", 0.2),
        full().with("seed", 43),
        full().with("dropout", 0.5),
        full().with("validation_fraction", 0.2),
        full().with("target_accuracy", Value::Null),
        full().with("patience", 5),
        full().with("max_seconds", 601),
        full().with("hidden", vec![32, 64]),
        Draft::new("mlp"),
        Draft::new("mlp").on("mnist"),
        Draft::new("cnn"),
    ];
    let mut hashes: Vec<[u8; 32]> = changes.into_iter().chain([full()]).map(|draft| *built(draft).hash()).collect();
    let all = hashes.len();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), all, "two of the specs have the same hash");
}

#[test]
fn writing_a_default_out_changes_nothing() {
    let written = Draft::new("cnn").with("epochs", 5).with("optimizer", "adam").with("dropout", 0.5).with("dense", 128);
    assert_eq!(built(written), built(Draft::new("cnn")));
}

#[test]
fn a_spec_is_read_from_its_text() {
    for draft in [full(), Draft::new("mlp"), Draft::new("cnn"), Draft::new("lstm").with("learning_rate", 0.1)] {
        let spec = built(draft);
        assert_eq!(TaskSpec::from_canonical(&spec.canonical()), Ok(spec.clone()));
        assert_eq!(serde_json::from_str::<TaskSpec>(&serde_json::to_string(&spec).unwrap()).unwrap(), spec);
    }
}

#[test]
fn what_this_version_does_not_know_is_refused_by_name() {
    let text = built(Draft::new("mlp")).canonical();
    let read = |from: &str, to: &str| TaskSpec::from_canonical(&text.replace(from, to)).unwrap_err().to_string();
    assert_eq!(
        read("\"seed\":1", "\"seed\":1,\"warp_speed\":9"),
        "this version of kubeml cannot train it: /hyperparameters/warp_speed: unknown field"
    );
    assert_eq!(
        read("\"model\":\"mlp\"", "\"model\":\"transformer\""),
        "this version of kubeml cannot train it: /model: unknown model \"transformer\": expected one of ".to_owned()
            + &ModelKind::names().collect::<Vec<_>>().join(", ")
    );
}

#[test]
fn a_damaged_text_is_malformed() {
    let text = built(Draft::new("mlp")).canonical();
    for bad in [
        String::new(),
        text.replacen('1', "2", 1),
        text.replace("\"epochs\":5,", ""),
        text.replace("\"model\"", "\"mode\""),
        text.replace('}', ""),
    ] {
        assert!(matches!(TaskSpec::from_canonical(&bad), Err(SpecError::Malformed(_))), "{bad}");
    }
}

#[test]
fn the_first_release_is_format_1() {
    for model in ["mlp", "cnn", "lstm"] {
        assert_eq!(built(Draft::new(model)).format(), 1, "{model}");
    }
    assert_eq!(built(full()).format(), 1);
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
fn models_are_named_as_they_are_read_and_describe_their_layers() {
    for model in ModelKind::all() {
        assert_eq!(model.to_string().parse(), Ok(model));
        let layers = built(Draft::new(model.as_str())).layers();
        let is_output = |layer: &Layer| matches!(layer, Layer::Dense { units: crate::Units::Classes, .. });
        assert!(layers.last().is_some_and(is_output), "{layers:?}");
    }
}
