//! A whole LSTM sequence as one op (Hochreiter & Schmidhuber 1997, with forget gates as in Keras).
//!
//! Input and state are kept side by side, so that each time step is one product with the stacked kernels
//! `[features + units, 4 * units]`, and each kernel's gradient is one product over all steps.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp3, Device, Layout, Result, Shape, Tensor};
use candle_nn::ModuleT;

use super::linear::column_sums;
use super::{ensure, floats, read};
use crate::lane::{Buffer, Lane, Slot};
use crate::matmul::{Matrix, Packed, is_sparse, multiply};
use crate::parameters::{Initialiser, VarBuilder};
use crate::simd::{multiversion, sigmoid, tanh};

/// The last state `[batch, units]` of an LSTM over `[batch, steps, features]`. It is walked back once, and only after
/// `forward_t` with `train`.
///
/// Kernel `[features, 4 * units]`, Glorot-uniform; recurrent kernel `[units, 4 * units]`, orthogonal; bias
/// `[4 * units]`, 1 for the forget gate. Gates in the order input, forget, cell, output.
pub struct Lstm {
    kernel: Tensor,
    recurrent: Tensor,
    bias: Tensor,
    lane: Arc<Lane>,
    slots: [Slot; 3],
}

impl Lstm {
    pub fn new(features: usize, units: usize, vb: &VarBuilder<'_>, lane: &Arc<Lane>) -> Result<Self> {
        let wide = 4 * units;
        let glorot = Initialiser::GlorotUniform { fan_in: features, fan_out: wide };
        let slot = |name: &str| lane.slot(&format!("{}.{name}", vb.prefix()));
        Ok(Lstm {
            kernel: vb.get_with_hints((features, wide), "kernel", glorot)?,
            recurrent: vb.get_with_hints((units, wide), "recurrent_kernel", Initialiser::Orthogonal)?,
            bias: vb.get_with_hints(wide, "bias", Initialiser::ForgetGateOne)?,
            lane: Arc::clone(lane),
            slots: [slot("kernel"), slot("recurrent_kernel"), slot("bias")],
        })
    }

    /// Of tensors of these shapes, to be trained under candle's autograd.
    pub fn from_tensors(kernel: Tensor, recurrent: Tensor, bias: Tensor) -> Result<Self> {
        let wide = bias.dims1()?;
        let fit = kernel.dims2()?.1 == wide && recurrent.dims2()? == (wide / 4, wide) && wide % 4 == 0 && wide > 0;
        ensure(fit, || format!("an LSTM of {:?}, {:?} and {:?}", kernel.dims(), recurrent.dims(), bias.dims()))?;
        Ok(Lstm { kernel, recurrent, bias, lane: Lane::plain(0), slots: Default::default() })
    }
}

impl ModuleT for Lstm {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        let (batch, steps, features) = xs.dims3()?;
        let units = self.recurrent.dim(0)?;
        ensure(batch > 0 && steps > 0 && features == self.kernel.dim(0)?, || {
            format!("an LSTM over {} features cannot take {:?}", self.kernel.dims()[0], xs.dims())
        })?;
        let op = LstmOp {
            sizes: Sizes { batch, steps, features, units },
            lane: Arc::clone(&self.lane),
            slots: self.slots.clone(),
            gradient_of_x: self.lane.wants_gradient(xs),
            record: train,
            recorded: Mutex::default(),
        };
        let stacked = Tensor::cat(&[&self.kernel, &self.recurrent], 0)?;
        self.lane.apply3([xs, &stacked, &self.bias], op)
    }
}

#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    steps: usize,
    features: usize,
    units: usize,
}

/// The op behind [`Lstm`]: arguments x, both kernels stacked, bias.
struct LstmOp {
    sizes: Sizes,
    lane: Arc<Lane>,
    slots: [Slot; 3],
    gradient_of_x: bool,
    record: bool,
    recorded: Mutex<Option<Recorded>>,
}

