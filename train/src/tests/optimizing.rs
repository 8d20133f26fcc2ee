//! The optimizers against their formulas in double precision, schedules, and the reduction's order.

use candle_core::{Device, Tensor, Var};
use candle_nn::Optimizer as _;
use kubeml_spec::{Draft, OptimizerKind};

use super::{built, noise};
use crate::optimizer::{Config, Moments, Optimizer, Part, learning_rate};

const COUNT: usize = 2_500;

fn variables() -> Vec<Var> {
    let var = |name: &str, count: usize| Var::from_vec(noise(name, count), count, &Device::Cpu).unwrap();
    vec![var("one", 3), var("two", COUNT - 3)]
}

fn weights(variables: &[Var]) -> Vec<f32> {
    variables.iter().flat_map(|var| var.to_vec1::<f32>().unwrap()).collect()
}

fn optimizer(variables: &[Var], config: Config) -> Optimizer {
    Optimizer::new(variables.to_vec(), config).unwrap()
}

fn gradients(step: usize) -> Vec<f32> {
    noise(&format!("gradients {step}"), COUNT)
}

/// Three updates by the book.
fn expected(config: Config) -> Vec<f64> {
    let mut weights: Vec<f64> = weights(&variables()).iter().map(|value| f64::from(*value)).collect();
    let (mut first, mut second) = (vec![0.0; COUNT], vec![0.0; COUNT]);
    for step in 1..=3 {
        for (at, gradient) in gradients(step as usize).iter().map(|value| f64::from(*value)).enumerate() {
            let mut adam = |decay: f64| {
                first[at] = 0.9 * first[at] + 0.1 * gradient;
                second[at] = 0.999 * second[at] + 0.001 * gradient * gradient;
                let m = first[at] / (1.0 - 0.9_f64.powi(step));
                let v: f64 = second[at] / (1.0 - 0.999_f64.powi(step));
                weights[at] = weights[at] * (1.0 - 0.01 * decay) - 0.01 * m / (v.sqrt() + 1e-7);
            };
            match config.kind {
                OptimizerKind::Adam => adam(0.0),
                OptimizerKind::AdamW => adam(config.weight_decay),
                OptimizerKind::Sgd => {
                    first[at] = config.momentum * first[at] - 0.01 * gradient;
                    weights[at] += first[at];
                }
            }
        }
    }
    weights
}

/// One of each kind. The decay has an effect in AdamW alone, the momentum in SGD.
const CONFIGS: [Config; 3] = [of_kind(OptimizerKind::Adam), of_kind(OptimizerKind::AdamW), of_kind(OptimizerKind::Sgd)];

const fn of_kind(kind: OptimizerKind) -> Config {
    Config { kind, learning_rate: 0.01, weight_decay: 0.3, momentum: 0.9 }
}

/// Shows a gradient itself, negated, in a weight that was 0.
const PLAIN: Config = Config { kind: OptimizerKind::Sgd, learning_rate: 1.0, weight_decay: 0.0, momentum: 0.0 };

#[test]
fn updates_follow_their_papers() {
    for config in CONFIGS {
        let variables = variables();
        let mut optimizer = optimizer(&variables, config);
        for step in 1..=3 {
            let all = gradients(step);
            optimizer.update(&[vec![Part::Whole(&all[..3]), Part::Whole(&all[3..])]]).unwrap();
        }
        for (found, expected) in weights(&variables).iter().zip(expected(config)) {
            assert!((f64::from(*found) - expected).abs() < 2e-6, "{config:?}: {found}, expected {expected}");
        }
    }
}

#[test]
fn it_is_a_candle_optimizer() {
    for config in CONFIGS {
        let (ours, candles) = (variables(), variables());
        let all = gradients(1);
        optimizer(&ours, config).update(&[vec![Part::Whole(&all[..3]), Part::Whole(&all[3..])]]).unwrap();
        let of = |var: &Var, part: &[f32]| {
            let factors = Tensor::from_slice(part, part.len(), &Device::Cpu).unwrap();
            var.mul(&factors).unwrap().sum_all().unwrap()
        };
        let loss = of(&candles[0], &all[..3]).add(&of(&candles[1], &all[3..])).unwrap();
        let mut second = optimizer(&candles, config);
        second.backward_step(&loss).unwrap();
        assert_eq!(weights(&ours), weights(&candles));
        second.set_learning_rate(0.5);
        assert_eq!(second.learning_rate(), 0.5);
    }
}

#[test]
fn a_restored_optimizer_goes_on_as_the_first() {
    for config in CONFIGS {
        let one = variables();
        let mut undisturbed = optimizer(&one, config);
        let (first, second) = (gradients(1), gradients(2));
        undisturbed.update(&[vec![Part::Whole(&first[..3]), Part::Whole(&first[3..])]]).unwrap();
        let other: Vec<Var> = one.iter().map(|var| Var::from_tensor(&var.copy().unwrap()).unwrap()).collect();
        let mut restored = optimizer(&other, config);
        restored.restore(1, undisturbed.moments().clone()).unwrap();
        undisturbed.update(&[vec![Part::Whole(&second[..3]), Part::Whole(&second[3..])]]).unwrap();
        restored.update(&[vec![Part::Whole(&second[..3]), Part::Whole(&second[3..])]]).unwrap();
        assert_eq!(weights(&one), weights(&other));
        assert!(restored.restore(1, Moments::default()).is_err());
    }
}

