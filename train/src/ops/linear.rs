//! A dense layer: product, bias and activation in one op.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp3, Device, Layout, Result, Shape, Tensor};
use candle_nn::{Module, ModuleT};
use kubeml_spec::Activation;

use super::dropout::{Dropout, Mask};
use super::{ensure, floats, read};
use crate::lane::{Lane, Slot};
use crate::matmul::{Matrix, is_sparse, multiply};
use crate::parameters::{Initialiser, VarBuilder};
use crate::simd::multiversion;

/// `activation(x . weight + bias)` for x `[batch, ...]` flattened to `[batch, inputs]`; gives `[batch, outputs]`.
///
/// Weight `[inputs, outputs]`, Glorot-uniform; bias `[outputs]`, zeros.
pub struct Linear {
    weight: Tensor,
    bias: Tensor,
    activation: Activation,
    lane: Arc<Lane>,
    slots: [Slot; 2],
}

impl Linear {
    pub fn new(
        inputs: usize,
        outputs: usize,
        activation: Activation,
        vb: &VarBuilder<'_>,
        lane: &Arc<Lane>,
    ) -> Result<Self> {
        ensure(inputs > 0 && outputs > 0, || format!("a dense layer of {inputs} inputs and {outputs} outputs"))?;
        let glorot = Initialiser::GlorotUniform { fan_in: inputs, fan_out: outputs };
        let slot = |name: &str| lane.slot(&format!("{}.{name}", vb.prefix()));
        Ok(Linear {
            weight: vb.get_with_hints((inputs, outputs), "weight", glorot)?,
            bias: vb.get_with_hints(outputs, "bias", Initialiser::Zeros)?,
            activation,
            lane: Arc::clone(lane),
            slots: [slot("weight"), slot("bias")],
        })
    }

    /// Of a weight `[inputs, outputs]` and a bias `[outputs]`, to be trained under candle's autograd.
    pub fn from_tensors(weight: Tensor, bias: Tensor, activation: Activation) -> Result<Self> {
        let (inputs, outputs) = weight.dims2()?;
        ensure(inputs > 0 && bias.dims1()? == outputs && outputs > 0, || {
            format!("a dense layer of {:?} and {:?}", weight.dims(), bias.dims())
        })?;
        Ok(Linear { weight, bias, activation, lane: Lane::plain(0), slots: Default::default() })
    }

    fn apply(&self, xs: &Tensor, after: After) -> Result<Tensor> {
        let gradient_of_x = self.lane.wants_gradient(xs);
        let op = LinearOp { lane: Arc::clone(&self.lane), after, slots: self.slots.clone(), gradient_of_x };
        self.lane.apply3([xs, &self.weight, &self.bias], op)
    }
}

impl Module for Linear {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let after = match self.activation {
            Activation::None => After::Nothing,
            Activation::Relu => After::Relu,
        };
        self.apply(xs, after)
    }
}

/// A hidden layer: [`Linear`] with ReLU, then [`Dropout`], in one op.
pub struct Hidden {
    linear: Linear,
    dropout: Dropout,
}

impl Hidden {
    /// As [`Linear::new`] and [`Dropout::new`] take it.
    pub fn new(
        [inputs, outputs]: [usize; 2],
        vb: &VarBuilder<'_>,
        rate: f64,
        layer: u32,
        lane: &Arc<Lane>,
    ) -> Result<Self> {
        let linear = Linear::new(inputs, outputs, Activation::Relu, vb, lane)?;
        Ok(Hidden { linear, dropout: Dropout::new(rate, layer, lane) })
    }
}

impl ModuleT for Hidden {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        let drops = train && self.dropout.drops();
        self.linear.apply(xs, if drops { After::ReluAndMask(self.dropout.mask()) } else { After::Relu })
    }
}

/// What becomes of the sums.
#[derive(Clone, Copy)]
enum After {
    Nothing,
    Relu,
    ReluAndMask(Mask),
}

/// The op behind [`Linear`] and [`Hidden`]: arguments x, weight, bias.
struct LinearOp {
    lane: Arc<Lane>,
    after: After,
    slots: [Slot; 2],
    gradient_of_x: bool,
}

