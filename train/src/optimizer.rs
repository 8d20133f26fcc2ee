//! Adam, AdamW and SGD with momentum: one pass over the parameters that sums the shards' gradients and updates in place.
//!
//! The moments are plain vectors in the order of the parameters' names, so a checkpoint can hold them.

use std::cell::Cell;

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Var};
use kubeml_spec::{Hyperparameters, OptimizerKind, Schedule};
use rayon::prelude::*;

use crate::batches::SHARDS_MAX;
use crate::matmul::{Matrix, multiply, multiply_add};
use crate::ops::{ensure, floats_mut, read};
use crate::simd::multiversion;

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
/// Keras' default; candle and PyTorch have 1e-8.
const EPSILON: f64 = 1e-7;
/// Numbers updated at a time: small enough for the first-level cache, and the unit of work between threads.
const CHUNK: usize = 1024;
/// The same where the gradient is multiplied there and then: more, as every piece goes through all of the right side.
const PRODUCT_PIECE: usize = 3 * CHUNK;

/// What an [`Optimizer`] is made from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Config {
    pub kind: OptimizerKind,
    pub learning_rate: f64,
    /// Of AdamW.
    pub weight_decay: f64,
    /// Of SGD.
    pub momentum: f64,
}

impl Config {
    /// At the first step.
    pub fn of(h: &Hyperparameters) -> Self {
        Self { kind: h.optimizer, learning_rate: h.learning_rate, weight_decay: h.weight_decay, momentum: h.momentum }
    }
}

/// An optimizer whose whole state can be copied out and put back.
pub struct Optimizer {
    variables: Vec<Var>,
    config: Config,
    /// Updates done; Adam's bias correction counts from 1.
    steps: u64,
    moments: Moments,
}

/// First and second moments (SGD: the velocity, and zeros), one number per parameter, in the variables' order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Moments {
    pub first: Vec<f32>,
    pub second: Vec<f32>,
}

impl Optimizer {
    pub fn moments(&self) -> &Moments {
        &self.moments
    }

    /// Puts back a state: `steps` updates were done.
    pub fn restore(&mut self, steps: u64, moments: Moments) -> Result<()> {
        let count = self.moments.first.len();
        ensure(moments.first.len() == count && moments.second.len() == count, || {
            format!("{} and {} moments for {count} parameters", moments.first.len(), moments.second.len())
        })?;
        self.steps = steps;
        self.moments = moments;
        Ok(())
    }

    /// One update. `shards` holds each shard's gradients, one part per variable; a variable's gradient is their sum, in a
    /// fixed tree or, of products, row by row. A gradient that is a product is never in memory as a whole.
    pub fn update(&mut self, shards: &[Vec<Part<'_>>]) -> Result<()> {
        let sized = |shard: &Vec<Part<'_>>| {
            let parts = shard.iter().zip(&shards[0]).zip(&self.variables);
            shard.len() == self.variables.len()
                && parts.into_iter().all(|((part, first), var)| part.fits(var.elem_count(), first))
        };
        ensure(!shards.is_empty() && shards.len() <= SHARDS_MAX && shards.iter().all(sized), || {
            "the shards' gradients do not fit the parameters".to_string()
        })?;
        self.steps += 1;
        let rule = Rule::new(&self.config, self.steps);
        let gradients: Vec<Gradient<'_>> =
            (0..self.variables.len()).map(|at| Gradient(shards.iter().map(|shard| shard[at]).collect())).collect();
        let Moments { first, second } = &mut self.moments;
        with_numbers(&self.variables, Vec::new(), &mut |weights| {
            let mut pieces = pieces(&gradients, weights, first, second);
            pieces.par_iter_mut().for_each_init(Vec::new, |total, piece| piece.update(rule, total));
        })
    }
}

impl candle_nn::Optimizer for Optimizer {
    type Config = Config;

    fn new(variables: Vec<Var>, config: Config) -> Result<Self> {
        let twice = (1..variables.len()).any(|at| variables[..at].iter().any(|var| var.id() == variables[at].id()));
        ensure(!twice, || "a variable was given twice".to_string())?;
        let count = variables.iter().map(|var| var.elem_count()).sum();
        let moments = Moments { first: vec![0.0; count], second: vec![0.0; count] };
        Ok(Optimizer { variables, config, steps: 0, moments })
    }

    /// One update from candle's own gradients; a variable without one is updated with gradient 0.
    fn step(&mut self, grads: &GradStore) -> Result<()> {
        let gradient = |var: &Var| match grads.get(var) {
            Some(grad) => read(grad, |values| Ok(values.to_vec())),
            None => Ok(vec![0.0; var.elem_count()]),
        };
        let gradients = self.variables.iter().map(gradient).collect::<Result<Vec<_>>>()?;
        self.update(&[gradients.iter().map(|values| Part::Whole(values)).collect()])
    }

