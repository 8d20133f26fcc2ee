//! Two specs with the same hash ask for the same training. Stored hashes must keep their meaning: when one of the
//! literals below has to change, so has the version at the beginning of `canonical`.

use super::{built, draft};
use crate::{dataset::hex, spec::SpecDraft};

/// A draft in which every field that an mlp may have is set.
fn full() -> SpecDraft {
    SpecDraft {
        dataset: Some("mnist".to_owned()),
        epochs: Some(3),
        batch_size: Some(64),
        learning_rate: Some(0.01),
        optimizer: Some("adamw".to_owned()),
        weight_decay: Some(0.02),
        schedule: Some("step".to_owned()),
        schedule_every: Some(2),
        schedule_factor: Some(0.1),
        seed: Some(42),
        dropout: Some(0.25),
        validation_fraction: Some(0.1),
        target_accuracy: Some(0.99),
        patience: Some(4),
        max_seconds: Some(600),
        hidden: Some(vec![64, 32]),
        ..draft("mlp")
    }
}

#[test]
fn the_canonical_line_says_everything() {
    assert_eq!(
        built(&full()).canonical(),
        "v1 model=mlp architecture=Mlp { hidden: [64, 32] } dataset=\"mnist\"/true epochs=3 batch_size=64 \
         learning_rate=0.01 optimizer=AdamW { weight_decay: 0.02 } schedule=Step { every: 2, factor: 0.1 } seed=42 \
         dropout=0.25 validation_fraction=0.1 target_accuracy=Some(0.99) patience=Some(4) max_seconds=Some(600)"
    );
    assert_eq!(
        built(&draft("lstm")).canonical(),
        "v1 model=lstm architecture=Lstm { units: 128, dense: 128 } dataset=\"mnist\"/false epochs=5 batch_size=128 \
         learning_rate=0.001 optimizer=Adam schedule=Constant seed=1 dropout=0.2 validation_fraction=0.0 \
         target_accuracy=None patience=None max_seconds=None"
    );
}

#[test]
fn a_stored_hash_keeps_its_meaning() {
    let hashes = [full(), draft("mlp"), draft("cnn"), draft("lstm")].map(|draft| hex(&built(&draft).hash()));
    assert_eq!(
        hashes,
        [
            "80b009732e4fccd5ce3654c4fc3cc2e919aec36b407c0777986ad340d9ac5e91",
            "48f404efe0ad1aae471fb2371b357588e9eb954e886e0ef0993e2d620d13864c",
            "42e64a3fcace44425b856701f5af1876df06939407d6b932ab3f864eaf54eed2",
            "9031b777a0972f1449919740eb67f6eee1255c367b993ff93f56688efc7792a7",
        ]
    );
}

#[test]
fn every_setting_is_part_of_the_hash() {
    let changes: [fn(&mut SpecDraft); 17] = [
        |draft| draft.dataset = None,
        |draft| draft.dataset = Some("other".to_owned()),
        |draft| draft.epochs = Some(4),
        |draft| draft.batch_size = Some(65),
        |draft| draft.learning_rate = Some(0.010_000_000_000_000_002),
        |draft| (draft.optimizer, draft.weight_decay) = (None, None),
        |draft| draft.weight_decay = Some(0.03),
        |draft| draft.schedule_every = Some(3),
        |draft| draft.schedule_factor = Some(0.2),
        |draft| draft.seed = Some(43),
        |draft| draft.dropout = Some(0.5),
        |draft| draft.validation_fraction = Some(0.2),
        |draft| draft.target_accuracy = None,
        |draft| draft.patience = Some(5),
        |draft| draft.max_seconds = Some(601),
        |draft| draft.hidden = Some(vec![32, 64]),
        |draft| (draft.model, draft.hidden) = (Some("cnn".to_owned()), None),
    ];
    let mut hashes = vec![built(&full()).hash()];
    for change in changes {
        let mut changed = full();
        change(&mut changed);
        hashes.push(built(&changed).hash());
    }
    let all = hashes.len();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), all, "two of the specs have the same hash");
}

#[test]
fn writing_a_default_out_changes_nothing() {
    let written = SpecDraft {
        epochs: Some(5),
        batch_size: Some(128),
        learning_rate: Some(0.001),
        optimizer: Some("adam".to_owned()),
        seed: Some(1),
        dropout: Some(0.5),
        channels: Some(vec![32, 64]),
        ..draft("cnn")
    };
    assert_eq!(built(&written).hash(), built(&draft("cnn")).hash());
}
