//! Which lists of layers are networks, which are not, and what the reference models are made of.

use candle_core::{DType, Device, Tensor};
use candle_nn::ModuleT;
use kubeml_spec::{Activation, Draft, Layer, Units};

use super::built;
use crate::lane::Lane;
use crate::models::{InputShape, Network, Stage, stages};
use crate::parameters::Parameters;

const DIGITS: InputShape = InputShape { height: 28, width: 28, classes: 10 };

fn conv(name: &str, channels: usize) -> Layer {
    Layer::Conv2d { name: name.to_string(), channels }
}

fn lstm(name: &str, units: usize) -> Layer {
    Layer::Lstm { name: name.to_string(), units }
}

fn dense(name: &str, units: usize, activation: Activation) -> Layer {
    Layer::Dense { name: name.to_string(), units: Units::Count(units), activation }
}

fn output() -> Layer {
    Layer::Dense { name: "output".to_string(), units: Units::Classes, activation: Activation::None }
}

fn linear(name: &str, inputs: usize, outputs: usize) -> Stage {
    Stage::Linear { name: name.to_string(), inputs, outputs, activation: Activation::None }
}

fn hidden(name: &str, inputs: usize, outputs: usize, rate: f64, index: u32) -> Stage {
    Stage::Hidden { name: name.to_string(), inputs, outputs, rate, index }
}

fn block(name: &str, side: usize, inputs: usize, outputs: usize) -> Stage {
    Stage::ConvBlock { name: name.to_string(), height: side, width: side, inputs, outputs }
}

fn of_reference(model: &str) -> Vec<Stage> {
    stages(&built(&Draft::new(model)).layers(), DIGITS).unwrap()
}

#[test]
fn the_reference_perceptron_has_two_hidden_layers_with_dropout() {
    let expected =
        [hidden("hidden.0", 784, 128, 0.2, 0), hidden("hidden.1", 128, 128, 0.2, 1), linear("output", 128, 10)];
    assert_eq!(of_reference("mlp"), expected);
}

#[test]
fn the_reference_convolutional_network_has_two_blocks_and_a_dense_layer_with_dropout() {
    let blocks = [block("conv.0", 13, 1, 32), block("conv.1", 5, 32, 64)];
    let expected = [blocks, [hidden("dense", 1_600, 128, 0.5, 0), linear("output", 128, 10)]].concat();
    assert_eq!(of_reference("cnn"), expected);
}

#[test]
fn the_reference_recurrent_network_has_dropout_after_the_lstm_and_in_its_dense_layer() {
    let lstm = Stage::Lstm { name: "lstm".to_string(), steps: 28, features: 28, units: 128 };
    let dropout = Stage::Dropout { rate: 0.2, index: 0 };
    assert_eq!(of_reference("lstm"), [lstm, dropout, hidden("dense", 128, 128, 0.2, 1), linear("output", 128, 10)]);
}

#[test]
fn an_lstm_takes_the_rows_of_an_image_one_by_one() {
    let shape = InputShape { height: 12, width: 7, classes: 3 };
    let expected = Stage::Lstm { name: "lstm".to_string(), steps: 12, features: 7, units: 5 };
    assert_eq!(stages(&[lstm("lstm", 5), output()], shape), Ok(vec![expected, linear("output", 5, 3)]));
}

#[test]
fn layers_that_are_not_a_network_are_refused_by_name() {
    let relu = || dense("dense", 10, Activation::Relu);
    let table = [
        (vec![conv("conv.0", 4), Layer::Flatten, output()], "conv.0 is not followed by a max_pool2d"),
        (vec![conv("conv.0", 4)], "conv.0 is not followed by a max_pool2d"),
        (vec![Layer::MaxPool2d, Layer::Flatten, output()], "a max_pool2d does not follow a conv2d"),
        (
            vec![conv("conv.0", 4), Layer::MaxPool2d, Layer::MaxPool2d, output()],
            "a max_pool2d does not follow a conv2d",
        ),
        (vec![Layer::Flatten, conv("conv.0", 4), Layer::MaxPool2d, output()], "conv.0 follows a flat layer"),
        (vec![relu(), conv("conv.0", 4), Layer::MaxPool2d, output()], "conv.0 follows a flat layer"),
        (vec![Layer::Flatten, lstm("lstm", 5), output()], "lstm does not take rows of an image"),
        (vec![conv("conv.0", 4), Layer::MaxPool2d, lstm("lstm", 5), output()], "lstm does not take rows of an image"),
        (vec![lstm("first", 5), lstm("second", 5), output()], "second does not take rows of an image"),
        (vec![Layer::Flatten, dense("dense", 9, Activation::Relu)], "a logit for each class"),
        (vec![output(), dense("after", 11, Activation::None)], "a logit for each class"),
        (vec![conv("conv.0", 10), Layer::MaxPool2d], "a logit for each class"),
        (vec![], "a logit for each class"),
    ];
    for (layers, words) in table {
        let message = stages(&layers, DIGITS).expect_err(words);
        assert!(message.contains(words), "{layers:?}: {message}");
    }
}