impl LinearOp {
    /// From sums to outputs, in place.
    fn finish(&self, bias: &[f32], sums: &mut [f32]) {
        match self.after {
            After::Nothing => biased(bias, sums),
            After::Relu => biased_relu(bias, sums),
            After::ReluAndMask(mask) => {
                let mut factors = self.lane.scratch(bias.len());
                for (row, sums) in sums.chunks_exact_mut(bias.len().max(1)).enumerate() {
                    mask.write_row(row, &mut factors);
                    biased_relu_masked(bias, &factors, sums);
                }
            }
        }
    }

    /// From the gradient of the outputs to that of the sums. An output above 0 was let through by both ReLU and mask.
    fn start_back(&self, gradient: &[f32], out: &Tensor) -> Result<Vec<f32>> {
        let factor = match self.after {
            After::Nothing => return Ok(gradient.to_vec()),
            After::Relu => 1.0,
            After::ReluAndMask(mask) => mask.kept_value,
        };
        read(out, |out| {
            let mut of_sums = vec![0.0; gradient.len()];
            gated(gradient, out, factor, &mut of_sums);
            Ok(of_sums)
        })
    }
}

impl CustomOp3 for LinearOp {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (inputs, outputs) = weight_layout.shape().dims2()?;
        let (x, weight, bias) = (floats(x, x_layout)?, floats(weight, weight_layout)?, floats(bias, bias_layout)?);
        let batch = x_layout.dims().first().copied().unwrap_or(0);
        ensure(x.len() == batch * inputs && bias.len() == outputs, || {
            format!("linear {inputs} to {outputs} got x {:?}", x_layout.dims())
        })?;
        let mut out = vec![0.0; batch * outputs];
        let rows = Matrix::new(x, batch, inputs).sparse(is_sparse(x));
        multiply(&mut out, rows, Matrix::new(weight, inputs, outputs));
        self.finish(bias, &mut out);
        Ok((CpuStorage::F32(out), Shape::from((batch, outputs))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (inputs, outputs) = weight.dims2()?;
        let batch = out.dim(0)?;
        let sums_gradient = read(grad, |grad| self.start_back(grad, out))?;
        let upstream = Matrix::new(&sums_gradient, batch, outputs);
        let of_bias = self.slots[1].write(bias.dims(), |out| column_sums(&sums_gradient, out))?;
        let of_x = if self.gradient_of_x {
            let mut values = vec![0.0; batch * inputs];
            read(weight, |weight| {
                multiply(&mut values, upstream, Matrix::new(weight, inputs, outputs).t());
                Ok(())
            })?;
            Some(Tensor::from_vec(values, x.dims(), &Device::Cpu)?)
        } else {
            None
        };
        let of_weight = self.slots[0].write_product([inputs, outputs], x, sums_gradient)?;
        Ok((of_x, of_weight, of_bias))
    }
}

multiversion! {
    fn biased(bias: &[f32], sums: &mut [f32]) {
        for sums in sums.chunks_exact_mut(bias.len()) {
            for (sum, bias) in sums.iter_mut().zip(bias) {
                *sum += bias;
            }
        }
    }
}

/// max(x, 0), but a NaN stays one: it must reach the loss to be noticed.
#[inline(always)]
fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

multiversion! {
    fn biased_relu(bias: &[f32], sums: &mut [f32]) {
        for sums in sums.chunks_exact_mut(bias.len()) {
            for (sum, bias) in sums.iter_mut().zip(bias) {
                *sum = relu(*sum + bias);
            }
        }
    }
}

multiversion! {
    /// Of one row.
    fn biased_relu_masked(bias: &[f32], factors: &[f32], sums: &mut [f32]) {
        for ((sum, bias), factor) in sums.iter_mut().zip(bias).zip(factors) {
            *sum = relu(*sum + bias) * factor;
        }
    }
}

multiversion! {
    /// The gradient times `factor` where something came out, else 0. Not in place: of a choice between a value and what is
    /// there already the compiler makes a masked store, which takes dozens of cycles on some processors.
    pub(crate) fn gated(gradient: &[f32], out: &[f32], factor: f32, gated: &mut [f32]) {
        for ((gated, gradient), out) in gated.iter_mut().zip(gradient).zip(out) {
            *gated = if *out > 0.0 { *gradient * factor } else { 0.0 };
        }
    }
}

multiversion! {
    /// Sums over rows, in their order, into one value per column.
    pub(crate) fn column_sums(rows: &[f32], sums: &mut [f32]) {
        sums.fill(0.0);
        for row in rows.chunks_exact(sums.len()) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += value;
            }
        }
    }
}