/// What the backward pass needs of every step, time-major.
struct Recorded {
    /// `[steps + 1, batch, features + units]`: the step's input beside the state before it; at the end the last state.
    joined: Buffer,
    /// `[steps, batch, 4 * units]`: the gates after their activations.
    gates: Buffer,
    /// `[steps + 1, batch, units]`: the cell before the step; at the end the last one.
    cells: Buffer,
    /// `[steps, batch, units]`: tanh of the cell after the step.
    squashed: Buffer,
}

impl CustomOp3 for LstmOp {
    fn name(&self) -> &'static str {
        "lstm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        stacked: &CpuStorage,
        stacked_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let Sizes { batch, features, units, .. } = self.sizes;
        let stacked = Matrix::new(floats(stacked, stacked_layout)?, features + units, 4 * units);
        let kernels = Packed::of(stacked, |count| self.lane.scratch(count));
        let state = self.forward(floats(x, x_layout)?, &kernels, floats(bias, bias_layout)?);
        Ok((CpuStorage::F32(state), Shape::from((batch, units))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        stacked: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let Sizes { batch, steps, features, units } = self.sizes;
        let (rows, wide) = (steps * batch, 4 * units);
        let taken = self.recorded.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut recorded) = taken else {
            let once = "an LSTM is walked back once, and only after forward_t with train = true";
            return Err(candle_core::Error::Msg(once.to_string()));
        };
        let of_x = read(stacked, |stacked| {
            let (kernel, recurrent) = stacked.split_at(features * wide);
            read(grad, |grad| {
                self.backward(&mut recorded, recurrent, grad);
                Ok(())
            })?;
            let upstream = Matrix::new(&recorded.gates, rows, wide);
            let of_x = || self.input_gradient(upstream, Matrix::new(kernel, features, wide).t());
            Ok(self.gradient_of_x.then(of_x))
        })?;
        let upstream = Matrix::new(&recorded.gates, rows, wide);
        let of_bias = self.slots[2].write(bias.dims(), |out| column_sums(&recorded.gates, out))?;
        let of_both = self.kernel_gradients(&recorded.joined, read(x, |x| Ok(is_sparse(x)))?, upstream)?;
        let of_x = of_x.map(|of_x| Tensor::from_vec(of_x, x.dims(), &Device::Cpu)).transpose()?;
        Ok((of_x, of_both, of_bias))
    }
}

impl LstmOp {
    /// The gradients of both kernels, each into its slot, or stacked back to candle.
    fn kernel_gradients(&self, joined: &[f32], is_sparse: bool, upstream: Matrix<'_>) -> Result<Option<Tensor>> {
        let Sizes { batch, steps, features, units } = self.sizes;
        let (rows, wide, join) = (steps * batch, 4 * units, features + units);
        let inputs = Matrix::strided(joined, rows, features, join).t().sparse(is_sparse);
        let states = Matrix::strided(&joined[features..], rows, units, join).t();
        let upper = self.slots[0].write(&[features, wide], |out| multiply(out, inputs, upstream))?;
        let lower = self.slots[1].write(&[units, wide], |out| multiply(out, states, upstream))?;
        upper.zip(lower).map(|(upper, lower)| Tensor::cat(&[upper, lower], 0)).transpose()
    }

    /// `[batch, steps, features]`, from the gradients of all steps' sums, which are time-major.
    fn input_gradient(&self, upstream: Matrix<'_>, kernel: Matrix<'_>) -> Vec<f32> {
        let Sizes { batch, steps, features, .. } = self.sizes;
        let mut by_time = self.lane.scratch(steps * batch * features);
        multiply(&mut by_time, upstream, kernel);
        let mut of_x = Vec::with_capacity(by_time.len());
        for row in 0..batch {
            for step in 0..steps {
                of_x.extend_from_slice(&by_time[(step * batch + row) * features..][..features]);
            }
        }
        of_x
    }

