//! Each op at the reference models' sizes, forward and backward, for one shard of 32 samples on one thread.
//!
//! `cargo xtask bench ops` runs them and tells each one's share of its group's peak, measured in the same minute. Products are
//! shown in elements/s, an element being a floating-point operation, so that 1 Gelem/s is 1 GFLOP/s; their peak is a product
//! that fills the processor. Passes over memory are shown in bytes/s; their peak is a copy that no cache holds.

use std::hint::black_box;

use candle_core::{Device, Tensor, Var};
use candle_nn::{Module, ModuleT, Optimizer as _};
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use kubeml_train::OptimizerKind;
use kubeml_train::lane::Lane;
use kubeml_train::ops::{Activation, ConvBlock, Dropout, Hidden, Linear, Lstm, MaxPool2d, SoftmaxCrossEntropy};
use kubeml_train::optimizer::{Config, Optimizer, Part};
use kubeml_train::parameters::Parameters;

/// Of a shard.
const ROWS: usize = 32;
/// Of the matrices whose product is the peak.
const SIDE: usize = 1024;

fn filled(dims: &[usize]) -> Var {
    let count: usize = dims.iter().product();
    let values = (0..count).map(|at| (at * 7919 % 1000) as f32 / 1000.0 - 0.5).collect();
    Var::from_vec(values, dims, &Device::Cpu).expect("the count is the shape's")
}

/// The floating-point operations of products, forward and on the way back.
struct Work {
    flops: usize,
    back: usize,
}

impl Work {
    fn bench(&self, group: &mut BenchmarkGroup<'_, WallTime>, name: &str, forward: impl Fn() -> Tensor) {
        group.throughput(Throughput::Elements(self.flops as u64));
        group.bench_function(format!("{name}, forward"), |bencher| bencher.iter(|| black_box(forward())));
        group.throughput(Throughput::Elements((self.flops + self.back) as u64));
        group.bench_function(format!("{name}, forward and backward"), |bencher| {
            bencher.iter(|| forward().backward().expect("every op has a way back"));
        });
    }
}

const PEAK: &str = "peak";

fn peak_product(group: &mut BenchmarkGroup<'_, WallTime>) {
    let (lane, parameters) = (Lane::plain(1), Parameters::new(1));
    let layer = Linear::new(SIDE, SIDE, Activation::None, &parameters.builder(), &lane).expect("a layer");
    let x = filled(&[SIDE, SIDE]);
    group.throughput(Throughput::Elements(2 * (SIDE * SIDE * SIDE) as u64));
    group.bench_function(PEAK, |bencher| bencher.iter(|| layer.forward(&x)));
}

fn peak_copy(group: &mut BenchmarkGroup<'_, WallTime>) {
    let (from, mut to) = (vec![1_u8; 64 << 20], vec![0_u8; 64 << 20]);
    group.throughput(Throughput::Bytes(2 * from.len() as u64));
    group.bench_function(PEAK, |bencher| bencher.iter(|| black_box(&mut to).copy_from_slice(black_box(&from))));
}

fn product(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("product of 1024 x 1024");
    peak_product(&mut group);
    let (mut out, factor) = (vec![0.0_f32; SIDE * SIDE], vec![0.5_f32; SIDE * SIDE]);
    group.bench_function("by the gemm crate", |bencher| bencher.iter(|| gemm_product(&mut out, &factor, SIDE)));
    group.finish();
}

/// Another library's product of this size, to compare with.
#[allow(unsafe_code, reason = "that is its interface")]
fn gemm_product(out: &mut [f32], factor: &[f32], side: usize) {
    assert!(out.len() == side * side && factor.len() == side * side);
    let (from, to, stride) = (factor.as_ptr(), out.as_mut_ptr(), side as isize);
    // SAFETY: all three are square matrices of `side` rows without gaps, and `out` is none of the others.
    unsafe {
        let one = gemm::Parallelism::None;
        gemm::gemm(
            side, side, side, to, 1, stride, false, from, 1, stride, from, 1, stride, 1.0, 1.0, false, false, false,
            one,
        );
    }
}

fn linear(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("linear");
    peak_product(&mut group);
    let sizes = [(784, 128, true), (128, 128, false), (1600, 128, false), (128, 10, false)];
    for (inputs, outputs, is_first) in sizes {
        let (lane, parameters) = (Lane::plain(1), Parameters::new(1));
        let layer = Linear::new(inputs, outputs, Activation::Relu, &parameters.builder(), &lane).expect("a layer");
        let x = filled(&[ROWS, inputs]);
        // The image gets no gradient.
        let x = if is_first { x.as_detached_tensor() } else { x.as_tensor().clone() };
        let flops = 2 * ROWS * inputs * outputs;
        let work = Work { flops, back: if is_first { flops } else { 2 * flops } };
        work.bench(&mut group, &format!("{inputs} to {outputs}"), || layer.forward(&x).expect("it fits"));
        if is_first {
            let hidden = Hidden::new([inputs, outputs], &Parameters::new(1).builder(), 0.2, 0, &lane).expect("a layer");
            let name = format!("{inputs} to {outputs} with dropout");
            work.bench(&mut group, &name, || hidden.forward_t(&x, true).expect("it fits"));
            let strokes = strokes(&[ROWS, inputs]);
            let name = format!("{inputs} to {outputs}, one input in five");
            work.bench(&mut group, &name, || layer.forward(&strokes).expect("it fits"));
        }
    }
    group.finish();
}