#[test]
fn an_image_that_is_too_small_for_its_convolutions_is_refused() {
    let blocks = |count: usize| {
        let block = |at| [conv(&format!("conv.{at}"), 2), Layer::MaxPool2d];
        (0..count).flat_map(block).chain([output()]).collect::<Vec<_>>()
    };
    // A block leaves (side - 2) / 2 of a side.
    for (height, width, fitting) in [(3, 28, 0), (28, 3, 0), (4, 28, 1), (9, 28, 1), (10, 10, 2), (46, 46, 4)] {
        let shape = InputShape { height, width, classes: 3 };
        assert!(stages(&blocks(fitting), shape).is_ok(), "{fitting} blocks on {height} x {width}");
        let message = stages(&blocks(fitting + 1), shape).unwrap_err();
        assert!(message.contains(&format!("conv.{fitting} does not fit")), "{message}");
    }
}

#[test]
fn other_orders_of_layers_give_logits() {
    let shape = InputShape { height: 11, width: 12, classes: 4 };
    let dropout = || Layer::Dropout { rate: 0.5 };
    let lists = [
        vec![output()],
        vec![dense("only", 4, Activation::Relu)],
        vec![conv("conv", 3), Layer::MaxPool2d, output()],
        vec![conv("conv.0", 3), Layer::MaxPool2d, conv("conv.1", 2), Layer::MaxPool2d, Layer::Flatten, output()],
        vec![lstm("lstm", 5), dense("dense", 6, Activation::None), dropout(), dropout(), output(), dropout()],
        vec![Layer::Flatten, Layer::Flatten, dense("dense", 6, Activation::Relu), output()],
        vec![dropout(), output()],
        vec![Layer::Flatten, dropout(), output()],
        vec![conv("conv", 3), Layer::MaxPool2d, dropout(), Layer::Flatten, output()],
    ];
    let images = Tensor::ones((3, 11, 12), DType::F32, &Device::Cpu).unwrap();
    for layers in lists {
        let stages = stages(&layers, shape).unwrap();
        let (lane, parameters) = (Lane::plain(1), Parameters::new(1));
        let network = Network::new(&stages, &parameters.builder(), &lane).unwrap();
        assert_eq!(stages.iter().map(|stage| stage.size(3).parameters).sum::<u64>(), parameters.count() as u64);
        for train in [true, false] {
            assert_eq!(network.forward_t(&images, train).unwrap().dims(), [3, 4], "{layers:?}");
        }
    }
}

#[test]
fn layers_of_one_name_would_share_parameters_and_are_refused() {
    let shape = InputShape { height: 11, width: 12, classes: 4 };
    let twice = [dense("dense", 6, Activation::Relu), dense("dense", 6, Activation::Relu), output()];
    assert_eq!(stages(&twice, shape), Err("two layers have the name dense".to_owned()));
}

#[test]
fn every_dropout_of_a_network_draws_its_own_mask() {
    let dropout = || Layer::Dropout { rate: 0.1 };
    let relu = |name| dense(name, 5, Activation::Relu);
    let first = [relu("one"), dropout(), dropout(), relu("two")];
    let layers = [&first[..], &[relu("three"), dropout(), output(), dropout()]].concat();
    let indices: Vec<Option<u32>> = stages(&layers, DIGITS)
        .unwrap()
        .iter()
        .map(|stage| match stage {
            Stage::Hidden { index, .. } | Stage::Dropout { index, .. } => Some(*index),
            _ => None,
        })
        .collect();
    assert_eq!(indices, [Some(0), Some(1), None, Some(2), None, Some(3)]);
}