    /// Runs all steps from zero state; gives the last state `[batch, units]`.
    fn forward(&self, x: &[f32], kernels: &Packed<Buffer>, bias: &[f32]) -> Vec<f32> {
        let Sizes { batch, steps, features, units } = self.sizes;
        let (wide, join) = (4 * units, features + units);
        // Where a step's numbers are: each has its own place if they are recorded, else they take turns.
        let place = |step: usize| if self.record { step } else { step % 2 };
        let kept = if self.record { steps } else { 1 };
        let mut joined = self.lane.scratch((kept + 1) * batch * join);
        let mut gates = self.lane.scratch(kept * batch * wide);
        let mut cells = self.lane.scratch((kept + 1) * batch * units);
        let mut squashed = self.lane.scratch(kept * batch * units);
        cells[..batch * units].fill(0.0);
        joined[..batch * join].fill(0.0);
        for step in 0..steps {
            let (at, next, only) = (place(step), place(step + 1), if self.record { step } else { 0 });
            for (row, joined) in joined[at * batch * join..][..batch * join].chunks_exact_mut(join).enumerate() {
                joined[..features].copy_from_slice(&x[(row * steps + step) * features..][..features]);
            }
            let (joined, joined_next) = two(&mut joined, batch * join, at, next);
            let (cell, cell_next) = two(&mut cells, batch * units, at, next);
            let gates = &mut gates[only * batch * wide..][..batch * wide];
            kernels.multiply(gates, Matrix::new(joined, batch, join));
            let squashed = &mut squashed[only * batch * units..][..batch * units];
            step_forward(gates, bias, cell, cell_next, squashed, joined_next, units);
        }
        let mut state = Vec::with_capacity(batch * units);
        for joined in joined[place(steps) * batch * join..][..batch * join].chunks_exact(join) {
            state.extend_from_slice(&joined[features..]);
        }
        if self.record {
            let recorded = Recorded { joined, gates, cells, squashed };
            *self.recorded.lock().unwrap_or_else(PoisonError::into_inner) = Some(recorded);
        }
        state
    }

    /// Turns the recorded gates into the gradients of their sums, from the last step to the first.
    fn backward(&self, recorded: &mut Recorded, recurrent: &[f32], grad: &[f32]) {
        let Sizes { batch, steps, units, .. } = self.sizes;
        let wide = 4 * units;
        let back = Packed::of(Matrix::new(recurrent, units, wide).t(), |count| self.lane.scratch(count));
        let mut of_state = grad.to_vec();
        let mut of_cell = vec![0.0; batch * units];
        for step in (0..steps).rev() {
            let gates = &mut recorded.gates[step * batch * wide..][..batch * wide];
            let cells = &recorded.cells[step * batch * units..][..batch * units];
            let squashed = &recorded.squashed[step * batch * units..][..batch * units];
            step_backward(gates, cells, squashed, &of_state, &mut of_cell, units);
            if step > 0 {
                back.multiply(&mut of_state, Matrix::new(gates, batch, wide));
            }
        }
    }
}

multiversion! {
    /// One step: adds the bias to the sums in `gates` `[rows, 4, units]` and activates them, makes the next `cell`, tanh of
    /// it, and the new state, which ends each row of `joined`.
    ///
    /// Several short loops instead of one: with more arrays in a loop the compiler gives up on vectorising it.
    fn step_forward(
        gates: &mut [f32], bias: &[f32], cell: &[f32], cell_next: &mut [f32], squashed: &mut [f32], joined: &mut [f32],
        units: usize,
    ) {
        let (bias_input, rest) = bias.split_at(units);
        let (bias_forget, rest) = rest.split_at(units);
        let (bias_candidate, bias_output) = rest.split_at(units);
        let join = joined.len() * units / cell.len();
        let cells = cell.chunks_exact(units).zip(cell_next.chunks_exact_mut(units));
        let rows = gates.chunks_exact_mut(4 * units).zip(cells);
        let outs = squashed.chunks_exact_mut(units).zip(joined.chunks_exact_mut(join));
        for ((gates, (cell, cell_next)), (squashed, joined)) in rows.zip(outs) {
            let [input, forget, candidate, output] = four(gates, units);
            each(input, bias_input, sigmoid);
            each(forget, bias_forget, sigmoid);
            each(candidate, bias_candidate, tanh);
            each(output, bias_output, sigmoid);
            for ((((next, cell), i), f), g) in cell_next.iter_mut().zip(cell).zip(&*input).zip(&*forget).zip(&*candidate) {
                *next = *f * *cell + *i * *g;
            }
            for (squashed, cell) in squashed.iter_mut().zip(&*cell_next) {
                *squashed = tanh(*cell);
            }
            for ((state, o), t) in joined[join - units..].iter_mut().zip(&*output).zip(&*squashed) {
                *state = *o * *t;
            }
        }
    }
}

