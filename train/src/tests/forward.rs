//! What the ops compute, against plain loops in double precision and against tables.

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{Module, ModuleT};

use super::noise;
use crate::lane::Lane;
use crate::matmul::{Matrix, multiply, multiply_add};
use crate::ops::{Activation, ConvBlock, Linear, Lstm, MaxPool2d, SoftmaxCrossEntropy, tally};
use crate::parameters::Parameters;
use crate::simd::{exp, sigmoid, tanh};

fn tensor(values: &[f32], dims: &[usize]) -> Tensor {
    Tensor::from_slice(values, dims, &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn assert_close(found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(*found) - expected).abs();
        assert!(error < tolerance * (1.0 + expected.abs()), "at {at}: {found}, expected {expected}");
    }
}

#[test]
fn products_agree_with_plain_loops() {
    for (m, n, k) in [(1, 1, 1), (3, 5, 2), (17, 33, 40), (7, 9, 513), (5, 6, 1_300), (4, 3, 0)] {
        let (a, b) = (noise("a", m * k), noise("b", k * n));
        let sum = |row: usize, column: usize| -> f64 {
            (0..k).map(|at| f64::from(a[row * k + at]) * f64::from(b[at * n + column])).sum()
        };
        let expected: Vec<f64> = (0..m * n).map(|at| sum(at / n, at % n)).collect();
        let mut out = vec![9.0; m * n];
        multiply(&mut out, Matrix::new(&a, m, k), Matrix::new(&b, k, n));
        assert_close(&out, &expected, 1e-4);
        let mut transposed = vec![1.0; m * n];
        multiply_add(&mut transposed, Matrix::new(&b, k, n).t(), Matrix::new(&a, m, k).t());
        let expected: Vec<f64> = (0..m * n).map(|at| 1.0 + sum(at % m, at / m)).collect();
        assert_close(&transposed, &expected, 1e-4);
    }
}

#[test]
fn elementary_functions_are_accurate() {
    for step in -20_000..=20_000 {
        let x = step as f32 * 5e-3;
        let wide = f64::from(x);
        if (-86.0..87.0).contains(&wide) {
            assert!((f64::from(exp(x)) / wide.exp() - 1.0).abs() < 3e-7, "exp {x}");
        }
        assert!((f64::from(tanh(x)) - wide.tanh()).abs() < 5e-7, "tanh {x}");
        assert!((f64::from(sigmoid(x)) - 1.0 / (1.0 + (-wide).exp())).abs() < 3e-7, "sigmoid {x}");
    }
    assert_eq!(exp(f32::NEG_INFINITY), 0.0);
    assert!(exp(f32::NAN).is_nan() && tanh(f32::NAN).is_nan());
}

#[test]
fn convolution_blocks_agree_with_plain_loops() {
    for (batch, height, width, inputs, outputs) in [(1, 28, 28, 1, 4), (2, 13, 13, 3, 5), (3, 5, 9, 2, 1)] {
        let parameters = Parameters::new(1);
        let block = ConvBlock::new(inputs, outputs, &parameters.builder().pp("conv"), &Lane::plain(0)).unwrap();
        parameters.set(&noise("parameters", parameters.count())).unwrap();
        let all = parameters.copy().unwrap();
        let (bias, weight) = all.split_at(outputs);
        let x = noise("x", batch * height * width * inputs);
        let (rows, columns) = ((height - 2) / 2, (width - 2) / 2);
        let convolved = |image: usize, row: usize, column: usize, out: usize| -> f64 {
            let mut sum = f64::from(bias[out]);
            for at in 0..9 * inputs {
                let (y, z, channel) = (row + at / (3 * inputs), column + at / inputs % 3, at % inputs);
                let pixel = x[((image * height + y) * width + z) * inputs + channel];
                sum += f64::from(pixel) * f64::from(weight[at * outputs + out]);
            }
            sum.max(0.0)
        };
        let expected: Vec<f64> = (0..batch * rows * columns * outputs)
            .map(|at| {
                let (out, place) = (at % outputs, at / outputs);
                let (image, row, column) = (place / columns / rows, place / columns % rows * 2, place % columns * 2);
                let corner = |dy, dx| convolved(image, row + dy, column + dx, out);
                corner(0, 0).max(corner(0, 1)).max(corner(1, 0)).max(corner(1, 1))
            })
            .collect();
        let out = block.forward(&tensor(&x, &[batch, height, width, inputs])).unwrap();
        assert_eq!(out.dims(), [batch, rows, columns, outputs]);
        assert_close(&values(&out), &expected, 1e-5);
    }
}