    fn learning_rate(&self) -> f64 {
        self.config.learning_rate
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.config.learning_rate = learning_rate;
    }
}

/// The learning rate of a step (from 0) in an epoch (from 0), of `steps_total`.
pub fn learning_rate(h: &Hyperparameters, step: u64, epoch: u32, steps_total: u64) -> f64 {
    let base = h.learning_rate;
    match h.schedule {
        Schedule::Constant => base,
        Schedule::Step => base * libm::pow(h.schedule_factor, f64::from(epoch / h.schedule_every.max(1))),
        Schedule::Cosine => {
            let done = step as f64 / steps_total.max(1) as f64;
            base * 0.5 * (1.0 + libm::cos(std::f64::consts::PI * done))
        }
    }
}

/// One step's update of one number, its constants computed once.
#[derive(Clone, Copy)]
enum Rule {
    /// `rate` has the first moment's bias correction in it, `root` is the second's: 1 / sqrt(1 - beta2^t).
    Adam {
        rate: f32,
        root: f32,
        keep: f32,
    },
    Sgd {
        rate: f32,
        momentum: f32,
    },
}

impl Rule {
    fn new(config: &Config, steps: u64) -> Self {
        let adam = |decay: f64| Rule::Adam {
            rate: (config.learning_rate / (1.0 - libm::pow(BETA1, steps as f64))) as f32,
            root: (1.0 / libm::sqrt(1.0 - libm::pow(BETA2, steps as f64))) as f32,
            keep: (1.0 - config.learning_rate * decay) as f32,
        };
        match config.kind {
            OptimizerKind::Adam => adam(0.0),
            OptimizerKind::AdamW => adam(config.weight_decay),
            OptimizerKind::Sgd => Rule::Sgd { rate: config.learning_rate as f32, momentum: config.momentum as f32 },
        }
    }

    fn apply(self, weights: &mut [f32], first: &mut [f32], second: &mut [f32], gradients: &[f32]) {
        match self {
            Rule::Adam { rate, root, keep } => adam(weights, first, second, gradients, rate, root, keep),
            Rule::Sgd { rate, momentum } => sgd(weights, first, gradients, rate, momentum),
        }
    }
}

/// A variable's gradient over one shard.
#[derive(Clone, Copy)]
pub enum Part<'a> {
    Whole(&'a [f32]),
    /// `left^T . right`, of `[rows, inputs]` and `[rows, outputs]`.
    Product {
        left: &'a [f32],
        right: &'a [f32],
        outputs: usize,
        /// Whether most of `left` is 0.
        is_sparse: bool,
    },
}

impl Part<'_> {
    /// Whether it is the gradient of `count` numbers, in the same form as `other`.
    fn fits(&self, count: usize, other: &Part<'_>) -> bool {
        match (*self, *other) {
            (Part::Whole(values), Part::Whole(_)) => values.len() == count,
            (Part::Product { left, right, outputs, .. }, Part::Product { outputs: of_other, .. }) => {
                // `count` is `inputs * outputs`, and both sides have as many rows.
                let is_whole = [count, right.len()].iter().all(|length| *length > 0 && length.is_multiple_of(outputs));
                is_whole && outputs == of_other && left.len() * outputs == right.len() / outputs * count
            }
            _ => false,
        }
    }
}

/// One variable's gradient: a part for each shard.
struct Gradient<'a>(Vec<Part<'a>>);

impl Gradient<'_> {
    /// Numbers updated at a time: small enough for the first-level cache, and whole rows of a product.
    fn piece(&self) -> usize {
        match self.0.first() {
            Some(Part::Product { outputs, .. }) => (PRODUCT_PIECE / outputs).max(1) * outputs,
            _ => CHUNK,
        }
    }

    /// Its numbers from `from` on.
    fn sum(&self, from: usize, total: &mut [f32]) {
        let (mut wholes, mut whole_count) = ([[].as_slice(); SHARDS_MAX], 0);
        for (shard, part) in self.0.iter().enumerate() {
            match *part {
                Part::Whole(values) => {
                    wholes[whole_count] = values;
                    whole_count += 1;
                }
                Part::Product { left, right, outputs, is_sparse } => {
                    let rows = right.len() / outputs;
                    let inputs = left.len() / rows;
                    let left = Matrix::strided(&left[from / outputs..], rows, total.len() / outputs, inputs);
                    let left = left.t().sparse(is_sparse);
                    let right = Matrix::new(right, rows, outputs);
                    if shard == 0 { multiply(total, left, right) } else { multiply_add(total, left, right) }
                }
            }
        }
        if whole_count > 0 {
            sum_tree(&wholes[..whole_count], from, total);
        }
    }
}

/// Some numbers of one variable, the unit of work between threads.
struct Piece<'a> {
    gradient: &'a Gradient<'a>,
    /// Its first number's place within the variable.
    from: usize,
    weights: &'a mut [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
}