multiversion! {
    /// One step back: `gates` become the gradients of their sums, `of_cell` moves to the step before.
    fn step_backward(
        gates: &mut [f32], cells: &[f32], squashed: &[f32], of_state: &[f32], of_cell: &mut [f32], units: usize,
    ) {
        let rows = gates.chunks_exact_mut(4 * units).zip(of_cell.chunks_exact_mut(units));
        let known = cells.chunks_exact(units).zip(squashed.chunks_exact(units)).zip(of_state.chunks_exact(units));
        for ((gates, of_cell), ((cells, squashed), of_state)) in rows.zip(known) {
            let [input, forget, candidate, output] = four(gates, units);
            for (((dc, o), t), dh) in of_cell.iter_mut().zip(&*output).zip(squashed).zip(of_state) {
                *dc += dh * o * (1.0 - t * t);
            }
            for ((o, t), dh) in output.iter_mut().zip(squashed).zip(of_state) {
                *o = dh * t * *o * (1.0 - *o);
            }
            let (inputs, inputs_left) = input.as_chunks_mut::<SIDE_BY_SIDE>();
            let (candidates, candidates_left) = candidate.as_chunks_mut::<SIDE_BY_SIDE>();
            let (of_cells, of_cells_left) = of_cell.as_chunks::<SIDE_BY_SIDE>();
            for ((i, g), dc) in inputs.iter_mut().zip(candidates).zip(of_cells) {
                let (gates, values) = (*i, *g);
                for at in 0..SIDE_BY_SIDE {
                    (i[at], g[at]) = of_input_and_candidate(gates[at], values[at], dc[at]);
                }
            }
            for ((i, g), dc) in inputs_left.iter_mut().zip(candidates_left).zip(of_cells_left) {
                (*i, *g) = of_input_and_candidate(*i, *g, *dc);
            }
            for ((f, dc), before) in forget.iter_mut().zip(of_cell).zip(cells) {
                let (gate, gradient) = (*f, *dc);
                *f = gradient * before * gate * (1.0 - gate);
                *dc = gradient * gate;
            }
        }
    }
}

/// Numbers of a loop that writes two arrays which the compiler cannot tell apart: it takes these at once.
const SIDE_BY_SIDE: usize = 16;

/// Of an input gate and its candidate, from the cell's gradient.
#[inline(always)]
fn of_input_and_candidate(gate: f32, value: f32, of_cell: f32) -> (f32, f32) {
    (of_cell * value * gate * (1.0 - gate), of_cell * gate * (1.0 - value * value))
}

/// Two different stretches of `length` numbers, the second to be written.
fn two(numbers: &mut [f32], length: usize, from: usize, to: usize) -> (&[f32], &mut [f32]) {
    let (before, after) = numbers.split_at_mut(from.max(to) * length);
    let (before, after) = (&mut before[from.min(to) * length..][..length], &mut after[..length]);
    if from < to { (before, after) } else { (after, before) }
}

/// A row's four gates.
#[inline(always)]
fn four(gates: &mut [f32], units: usize) -> [&mut [f32]; 4] {
    let (input, rest) = gates.split_at_mut(units);
    let (forget, rest) = rest.split_at_mut(units);
    let (candidate, output) = rest.split_at_mut(units);
    [input, forget, candidate, output]
}

#[inline(always)]
fn each(sums: &mut [f32], bias: &[f32], function: impl Fn(f32) -> f32) {
    for (sum, bias) in sums.iter_mut().zip(bias) {
        *sum = function(*sum + bias);
    }
}