/// Mostly 0, in runs, as images of digits are.
fn strokes(dims: &[usize]) -> Tensor {
    let count: usize = dims.iter().product();
    let values: Vec<f32> = (0..count).map(|at| if at * 7919 / 1000 % 5 == 0 { 0.5 } else { 0.0 }).collect();
    Tensor::from_vec(values, dims, &Device::Cpu).expect("the count is the shape's")
}

fn conv_block(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("conv block");
    peak_product(&mut group);
    for (side, inputs, outputs) in [(28, 1, 32), (13, 32, 64)] {
        let (lane, parameters) = (Lane::plain(1), Parameters::new(1));
        let block = ConvBlock::new(inputs, outputs, &parameters.builder(), &lane).expect("a block");
        let x = filled(&[ROWS, side, side, inputs]);
        let x = if inputs == 1 { x.as_detached_tensor() } else { x.as_tensor().clone() };
        // What pooling leaves out is not computed.
        let pixels = ((side - 2) / 2 * 2_usize).pow(2);
        let flops = 2 * ROWS * pixels * 9 * inputs * outputs;
        let work = Work { flops, back: if inputs == 1 { flops } else { 2 * flops } };
        work.bench(&mut group, &format!("{side} x {side} x {inputs} to {outputs}"), || {
            block.forward(&x).expect("it fits")
        });
    }
    group.finish();
}

fn lstm(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lstm");
    peak_product(&mut group);
    let (steps, features, units) = (28, 28, 128);
    let (lane, parameters) = (Lane::plain(1), Parameters::new(1));
    let layer = Lstm::new(features, units, &parameters.builder(), &lane).expect("a layer");
    let x = filled(&[ROWS, steps, features]).as_detached_tensor();
    // The image gets no gradient here, either.
    let flops = |inputs: usize| 2 * ROWS * steps * inputs * 4 * units;
    let work = Work { flops: flops(features + units), back: flops(features + units) + flops(units) };
    work.bench(&mut group, "28 steps of 28 to 128", || layer.forward_t(&x, true).expect("it fits"));
    group.finish();
}

/// What passes over memory.
fn passes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pass");
    peak_copy(&mut group);
    let lane = Lane::plain(1);
    let dropout = Dropout::new(0.2, 0, &lane);
    let x = filled(&[ROWS, 1600]);
    group.throughput(read_and_written(&x, &x));
    group.bench_function("dropout 1600, forward", |bencher| bencher.iter(|| dropout.forward_t(&x, true)));
    let (maps, pooled) = (filled(&[ROWS, 26, 26, 32]), filled(&[ROWS, 13, 13, 32]));
    group.throughput(read_and_written(&maps, &pooled));
    group.bench_function("max-pooling 26 x 26 x 32, forward", |bencher| bencher.iter(|| MaxPool2d::of(&maps)));
    let logits = filled(&[ROWS, 10]);
    let labels: Vec<u8> = (0..ROWS).map(|row| (row % 10) as u8).collect();
    group.throughput(read_and_written(&logits, &logits));
    group.bench_function("softmax cross-entropy 10, forward and backward", |bencher| {
        bencher.iter(|| {
            let loss = SoftmaxCrossEntropy { labels: labels.clone(), scale: 1.0 };
            loss.of(&logits, &lane).and_then(|loss| loss.backward())
        });
    });
    let (count, shards) = (225_034, 4);
    let mut adam = adam(count);
    let gradients = vec![vec![0.01_f32; count]; shards];
    let shown: Vec<Vec<Part<'_>>> = gradients.iter().map(|shard| vec![Part::Whole(shard)]).collect();
    // Gradients are read; weights and both moments are read and written.
    group.throughput(Throughput::Bytes(((shards + 6) * count * size_of::<f32>()) as u64));
    group.bench_function("adam, 225,034 parameters and 4 shards", |bencher| bencher.iter(|| adam.update(&shown)));
    group.finish();
}

/// An update whose gradient is a product of each shard's, made there and then.
fn update(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("update");
    peak_product(&mut group);
    let (inputs, outputs, shards) = (784, 128, 4);
    let mut adam = adam(inputs * outputs);
    let (images, dense) = (strokes(&[ROWS, inputs]), filled(&[ROWS, inputs]));
    let right = numbers(&filled(&[ROWS, outputs]));
    group.throughput(Throughput::Elements((2 * shards * ROWS * inputs * outputs) as u64));
    for (name, left, is_sparse) in
        [("784 x 128", numbers(&dense), false), ("one input in five", numbers(&images), true)]
    {
        let part = Part::Product { left: &left, right: &right, outputs, is_sparse };
        let shown = vec![vec![part]; shards];
        group.bench_function(format!("adam with the gradient's product, {name}"), |bencher| {
            bencher.iter(|| adam.update(&shown));
        });
    }
    group.finish();
}

fn adam(count: usize) -> Optimizer {
    let config = Config { kind: OptimizerKind::Adam, learning_rate: 1e-3 };
    Optimizer::new(vec![filled(&[count])], config).expect("an optimizer")
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|flat| flat.to_vec1()).expect("they are f32")
}

fn read_and_written(from: &Tensor, to: &Tensor) -> Throughput {
    Throughput::Bytes(((from.elem_count() + to.elem_count()) * size_of::<f32>()) as u64)
}

criterion_group!(ops, product, linear, conv_block, lstm, passes, update);
criterion_main!(ops);
