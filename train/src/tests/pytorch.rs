//! The ops' outputs and gradients, and whole trainings, beside what PyTorch computed (`fixtures/pytorch.py`).

use std::collections::BTreeMap;

use candle_core::{Result, Tensor, Var};
use candle_nn::{Module, ModuleT};
use kubeml_spec::Draft;
use serde::Deserialize;

use super::gradients::{shaken, variable};
use super::{Scripted, built, data, finished, noise};
use crate::lane::Lane;
use crate::ops::{Activation, ConvBlock, Linear, Lstm, MaxPool2d, SoftmaxCrossEntropy};
use crate::parameters::Parameters;
use crate::{Threads, fit};

#[derive(Deserialize)]
struct Gradients {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    op: String,
    sizes: Vec<usize>,
    out: Summary,
    /// Of the input, then of the parameters in the order of their names.
    gradients: Vec<Summary>,
}

/// Every so-manieth element, and the dot product of all with noise.
#[derive(Deserialize)]
struct Summary {
    every: usize,
    values: Vec<f64>,
    dot: f64,
}

impl Summary {
    /// Up to `tolerance`, in units of 1 and the largest element.
    fn assert_is(&self, tensor: &Tensor, tolerance: f64, what: &str) {
        let found = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let probe = noise("probe", found.len());
        let products = found.iter().zip(&probe).map(|(a, b)| f64::from(*a) * f64::from(*b));
        let (dot, length) =
            products.fold((0.0, 0.0_f64), |(sum, square), product| (sum + product, square + product * product));
        let largest = found.iter().fold(0.0_f64, |largest, value| largest.max(f64::from(value.abs())));
        assert!(
            (dot - self.dot).abs() < tolerance * (1.0 + length.sqrt() + largest),
            "{what}: {dot}, PyTorch {}",
            self.dot
        );
        assert_eq!(found.iter().step_by(self.every).count(), self.values.len(), "{what}");
        for (at, (found, expected)) in found.iter().step_by(self.every).zip(&self.values).enumerate() {
            let error = (f64::from(*found) - expected).abs();
            assert!(
                error < tolerance * (1.0 + largest),
                "{what} at {at} x {}: {found}, PyTorch {expected}",
                self.every
            );
        }
    }
}

/// What an op gives, of which variables.
struct Applied {
    variables: Vec<Var>,
    out: Tensor,
}

impl Applied {
    fn of(x: Var, parameters: &Parameters, apply: impl FnOnce(&Tensor) -> Result<Tensor>) -> Self {
        let mut variables = vec![x];
        variables.extend(shaken(parameters));
        let out = apply(&variables[0]).unwrap();
        Self { variables, out }
    }
}

impl Case {
    fn applied(&self) -> Applied {
        let (lane, parameters) = (Lane::plain(0), Parameters::new(1));
        let vb = parameters.builder().pp("op");
        match (self.op.as_str(), self.sizes.as_slice()) {
            (op @ ("linear" | "linear-relu"), &[batch, inputs, outputs]) => {
                let activation = if op == "linear" { Activation::None } else { Activation::Relu };
                let layer = Linear::new(inputs, outputs, activation, &vb, &lane).unwrap();
                Applied::of(variable("x", &[batch, inputs]), &parameters, |x| layer.forward(x))
            }
            ("conv-block", &[batch, height, width, inputs, outputs]) => {
                let block = ConvBlock::new(inputs, outputs, &vb, &lane).unwrap();
                Applied::of(variable("x", &[batch, height, width, inputs]), &parameters, |x| block.forward(x))
            }
            ("max-pool", sizes) => Applied::of(variable("x", sizes), &parameters, MaxPool2d::of),
            ("lstm", &[batch, steps, features, units]) => {
                let layer = Lstm::new(features, units, &vb, &lane).unwrap();
                Applied::of(variable("x", &[batch, steps, features]), &parameters, |x| layer.forward_t(x, true))
            }
            ("cross-entropy", &[rows, classes]) => {
                let labels = (0..rows).map(|row| (row * 5 % classes) as u8).collect();
                let loss = SoftmaxCrossEntropy::new(labels, 1.0 / rows as f32);
                Applied::of(variable("x", &[rows, classes]), &parameters, |logits| loss.of(logits, &lane))
            }
            other => panic!("there is no op {other:?}"),
        }
    }
}

#[test]
fn every_op_gives_pytorchs_outputs_and_gradients() {
    let fixture: Gradients = serde_json::from_str(include_str!("../../fixtures/gradients.json")).unwrap();
    for case in &fixture.cases {
        let what = format!("{} {:?}", case.op, case.sizes);
        let Applied { variables, out } = case.applied();
        // Rounding grows from step to step, and our tanh is good to 5e-7.
        let tolerance = if case.op == "lstm" { 1e-4 } else { 1e-5 };
        case.out.assert_is(&out, tolerance, &what);
        let projection = Tensor::from_vec(noise("projection", out.elem_count()), out.dims(), out.device()).unwrap();
        let gradients = out.mul(&projection).unwrap().sum_all().unwrap().backward().unwrap();
        assert_eq!(variables.len(), case.gradients.len(), "{what}");
        for (var, expected) in variables.iter().zip(&case.gradients) {
            let what = format!("{what}, gradient of {:?}", var.dims());
            expected.assert_is(gradients.get(var).unwrap(), tolerance, &what);
        }
    }
}

#[derive(Deserialize)]
struct Losses {
    walks: BTreeMap<String, Walk>,
}

/// PyTorch's loss of each step, in nats.
#[derive(Deserialize)]
struct Walk {
    single: Vec<f64>,
    double: Vec<f64>,
}

#[test]
fn whole_trainings_follow_pytorchs_losses() {
    let fixture: Losses = serde_json::from_str(include_str!("../../fixtures/losses.json")).unwrap();
    let data = data(640, 10, 28, 28, 10);
    for kind in ["mlp", "cnn", "lstm"] {
        let Walk { single, double } = &fixture.walks[kind];
        let draft = Draft::new(kind).with("epochs", 40).with("batch_size", 128).with("dropout", 0.0);
        let spec = built(&draft.with("learning_rate", 2e-4).with("seed", 5));
        let mut observer = Scripted::default();
        finished(fit(&spec, &data, None, &Threads::new(2), &mut observer).unwrap());
        assert_eq!((observer.steps.len(), double.len()), (200, 200));
        // What rounding alone does to PyTorch's own walk, so far.
        let mut apart = 0.0_f64;
        for (step, (single, double)) in observer.steps.iter().zip(single.iter().zip(double)) {
            apart = apart.max((single - double).abs());
            let error = (step.batch_loss - double).abs();
            let tolerance = 4.0 * apart + 1e-3 * double;
            assert!(error < tolerance, "{kind}, step {}: {}, PyTorch {double}", step.step, step.batch_loss);
        }
    }
}
