//! The bounds: where each one lies, and that nothing gets past them.

use std::ops::RangeInclusive;

use proptest::{
    collection::vec,
    prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest},
    test_runner::RngSeed,
};

use super::{built, draft, problems};
use crate::spec::{
    Architecture, BATCH_SIZE, BLOCKS_MAX, CHANNELS, EPOCHS, Hyperparameters, LAYERS_MAX, ModelKind, Optimizer,
    SEED_MAX, Schedule, SpecDraft, TaskSpec, UNITS, WIDTH, valid_dataset_name,
};

/// A field, the smallest draft that may have it, and what lies just within and just outside its bounds.
struct Bound<T: 'static> {
    field: &'static str,
    model: &'static str,
    set: fn(&mut SpecDraft, T),
    within: &'static [T],
    outside: &'static [T],
}

const WHOLE: [Bound<u64>; 10] = [
    Bound {
        field: "epochs",
        model: "mlp",
        set: |d, v| d.epochs = small(v),
        within: &[1, 10_000],
        outside: &[0, 10_001],
    },
    Bound {
        field: "batch_size",
        model: "mlp",
        set: |d, v| d.batch_size = small(v),
        within: &[1, 8_192],
        outside: &[0, 8_193],
    },
    Bound {
        field: "seed",
        model: "mlp",
        set: |d, v| d.seed = Some(v),
        within: &[0, SEED_MAX],
        outside: &[SEED_MAX + 1],
    },
    Bound {
        field: "patience",
        model: "mlp",
        set: |d, v| d.patience = small(v),
        within: &[1, 10_000],
        outside: &[0, 10_001],
    },
    Bound {
        field: "max_seconds",
        model: "mlp",
        set: |d, v| d.max_seconds = small(v),
        within: &[1, 31_536_000],
        outside: &[0, 31_536_001],
    },
    Bound {
        field: "schedule_every",
        model: "mlp",
        set: |d, v| (d.schedule, d.schedule_every) = (Some("step".to_owned()), small(v)),
        within: &[1, 10_000],
        outside: &[0, 10_001],
    },
    Bound { field: "units", model: "lstm", set: |d, v| d.units = small(v), within: &[1, 512], outside: &[0, 513] },
    Bound { field: "dense", model: "cnn", set: |d, v| d.dense = small(v), within: &[1, 4_096], outside: &[0, 4_097] },
    Bound {
        field: "hidden/1",
        model: "mlp",
        set: |d, v| d.hidden = Some(vec![8, v as u32]),
        within: &[1, 4_096],
        outside: &[0, 4_097],
    },
    Bound {
        field: "channels/0",
        model: "cnn",
        set: |d, v| d.channels = Some(vec![v as u32]),
        within: &[1, 512],
        outside: &[0, 513],
    },
];

const REAL: [Bound<f64>; 7] = [
    Bound {
        field: "learning_rate",
        model: "mlp",
        set: |d, v| d.learning_rate = Some(v),
        within: &[1e-8, 10.0],
        outside: &[0.0, 9.9e-9, 10.1],
    },
    Bound {
        field: "dropout",
        model: "mlp",
        set: |d, v| d.dropout = Some(v),
        within: &[0.0, 0.95],
        outside: &[-0.1, 0.951],
    },
    Bound {
        field: "validation_fraction",
        model: "mlp",
        set: |d, v| d.validation_fraction = Some(v),
        within: &[0.0, 0.9],
        outside: &[-0.1, 0.91],
    },
    Bound {
        field: "target_accuracy",
        model: "mlp",
        set: |d, v| d.target_accuracy = Some(v),
        within: &[0.0, 1.0],
        outside: &[-0.1, 1.1],
    },
    Bound {
        field: "weight_decay",
        model: "mlp",
        set: |d, v| (d.optimizer, d.weight_decay) = (Some("adamw".to_owned()), Some(v)),
        within: &[0.0, 1.0],
        outside: &[-0.1, 1.1],
    },
    Bound {
        field: "momentum",
        model: "mlp",
        set: |d, v| (d.optimizer, d.momentum) = (Some("sgd".to_owned()), Some(v)),
        within: &[0.0, 0.9999],
        outside: &[-0.1, 1.0],
    },
    Bound {
        field: "schedule_factor",
        model: "mlp",
        set: |d, v| (d.schedule, d.schedule_factor) = (Some("step".to_owned()), Some(v)),
        within: &[1e-6, 1.0],
        outside: &[0.0, 1.1],
    },
];

const NO_NUMBERS: [f64; 3] = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];

fn small(value: u64) -> Option<u32> {
    u32::try_from(value).ok()
}

impl<T: Copy + std::fmt::Debug> Bound<T> {
    fn check(&self, also_outside: &[T]) {
        for value in self.within {
            assert!(TaskSpec::build(&self.draft(*value)).is_ok(), "{} {value:?}", self.field);
        }
        for value in self.outside.iter().chain(also_outside) {
            let problems = problems(&self.draft(*value));
            let told = problems[0].starts_with(&format!("/hyperparameters/{}: ", self.field));
            assert!(told && problems.len() == 1, "{} {value:?}: {problems:?}", self.field);
        }
    }

