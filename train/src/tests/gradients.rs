//! Every op's gradient against finite differences, over odd sizes, batch 1 and images that are not square.

use std::sync::Arc;

use candle_core::{Device, Result, Tensor, Var};
use candle_nn::{Module, ModuleT};
use kubeml_spec::Draft;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::{built, noise};
use crate::lane::Lane;
use crate::matmul::seems_sparse;
use crate::models::{InputShape, Network, Stage, stages};
use crate::ops::{Activation, ConvBlock, Dropout, Hidden, Linear, Lstm, MaxPool2d, SoftmaxCrossEntropy, read};
use crate::parameters::Parameters;

const STEP: f32 = 2e-3;
/// Elements of each variable that are tried.
const TRIED: usize = 24;

/// Sum of an output under a fixed projection, in double precision.
fn projected(out: &Tensor) -> f64 {
    let weights = noise("projection", out.elem_count());
    read(out, |out| Ok(out.iter().zip(&weights).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum())).unwrap()
}

fn moved(var: &Var, values: &[f32], at: usize, by: f32, f: &dyn Fn() -> Result<Tensor>) -> f64 {
    let mut values = values.to_vec();
    values[at] += by;
    var.set(&Tensor::from_vec(values, var.dims(), &Device::Cpu).unwrap()).unwrap();
    projected(&f().unwrap())
}

/// The slope at 0 of a function, or `None` on a kink (ReLU, max): where the slopes to the left and to the right differ
/// by more than curvature explains, or a half step measures something else.
fn slope(f: impl Fn(f32) -> f64) -> Option<f64> {
    let (here, step) = (f(0.0), f64::from(STEP));
    let sides = |part: f32| (f(part * STEP), f(-part * STEP), step * f64::from(part));
    let ((right, left, whole_step), (near_right, near_left, half_step)) = (sides(1.0), sides(0.5));
    let whole = (right - left) / (2.0 * whole_step);
    let half = (near_right - near_left) / (2.0 * half_step);
    // Of a smooth function, the sides' difference shrinks with the step.
    let bend = (right - 2.0 * here + left) / whole_step;
    let near_bend = (near_right - 2.0 * here + near_left) / half_step;
    let tolerance = 2e-3 * (1.0 + whole.abs());
    let smooth = (whole - half).abs() < tolerance && (2.0 * near_bend - bend).abs() < 2.0 * tolerance;
    smooth.then_some(whole)
}

/// Compares candle's backward pass of `f` with measured slopes in every variable. Kinks are left out; half of the
/// points must not be on one.
fn check(variables: &[Var], f: &dyn Fn() -> Result<Tensor>) {
    let out = f().unwrap();
    let projection = Tensor::from_vec(noise("projection", out.elem_count()), out.dims(), &Device::Cpu).unwrap();
    let grads = out.mul(&projection).unwrap().sum_all().unwrap().backward().unwrap();
    let (mut tried, mut measured) = (0, 0);
    for var in variables {
        let analytic = grads.get(var).expect("a gradient").flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let values = var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for at in (0..values.len()).step_by(values.len().div_ceil(TRIED)) {
            tried += 1;
            let found = f64::from(analytic[at]);
            let Some(slope) = slope(|by| moved(var, &values, at, by, f)) else { continue };
            measured += 1;
            let close = (found - slope).abs() < 5e-3 * (1.0 + found.abs());
            assert!(close, "{:?} at {at}: {found}, measured {slope}", var.dims());
        }
        var.set(&Tensor::from_vec(values, var.dims(), &Device::Cpu).unwrap()).unwrap();
    }
    assert!(measured * 2 >= tried, "only {measured} of {tried} points are smooth");
}

/// Parameters with noise for values, so that biases are not 0.
pub(super) fn shaken(parameters: &Parameters) -> Vec<Var> {
    let values: Vec<f32> = noise("parameters", parameters.count()).iter().map(|value| 0.7 * value).collect();
    parameters.set(&values).unwrap();
    parameters.variables()
}

pub(super) fn variable(name: &str, dims: &[usize]) -> Var {
    Var::from_vec(noise(name, dims.iter().product()), dims, &Device::Cpu).unwrap()
}

fn with(mut variables: Vec<Var>, x: &Var) -> Vec<Var> {
    variables.push(x.clone());
    variables
}