#[test]
fn lstms_agree_with_plain_loops() {
    let (batch, steps, features, units) = (3, 6, 5, 7);
    let parameters = Parameters::new(1);
    let layer = Lstm::new(features, units, &parameters.builder().pp("lstm"), &Lane::plain(0)).unwrap();
    parameters.set(&noise("parameters", parameters.count())).unwrap();
    let all: Vec<f64> = parameters.copy().unwrap().iter().map(|value| f64::from(*value)).collect();
    let (bias, rest) = all.split_at(4 * units);
    let (kernel, recurrent) = rest.split_at(features * 4 * units);
    let x = noise("x", batch * steps * features);
    let squash = |x: f64| 1.0 / (1.0 + (-x).exp());
    let mut expected = Vec::new();
    for row in 0..batch {
        let (mut state, mut cell) = (vec![0.0; units], vec![0.0; units]);
        for step in 0..steps {
            let input = &x[(row * steps + step) * features..][..features];
            let gate = |at: usize| -> f64 {
                let from_input: f64 = (0..features).map(|f| f64::from(input[f]) * kernel[f * 4 * units + at]).sum();
                let from_state: f64 = (0..units).map(|u| state[u] * recurrent[u * 4 * units + at]).sum();
                bias[at] + from_input + from_state
            };
            let gates: Vec<f64> = (0..4 * units).map(gate).collect();
            for unit in 0..units {
                cell[unit] =
                    squash(gates[units + unit]) * cell[unit] + squash(gates[unit]) * gates[2 * units + unit].tanh();
                state[unit] = squash(gates[3 * units + unit]) * cell[unit].tanh();
            }
        }
        expected.extend(state);
    }
    for train in [true, false] {
        let out = layer.forward_t(&tensor(&x, &[batch, steps, features]), train).unwrap();
        assert_close(&values(&out), &expected, 1e-5);
    }
}

#[test]
fn pooling_leaves_out_an_odd_border_and_gives_the_first_of_equals_the_gradient() {
    let maps = Var::from_vec(noise("maps", 121), (1, 11, 11, 1), &Device::Cpu).unwrap();
    let out = MaxPool2d::of(&maps).unwrap();
    assert_eq!(out.dims(), [1, 5, 5, 1]);
    let grads = out.sum_all().unwrap().backward().unwrap();
    let (gradient, pixels) = (values(grads.get(&maps).unwrap()), values(&maps));
    for (at, (&gradient, &pixel)) in gradient.iter().zip(&pixels).enumerate() {
        let (row, column) = (at / 11, at % 11);
        let corner = row / 2 * 22 + column / 2 * 2;
        let inside = row < 10 && column < 10;
        let wins = inside && [0, 1, 11, 12].iter().all(|step| pixels[corner + step] <= pixel);
        assert_eq!(gradient, f32::from(u8::from(wins)), "pixel {row}, {column}");
    }
    let ties = Var::from_vec(vec![2.0_f32, 5.0, 5.0, 5.0, 1.0, 1.0, 1.0, 1.0], (2, 2, 2, 1), &Device::Cpu).unwrap();
    let grads = MaxPool2d::of(&ties).unwrap().sum_all().unwrap().backward().unwrap();
    assert_eq!(values(grads.get(&ties).unwrap()), [0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
}

#[test]
fn labels_of_no_class_and_empty_batches_are_refused() {
    let logits = tensor(&[1.0, 3.0, -2.0], &[1, 3]);
    for labels in [vec![3], vec![], vec![0, 1]] {
        assert!(tally(&logits, &labels, &mut Vec::new()).is_err(), "{labels:?}");
    }
    let (lane, parameters) = (Lane::plain(1), Parameters::new(1));
    let lstm = Lstm::new(3, 4, &parameters.builder(), &lane).unwrap();
    assert!(lstm.forward_t(&Tensor::zeros((0, 2, 3), DType::F32, &Device::Cpu).unwrap(), true).is_err());
    assert!(Linear::new(3, 0, Activation::Relu, &parameters.builder(), &lane).is_err());
}

#[test]
fn the_loss_is_the_cross_entropy_and_the_tally_counts_right_answers() {
    let logits = tensor(&[1.0, 3.0, -2.0, 100.0, 0.0, -100.0], &[2, 3]);
    let labels = vec![1, 2];
    let mut answers = Vec::new();
    let tally = tally(&logits, &labels, &mut answers).unwrap();
    let first = (1.0_f64.exp() + 3.0_f64.exp() + (-2.0_f64).exp()).ln() - 3.0;
    assert!((tally.loss_sum - (first + 200.0)).abs() < 1e-4, "{}", tally.loss_sum);
    assert_eq!((tally.correct, tally.samples, answers), (1, 2, vec![1, 0]));
    let loss = SoftmaxCrossEntropy::new(labels, 0.5).of(&logits, &Lane::plain(0)).unwrap().to_scalar::<f32>().unwrap();
    assert!((f64::from(loss) - tally.loss()).abs() < 1e-4);
}

#[test]
fn sizes_that_do_not_fit_are_errors() {
    let parameters = Parameters::new(1);
    let block = ConvBlock::new(2, 3, &parameters.builder().pp("conv"), &Lane::plain(0)).unwrap();
    assert!(block.forward(&tensor(&[0.0; 18], &[1, 3, 3, 2])).is_err());
    assert!(block.forward(&tensor(&[0.0; 36], &[1, 6, 6, 1])).is_err());
    assert!(MaxPool2d::of(&tensor(&[0.0; 3], &[1, 1, 3, 1])).is_err());
    let labels = vec![3];
    assert!(SoftmaxCrossEntropy::new(labels, 1.0).of(&tensor(&[0.0; 3], &[1, 3]), &Lane::plain(0)).is_err());
    let layer = Lstm::new(4, 2, &parameters.builder().pp("lstm"), &Lane::plain(0)).unwrap();
    assert!(layer.forward_t(&tensor(&[0.0; 9], &[1, 3, 3]), true).is_err());
    assert!(parameters.builder().pp("conv").get((3, 3), "weight").is_err());
    assert!(parameters.set(&[0.0; 4]).is_err());
}