#[test]
fn shards_are_summed_in_a_fixed_tree() {
    for shards in 1..=16_usize {
        let parts: Vec<Vec<f32>> = (0..shards).map(|shard| noise(&format!("shard {shard}"), COUNT)).collect();
        fn tree(parts: &[Vec<f32>], at: usize) -> f32 {
            match parts {
                [one] => one[at],
                _ => {
                    let (left, right) = parts.split_at(parts.len().next_power_of_two() / 2);
                    tree(left, at) + tree(right, at)
                }
            }
        }
        let var = Var::from_vec(vec![0.0_f32; COUNT], COUNT, &Device::Cpu).unwrap();
        let mut optimizer = Optimizer::new(vec![var.clone()], PLAIN).unwrap();
        optimizer.update(&parts.iter().map(|part| vec![Part::Whole(part)]).collect::<Vec<_>>()).unwrap();
        for (at, found) in var.to_vec1::<f32>().unwrap().into_iter().enumerate() {
            assert_eq!(-found, tree(&parts, at), "{shards} shards, number {at}");
        }
    }
}

#[test]
fn a_product_is_the_gradient_it_would_be_as_a_whole() {
    // 70 x 60 numbers are two pieces, 3 x 4,000 one for each row.
    for (inputs, outputs, is_sparse) in [(70, 60, false), (70, 60, true), (3, 4_000, false), (1, 1, true)] {
        let rows = [5, 1, 7];
        let sides = rows.map(|rows| (noise("left", rows * inputs), noise("right", rows * outputs)));
        let products: Vec<Vec<Part<'_>>> =
            sides.iter().map(|(left, right)| vec![Part::Product { left, right, outputs, is_sparse }]).collect();
        let mut whole = vec![0.0_f64; inputs * outputs];
        for (left, right) in &sides {
            for (left, right) in left.chunks(inputs).zip(right.chunks(outputs)) {
                for (at, sum) in whole.iter_mut().enumerate() {
                    *sum += f64::from(left[at / outputs]) * f64::from(right[at % outputs]);
                }
            }
        }
        let var = Var::from_vec(vec![0.0_f32; inputs * outputs], (inputs, outputs), &Device::Cpu).unwrap();
        Optimizer::new(vec![var.clone()], PLAIN).unwrap().update(&products).unwrap();
        let found = var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (found, expected) in found.iter().zip(&whole) {
            assert!((f64::from(-found) - expected).abs() < 1e-5, "{inputs} x {outputs}: {found}, expected -{expected}");
        }
    }
}

#[test]
fn a_variable_that_is_given_twice_is_refused() {
    let var = Var::from_vec(vec![0.0_f32; 3], 3, &Device::Cpu).unwrap();
    assert!(Optimizer::new(vec![var.clone(), var], PLAIN).is_err());
}

#[test]
fn gradients_that_do_not_fit_are_refused() {
    let mut optimizer = optimizer(&variables(), of_kind(OptimizerKind::Adam));
    let all = gradients(1);
    assert!(optimizer.update(&[]).is_err());
    assert!(optimizer.update(&[vec![Part::Whole(&all[..3])]]).is_err());
    assert!(optimizer.update(&[vec![Part::Whole(&all[..4]), Part::Whole(&all[4..])]]).is_err());
    let product = |outputs| Part::Product { left: &all[..2], right: &all[..6], outputs, is_sparse: false };
    // 2 rows of 1 and 3 numbers are for 3; 1 row of 2 and 6 is for 12.
    assert!(optimizer.update(&[vec![product(6), Part::Whole(&all[3..])]]).is_err());
    assert!(optimizer.update(&[vec![product(0), Part::Whole(&all[3..])]]).is_err());
    let whole = vec![Part::Whole(&all[..3]), Part::Whole(&all[3..])];
    assert!(optimizer.update(&[whole.clone(), vec![product(3), Part::Whole(&all[3..])]]).is_err());
    assert!(optimizer.update(&[vec![product(3), Part::Whole(&all[3..])]]).is_ok());
}

#[test]
fn an_optimizer_is_that_of_its_hyperparameters() {
    let of = |draft: Draft| Config::of(built(&draft.with("learning_rate", 0.01)).hyperparameters());
    let sgd = of(Draft::new("mlp").with("optimizer", "sgd").with("momentum", 0.5));
    assert_eq!((sgd.kind, sgd.learning_rate, sgd.momentum), (OptimizerKind::Sgd, 0.01, 0.5));
    let adamw = of(Draft::new("mlp").with("optimizer", "adamw").with("weight_decay", 0.25));
    assert_eq!((adamw.kind, adamw.learning_rate, adamw.weight_decay), (OptimizerKind::AdamW, 0.01, 0.25));
    assert_eq!(of(Draft::new("mlp")).kind, OptimizerKind::Adam);
}

#[test]
fn learning_rates_follow_their_schedule() {
    let draft = |schedule| Draft::new("mlp").with("learning_rate", 0.1).with("schedule", schedule);
    let rate = |draft: &Draft, step, epoch| learning_rate(built(draft).hyperparameters(), step, epoch, 100);
    assert_eq!(rate(&draft("constant"), 70, 7), 0.1);
    let steps = draft("step").with("schedule_every", 2).with("schedule_factor", 0.5);
    let found: Vec<f64> = (0..5).map(|epoch| rate(&steps, 0, epoch)).collect();
    assert_eq!(found, [0.1, 0.1, 0.05, 0.05, 0.025]);
    let cosine = draft("cosine");
    assert_eq!(rate(&cosine, 0, 0), 0.1);
    assert!((rate(&cosine, 50, 5) - 0.05).abs() < 1e-12);
    assert!(rate(&cosine, 99, 9) > 0.0 && rate(&cosine, 99, 9) < 1e-4);
}