/// A fixed seed: a kink that no threshold sees must not fail a build now and then.
fn sizes() -> ProptestConfig {
    ProptestConfig { cases: 24, failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(sizes())]

    #[test]
    fn linear(batch in 1..6usize, inputs in 1..40usize, outputs in 1..21usize, relu: bool) {
        let (lane, parameters) = (Lane::plain(0), Parameters::new(1));
        let activation = if relu { Activation::Relu } else { Activation::None };
        let layer = Linear::new(inputs, outputs, activation, &parameters.builder().pp("layer"), &lane).unwrap();
        let x = variable("x", &[batch, inputs]);
        check(&with(shaken(&parameters), &x), &|| layer.forward(&x));
    }

    #[test]
    fn convolution_block(
        batch in 1..4usize, height in 4..13usize, width in 4..13usize, inputs in 1..5usize, outputs in 1..6usize,
    ) {
        let (lane, parameters) = (Lane::plain(0), Parameters::new(1));
        let block = ConvBlock::new(inputs, outputs, &parameters.builder().pp("conv"), &lane).unwrap();
        let x = variable("x", &[batch, height, width, inputs]);
        check(&with(shaken(&parameters), &x), &|| block.forward(&x));
    }

    #[test]
    fn max_pooling(batch in 1..4usize, height in 2..12usize, width in 2..12usize, channels in 1..5usize) {
        let x = variable("x", &[batch, height, width, channels]);
        check(std::slice::from_ref(&x), &|| MaxPool2d::of(&x));
    }

    #[test]
    fn lstm(batch in 1..5usize, steps in 1..8usize, features in 1..8usize, units in 1..12usize) {
        let (lane, parameters) = (Lane::plain(0), Parameters::new(1));
        let layer = Lstm::new(features, units, &parameters.builder().pp("lstm"), &lane).unwrap();
        let x = variable("x", &[batch, steps, features]);
        check(&with(shaken(&parameters), &x), &|| layer.forward_t(&x, true));
    }

    /// As of images, where zeros are left out.
    #[test]
    fn linear_over_strokes(batch in 1..6usize, inputs in 30..60usize, outputs in 1..5usize) {
        let (lane, parameters) = (Lane::plain(0), Parameters::new(1));
        let layer = Linear::new(inputs, 8 * outputs, Activation::Relu, &parameters.builder().pp("layer"), &lane).unwrap();
        let values: Vec<f32> = noise("x", batch * inputs).into_iter().enumerate().map(|(at, value)| {
            if at % 10 == 3 { value } else { 0.0 }
        }).collect();
        prop_assert!(seems_sparse(&values));
        let x = Tensor::from_vec(values, (batch, inputs), &Device::Cpu).unwrap();
        check(&shaken(&parameters), &|| layer.forward(&x));
    }

    #[test]
    fn dropout(batch in 1..6usize, units in 1..300usize, rate in 0.0..0.9f64) {
        let layer = Dropout::new(rate, 3, &Lane::plain(5));
        let x = variable("x", &[batch, units]);
        check(std::slice::from_ref(&x), &|| layer.forward_t(&x, true));
    }

    #[test]
    fn hidden(batch in 1..6usize, inputs in 1..40usize, outputs in 1..150usize, rate in 0.0..0.9f64) {
        let (lane, parameters) = (Lane::plain(5), Parameters::new(1));
        let layer = Hidden::new([inputs, outputs], &parameters.builder().pp("layer"), rate, 3, &lane).unwrap();
        let x = variable("x", &[batch, inputs]);
        check(&with(shaken(&parameters), &x), &|| layer.forward_t(&x, true));
    }

    /// In one op as in two, to the bit.
    #[test]
    fn a_hidden_layer_is_a_linear_one_and_dropout(
        batch in 1..6usize, inputs in 1..40usize, outputs in 1..150usize, rate in 0.0..0.9f64,
    ) {
        let (lane, parameters) = (Lane::plain(5), Parameters::new(1));
        let vb = parameters.builder();
        let whole = Hidden::new([inputs, outputs], &vb.pp("layer"), rate, 3, &lane).unwrap();
        let linear = Linear::new(inputs, outputs, Activation::Relu, &vb.pp("layer"), &lane).unwrap();
        let dropout = Dropout::new(rate, 3, &lane);
        let x = variable("x", &[batch, inputs]);
        lane.begin(7, 64);
        for train in [true, false] {
            let both = [whole.forward_t(&x, train).unwrap(), x.apply(&linear).unwrap().apply_t(&dropout, train).unwrap()];
            let [grads, expected] = both.each_ref().map(|out| out.sum_all().unwrap().backward().unwrap());
            let numbers = |of: &Tensor| of.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            prop_assert_eq!(numbers(&both[0]), numbers(&both[1]));
            for var in with(parameters.variables(), &x) {
                prop_assert_eq!(numbers(grads.get(&var).unwrap()), numbers(expected.get(&var).unwrap()));
            }
        }
    }

    /// In one pass as in two, to the bit.
    #[test]
    fn loss_and_gradient_at_once(rows in 1..7usize, classes in 2..30usize) {
        let (lane, logits) = (Lane::plain(0), variable("logits", &[rows, classes]));
        let labels: Vec<u8> = (0..rows).map(|row| (row * 5 % classes) as u8).collect();
        let expected = crate::ops::tally(&logits, &labels, &mut Vec::new()).unwrap();
        let loss = || SoftmaxCrossEntropy::new(labels.clone(), 0.25);
        let (tally, gradient) = loss().with_gradient(&logits).unwrap();
        prop_assert_eq!(tally, expected);
        let grads = loss().of(&logits, &lane).unwrap().backward().unwrap();
        let numbers = |of: &Tensor| of.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        prop_assert_eq!(numbers(&gradient), numbers(grads.get(&logits).unwrap()));
    }

    #[test]
    fn softmax_cross_entropy(rows in 1..7usize, classes in 2..30usize) {
        let (lane, logits) = (Lane::plain(0), variable("logits", &[rows, classes]));
        let labels: Vec<u8> = (0..rows).map(|row| (row * 5 % classes) as u8).collect();
        check(std::slice::from_ref(&logits), &|| {
            SoftmaxCrossEntropy::new(labels.clone(), 1.0 / rows as f32).of(&logits, &lane)
        });
    }
}