impl Piece<'_> {
    fn update(&mut self, rule: Rule, total: &mut Vec<f32>) {
        total.resize(self.weights.len(), 0.0);
        self.gradient.sum(self.from, total);
        rule.apply(self.weights, self.first, self.second, total);
    }
}

/// All variables cut into pieces; the moments are those of all, one after the other.
fn pieces<'a>(
    gradients: &'a [Gradient<'a>],
    weights: Numbers<'a>,
    mut first: &'a mut [f32],
    mut second: &'a mut [f32],
) -> Vec<Piece<'a>> {
    let mut pieces = Vec::new();
    for (gradient, weights) in gradients.iter().zip(weights) {
        let (first_here, first_rest) = first.split_at_mut(weights.len());
        let (second_here, second_rest) = second.split_at_mut(weights.len());
        (first, second) = (first_rest, second_rest);
        let length = gradient.piece();
        let moments = first_here.chunks_mut(length).zip(second_here.chunks_mut(length));
        pieces.extend(
            weights.chunks_mut(length).zip(moments).enumerate().map(|(at, (weights, (first, second)))| Piece {
                gradient,
                from: at * length,
                weights,
                first,
                second,
            }),
        );
    }
    pieces
}

/// The numbers of variables, each one's on their own.
type Numbers<'a> = Vec<&'a mut [f32]>;

/// What is done with the numbers of all variables.
type Work<'a> = &'a mut dyn FnMut(Numbers<'_>);

/// Lends the numbers of all variables at once, to be changed in place. candle lends one variable's at a time, so each is
/// borrowed within the one before.
fn with_numbers(variables: &[Var], numbers: Numbers<'_>, work: Work<'_>) -> Result<()> {
    match variables.split_first() {
        Some((variable, rest)) => variable.inplace_op1(&Lending { rest, lent: Cell::new(Some((numbers, work))) }),
        None => {
            work(numbers);
            Ok(())
        }
    }
}

struct Lending<'a> {
    /// The variables to come.
    rest: &'a [Var],
    /// The numbers lent so far, and what is to be done with all.
    lent: Cell<Option<(Numbers<'a>, Work<'a>)>>,
}

impl InplaceOp1 for Lending<'_> {
    fn name(&self) -> &'static str {
        "optimizer-update"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let Some((mut numbers, work)) = self.lent.take() else { return Ok(()) };
        numbers.push(floats_mut(storage, layout)?);
        with_numbers(self.rest, numbers, work)
    }
}

/// Sums the same stretch (from `from`) of every part: halves first, so the order depends on their number alone.
fn sum_tree(parts: &[&[f32]], from: usize, out: &mut [f32]) {
    let stretch = from..from + out.len();
    match parts {
        [] => out.fill(0.0),
        [one] => out.copy_from_slice(&one[stretch]),
        [one, two] => sum_two(&one[stretch.clone()], &two[stretch], out),
        _ => {
            let (left, right) = parts.split_at(parts.len().next_power_of_two() / 2);
            let mut other = [0.0; CHUNK];
            let other = &mut other[..out.len()];
            sum_tree(left, from, out);
            sum_tree(right, from, other);
            add(out, other);
        }
    }
}

multiversion! {
    fn sum_two(one: &[f32], two: &[f32], out: &mut [f32]) {
        for ((out, one), two) in out.iter_mut().zip(one).zip(two) {
            *out = one + two;
        }
    }
}

multiversion! {
    fn add(out: &mut [f32], other: &[f32]) {
        for (out, other) in out.iter_mut().zip(other) {
            *out += other;
        }
    }
}

multiversion! {
    fn adam(
        weights: &mut [f32], first: &mut [f32], second: &mut [f32], gradients: &[f32], rate: f32, root: f32, keep: f32,
    ) {
        const KEEP1: f32 = BETA1 as f32;
        const TAKE1: f32 = (1.0 - BETA1) as f32;
        const KEEP2: f32 = BETA2 as f32;
        const TAKE2: f32 = (1.0 - BETA2) as f32;
        let moments = first.iter_mut().zip(second.iter_mut());
        for ((weight, gradient), (first, second)) in weights.iter_mut().zip(gradients).zip(moments) {
            *first = *first * KEEP1 + gradient * TAKE1;
            *second = *second * KEEP2 + gradient * gradient * TAKE2;
            *weight = *weight * keep - rate * *first / (second.sqrt() * root + EPSILON as f32);
        }
    }
}

multiversion! {
    fn sgd(weights: &mut [f32], velocity: &mut [f32], gradients: &[f32], rate: f32, momentum: f32) {
        for ((weight, gradient), velocity) in weights.iter_mut().zip(gradients).zip(velocity.iter_mut()) {
            *velocity = *velocity * momentum - rate * gradient;
            *weight += *velocity;
        }
    }
}
