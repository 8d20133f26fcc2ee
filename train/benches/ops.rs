//! Each op at the reference models' sizes, forward and backward, for one shard of 32 samples on one thread; and a batch of
//! 128 on one thread and on two, cut in two ways.
//!
//! `cargo xtask bench ops` runs them and tells each one's share of its group's peak, measured in the same minute. Products are
//! shown in elements/s, an element being a floating-point operation, so that 1 Gelem/s is 1 GFLOP/s; their peak is multiply-adds
//! that need no memory. Passes over memory are shown in bytes/s; their peak is a copy that no cache holds.

use std::hint::black_box;

use candle_core::{Device, Tensor, Var};
use candle_nn::{Module, ModuleT, Optimizer as _};
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use kubeml_spec::OptimizerKind;
use kubeml_train::lane::Lane;
use kubeml_train::ops::{Activation, ConvBlock, Dropout, Hidden, Linear, Lstm, MaxPool2d, SoftmaxCrossEntropy};
use kubeml_train::optimizer::{Config, Optimizer, Part};
use kubeml_train::parameters::Parameters;
use rayon::{ThreadPool, ThreadPoolBuilder, prelude::*};

/// Of a shard.
const ROWS: usize = 32;
/// Of a batch of 128.
const SHARDS: usize = 4;

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
    group.throughput(Throughput::Elements(peak::FLOPS as u64));
    group.bench_function(PEAK, |bencher| bencher.iter(peak::multiply_adds));
}

/// Multiply-adds whose numbers never leave the processor's registers: what no product can surpass.
mod peak {
    #[cfg(target_arch = "x86_64")]
    use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_reduce_add_ps, _mm512_set1_ps};
    use std::hint::black_box;

    /// Sums that wait for each other only in themselves: more than are under way at a time.
    const CHAINS: usize = 12;
    const LINKS: usize = 100_000;
    const LANES: usize = 16;
    pub const FLOPS: usize = 2 * CHAINS * LINKS * LANES;

    #[inline(always)]
    fn chains<const LANES: usize>(links: usize) -> f32 {
        let mut sums = [[1.0_f32; LANES]; CHAINS];
        let (factors, terms) = (black_box([0.999_f32; LANES]), black_box([1e-3_f32; LANES]));
        for _ in 0..links {
            for sum in &mut sums {
                for at in 0..LANES {
                    sum[at] = sum[at].mul_add(factors[at], terms[at]);
                }
            }
        }
        sums.iter().flatten().sum()
    }

    /// As many operations at every width.
    pub fn multiply_adds() -> f32 {
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code, reason = "the processor has the features")]
        {
            // By hand: the compiler makes single numbers of an array of sixteen.
            #[target_feature(enable = "avx512f")]
            fn avx512() -> f32 {
                let mut sums = [_mm512_set1_ps(1.0); CHAINS];
                let (factors, terms) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(1e-3)));
                for _ in 0..LINKS {
                    for sum in &mut sums {
                        *sum = _mm512_fmadd_ps(*sum, factors, terms);
                    }
                }
                sums.into_iter().map(|sum| _mm512_reduce_add_ps(sum)).sum()
            }
            #[target_feature(enable = "avx2,fma")]
            fn avx2() -> f32 {
                chains::<{ LANES / 2 }>(2 * LINKS)
            }
            if is_x86_feature_detected!("avx512f") {
                // SAFETY: detected.
                return unsafe { avx512() };
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                // SAFETY: detected.
                return unsafe { avx2() };
            }
        }
        chains::<{ LANES / 4 }>(4 * LINKS)
    }
}

fn peak_copy(group: &mut BenchmarkGroup<'_, WallTime>) {
    let (from, mut to) = (vec![1_u8; 64 << 20], vec![0_u8; 64 << 20]);
    group.throughput(Throughput::Bytes(2 * from.len() as u64));
    group.bench_function(PEAK, |bencher| bencher.iter(|| black_box(&mut to).copy_from_slice(black_box(&from))));
}