#[test]
fn linear_wider_than_one_block_of_the_inner_dimension() {
    let (lane, parameters) = (Lane::plain(0), Parameters::new(1));
    let layer = Linear::new(1_100, 3, Activation::None, &parameters.builder().pp("layer"), &lane).unwrap();
    let x = variable("x", &[2, 1_100]);
    check(&with(shaken(&parameters), &x), &|| layer.forward(&x));
}

/// Of a small network of each kind, with `channels` for the convolutional one.
fn networks(channels: &[usize], input: InputShape) -> [Vec<Stage>; 3] {
    [
        Draft::new("mlp").with("hidden", vec![9, 8]),
        Draft::new("cnn").with("channels", channels).with("dense", 8),
        Draft::new("lstm").with("units", 6).with("dense", 8),
    ]
    .map(|draft| stages(&built(&draft.with("dropout", 0.3)).layers(), input).unwrap())
}

#[test]
fn whole_models() {
    for (height, width) in [(11, 14), (10, 7)] {
        for stages in networks(&[3], InputShape { height, width, classes: 5 }) {
            let (lane, parameters) = (Lane::plain(0), Parameters::new(1));
            let net = Network::new(&stages, &parameters.builder(), &lane).unwrap();
            let x = variable("x", &[3, height, width]).as_detached_tensor();
            check(&shaken(&parameters), &|| net.forward_t(&x, true));
        }
    }
}

#[test]
fn a_lane_collects_the_gradients_that_candle_would() {
    for stages in networks(&[3, 4], InputShape { height: 14, width: 12, classes: 5 }) {
        let parameters = Parameters::new(3);
        let x = variable("x", &[4, 14, 12]).as_detached_tensor();
        let loss = |lane: &Arc<Lane>| {
            let net = Network::new(&stages, &parameters.builder(), lane).unwrap();
            lane.begin(2, 64);
            let logits = net.forward_t(&x, true).unwrap();
            SoftmaxCrossEntropy::new(vec![0, 1, 2, 4], 0.25).of(&logits, lane).unwrap()
        };
        let grads = loss(&Lane::plain(3)).backward().unwrap();
        let lane = Lane::collecting(3);
        let loss = loss(&lane);
        lane.backward(loss.ones_like().unwrap()).unwrap();
        let slots = lane.slots();
        assert_eq!(slots.len(), parameters.variables().len());
        for (slot, var) in slots.iter().zip(parameters.variables()) {
            let expected = grads.get(&var).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(slot.lock().unwrap().to_vec().unwrap(), expected);
        }
    }
}