    fn draft(&self, value: T) -> SpecDraft {
        let mut draft = draft(self.model);
        (self.set)(&mut draft, value);
        draft
    }
}

#[test]
fn each_bound_lies_where_it_is_documented() {
    WHOLE.iter().for_each(|bound| bound.check(&[]));
    REAL.iter().for_each(|bound| bound.check(&NO_NUMBERS));
}

#[test]
fn a_network_has_one_to_eight_layers() {
    let with = |layers: usize| SpecDraft { hidden: Some(vec![8; layers]), ..draft("mlp") };
    assert_eq!(
        built(&with(LAYERS_MAX)).hyperparameters.architecture,
        Architecture::Mlp { hidden: vec![8; LAYERS_MAX] }
    );
    assert_eq!(problems(&with(0)), ["/hyperparameters/hidden: 0 layers are outside 1 to 8"]);
    assert_eq!(problems(&with(9)), ["/hyperparameters/hidden: 9 layers are outside 1 to 8"]);
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..ProptestConfig::with_cases(2_000)
    })]

    #[test]
    fn whatever_is_built_is_within_bounds_and_whatever_is_not_says_why(
        model in 0_usize..4,
        name in proptest::option::of("[a-z.]{0,3}"),
        settings in vec((0_usize..20, any::<u64>()), 0..6),
    ) {
        let mut draft = draft(["mlp", "cnn", "lstm", ""][model]);
        draft.dataset = name;
        settings.into_iter().for_each(|(field, number)| set(&mut draft, field, number));
        match TaskSpec::build(&draft) {
            Ok(spec) => {
                assert_within(&spec);
                prop_assert_eq!(spec.hash(), built(&draft).hash());
            }
            Err(problems) => {
                prop_assert!(!problems.is_empty());
                prop_assert!(problems.iter().all(|p| p.pointer.starts_with('/') && !p.message.is_empty()));
            }
        }
    }
}

/// Sets one field, now to something likely, now to something wild.
fn set(draft: &mut SpecDraft, field: usize, number: u64) {
    if field < WHOLE.len() {
        let bound = &WHOLE[field];
        let likely = bound.within[number as usize % bound.within.len()];
        return (bound.set)(draft, if number.is_multiple_of(4) { number >> 20 } else { likely });
    }
    if let Some(bound) = REAL.get(field - WHOLE.len()) {
        let likely = bound.within[number as usize % bound.within.len()];
        return (bound.set)(draft, if number.is_multiple_of(4) { f64::from_bits(number) } else { likely });
    }
    let pick = |names: [&str; 4]| Some(names[number as usize % 4].to_owned());
    match field {
        17 => draft.optimizer = pick(["adam", "adamw", "sgd", "Adam"]),
        18 => draft.schedule = pick(["constant", "step", "cosine", ""]),
        _ => draft.hidden = Some(vec![number as u32 % 5_000; number as usize % 12]),
    }
}

fn assert_within(spec: &TaskSpec) {
    let h = &spec.hyperparameters;
    assert_eq!(valid_dataset_name(&spec.dataset.name), Ok(()));
    assert!(EPOCHS.contains(&h.epochs) && BATCH_SIZE.contains(&h.batch_size) && h.seed <= SEED_MAX);
    assert!((1e-8..=10.0).contains(&h.learning_rate) && (0.0..=0.95).contains(&h.dropout));
    assert!((0.0..=0.9).contains(&h.validation_fraction));
    assert!(h.target_accuracy.is_none_or(|target| (0.0..=1.0).contains(&target)));
    assert!(h.patience.is_none_or(|epochs| EPOCHS.contains(&epochs)));
    assert!(h.max_seconds.is_none_or(|seconds| (1..=31_536_000).contains(&seconds)));
    match h.optimizer {
        Optimizer::Adam => {}
        Optimizer::AdamW { weight_decay } => assert!((0.0..=1.0).contains(&weight_decay)),
        Optimizer::Sgd { momentum } => assert!((0.0..1.0).contains(&momentum)),
    }
    match h.schedule {
        Schedule::Constant | Schedule::Cosine => {}
        Schedule::Step { every, factor } => assert!(EPOCHS.contains(&every) && factor > 0.0 && factor <= 1.0),
    }
    assert_widths_within(spec.model, h);
}

fn assert_widths_within(model: ModelKind, hyperparameters: &Hyperparameters) {
    let fits = |widths: &[u32], range: &RangeInclusive<u32>| widths.iter().all(|width| range.contains(width));
    let (kind, fits) = match &hyperparameters.architecture {
        Architecture::Mlp { hidden } => {
            (ModelKind::Mlp, (1..=LAYERS_MAX).contains(&hidden.len()) && fits(hidden, &WIDTH))
        }
        Architecture::Cnn { channels, dense } => {
            let blocks = (1..=BLOCKS_MAX).contains(&channels.len());
            (ModelKind::Cnn, blocks && fits(channels, &CHANNELS) && fits(&[*dense], &WIDTH))
        }
        Architecture::Lstm { units, dense } => (ModelKind::Lstm, fits(&[*units], &UNITS) && fits(&[*dense], &WIDTH)),
    };
    assert!(fits && kind == model);
}