fn linear(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("linear");
    peak_product(&mut group);
    let sizes = [(784, 128, true), (128, 128, false), (1600, 128, false), (128, 10, false), (1024, 1024, false)];
    for (inputs, outputs, is_first) in sizes {
        let (lane, parameters) = (Lane::plain(1), Parameters::new(1));
        let layer = Linear::new(inputs, outputs, Activation::Relu, &parameters.builder(), &lane).expect("a layer");
        let x = filled(&[ROWS, inputs]);
        // The image gets no gradient.
        let x = if is_first { x.as_detached_tensor() } else { x.as_tensor().clone() };
        let flops = 2 * ROWS * inputs * outputs;
        let work = Work { flops, back: if is_first { flops } else { 2 * flops } };
        work.bench(&mut group, &format!("{inputs} to {outputs}"), || layer.forward(&x).expect("it fits"));
        group.throughput(Throughput::Elements(flops as u64));
        let mut product = library_product(ROWS, inputs, outputs);
        let name = format!("{inputs} to {outputs}, product alone by the gemm crate");
        group.bench_function(name, |bencher| bencher.iter(&mut product));
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

/// What another library takes for a layer's product, to compare with.
#[allow(unsafe_code, reason = "that is its interface")]
fn library_product(rows: usize, inputs: usize, outputs: usize) -> impl FnMut() {
    let (left, right) = (vec![0.5_f32; rows * inputs], vec![0.5_f32; inputs * outputs]);
    let mut out = vec![0.0_f32; rows * outputs];
    move || {
        let (to, from, by) = (out.as_mut_ptr(), left.as_ptr(), right.as_ptr());
        let (wide, narrow) = (outputs as isize, inputs as isize);
        // SAFETY: row-major matrices without gaps, of the sizes that their vectors were made with; `out` is none of the others.
        unsafe {
            let one = gemm::Parallelism::None;
            gemm::gemm(
                rows, outputs, inputs, to, 1, wide, false, from, 1, narrow, by, 1, wide, 0.0, 1.0, false, false, false,
                one,
            );
        }
        black_box(&mut out);
    }
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

/// What threads share: the samples, as in training, or each op's outputs. Both walk back as training does, where a dense
/// layer's weights get their gradient from the optimizer. Left out is what each way needs besides: shards have their gradients
/// summed once a step; outputs want all threads to meet after each op, and the halves of what they made put together or added.
fn split(criterion: &mut Criterion) {
    for count in [1, 2] {
        let pool = ThreadPoolBuilder::new().num_threads(count).build().expect("threads");
        let mut group = criterion.benchmark_group(format!("batch of {} on {count} threads", SHARDS * ROWS));
        group.throughput(Throughput::Elements((count * peak::FLOPS) as u64));
        let run = || (0..count).into_par_iter().with_max_len(1).map(|_| peak::multiply_adds()).sum::<f32>();
        group.bench_function(PEAK, |bencher| bencher.iter(|| pool.install(run)));

        let flops = 2 * SHARDS * ROWS * 784 * 128;
        compare(&mut group, &pool, "linear 784 to 128, forward", flops, 128, |rows, outputs| {
            let (lane, parameters) = (Lane::collecting(1), Parameters::new(1));
            let layer = Linear::new(784, outputs, Activation::Relu, &parameters.builder(), &lane).expect("a layer");
            let x = filled(&[rows, 784]);
            move || drop(black_box(layer.forward(&x).expect("it fits")))
        });
        for (side, inputs, outputs) in [(28, 1, 32), (13, 32, 64)] {
            let pixels = ((side - 2) / 2 * 2_usize).pow(2);
            let passes = if inputs == 1 { 2 } else { 3 };
            let flops = passes * 2 * SHARDS * ROWS * pixels * 9 * inputs * outputs;
            let name = format!("conv block {side} x {side} x {inputs} to {outputs}, forward and backward");
            compare(&mut group, &pool, &name, flops, outputs, |rows, outputs| conv_part(rows, side, inputs, outputs));
        }
        group.finish();
    }
}

/// `part` makes the work on so many rows and outputs.
fn compare<W: Fn() + Sync>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    pool: &ThreadPool,
    name: &str,
    flops: usize,
    outputs: usize,
    part: impl Fn(usize, usize) -> W,
) {
    let shards: Vec<W> = (0..SHARDS).map(|_| part(ROWS, outputs)).collect();
    let halves: Vec<W> = (0..2).map(|_| part(SHARDS * ROWS, outputs / 2)).collect();
    group.throughput(Throughput::Elements(flops as u64));
    for (how, parts) in [("by shards", shards), ("by outputs", halves)] {
        let run = || parts.par_iter().with_max_len(1).for_each(|part| part());
        group.bench_function(format!("{name}, {how}"), |bencher| bencher.iter(|| pool.install(run)));
    }
}

fn conv_part(rows: usize, side: usize, inputs: usize, outputs: usize) -> impl Fn() + Sync {
    let (lane, parameters) = (Lane::collecting(1), Parameters::new(1));
    let block = ConvBlock::new(inputs, outputs, &parameters.builder(), &lane).expect("a block");
    // An op before it, so that its input wants a gradient.
    let before = (inputs > 1).then(|| Dropout::new(0.2, 0, &lane));
    let x = filled(&[rows, side * side * inputs]);
    let pooled = (side - 2) / 2;
    let gradient = filled(&[rows, pooled, pooled, outputs]).as_detached_tensor();
    move || {
        lane.begin(0, 0);
        let x = before.as_ref().map_or_else(|| x.as_tensor().clone(), |op| op.forward_t(&x, true).expect("it fits"));
        let maps = x.reshape((rows, side, side, inputs)).expect("as many");
        black_box(block.forward(&maps).expect("it fits"));
        lane.backward(gradient.clone()).expect("every op has a way back");
    }
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
            let loss = SoftmaxCrossEntropy::new(labels.clone(), 1.0);
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
    let config = Config { kind: OptimizerKind::Adam, learning_rate: 1e-3, weight_decay: 0.0, momentum: 0.0 };
    Optimizer::new(vec![filled(&[count])], config).expect("an optimizer")
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|flat| flat.to_vec1()).expect("they are f32")
}

fn read_and_written(from: &Tensor, to: &Tensor) -> Throughput {
    Throughput::Bytes(((from.elem_count() + to.elem_count()) * size_of::<f32>()) as u64)
}

criterion_group!(ops, linear, conv_block, lstm, split, passes, update);
criterion_main!(ops);
