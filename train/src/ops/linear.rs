//! A dense layer: product, bias and activation in one op.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp3, Device, Layout, Result, Shape, Tensor};
use candle_nn::Module;

use super::{ensure, floats, read};
use crate::lane::{Lane, Slot};
use crate::matmul::{Matrix, multiply};
use crate::parameters::{Initialiser, VarBuilder};
use crate::simd::multiversion;

/// What a layer does to its sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    None,
    /// max(x, 0), with gradient 0 at 0.
    Relu,
}

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
}

impl Module for Linear {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let gradient_of_x = self.lane.wants_gradient(xs);
        let op = LinearOp {
            lane: Arc::clone(&self.lane),
            activation: self.activation,
            slots: self.slots.clone(),
            gradient_of_x,
        };
        self.lane.apply3([xs, &self.weight, &self.bias], op)
    }
}

/// The op behind [`Linear`]: arguments x, weight, bias.
struct LinearOp {
    lane: Arc<Lane>,
    activation: Activation,
    slots: [Slot; 2],
    gradient_of_x: bool,
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
        let mut sums = self.lane.scratch(batch * outputs);
        multiply(&mut sums, Matrix::new(x, batch, inputs), Matrix::new(weight, inputs, outputs));
        let mut out = vec![0.0; batch * outputs];
        match self.activation {
            Activation::None => biased(&sums, bias, &mut out),
            Activation::Relu => biased_relu(&sums, bias, &mut out),
        }
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
        let sums_gradient = read(grad, |grad| match self.activation {
            Activation::None => Ok(grad.to_vec()),
            Activation::Relu => read(out, |out| {
                let mut gradient = vec![0.0; grad.len()];
                gated(grad, out, &mut gradient);
                Ok(gradient)
            }),
        })?;
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
    fn biased(sums: &[f32], bias: &[f32], out: &mut [f32]) {
        for (sums, out) in sums.chunks_exact(bias.len()).zip(out.chunks_exact_mut(bias.len())) {
            for ((sum, bias), out) in sums.iter().zip(bias).zip(out) {
                *out = sum + bias;
            }
        }
    }
}

multiversion! {
    fn biased_relu(sums: &[f32], bias: &[f32], out: &mut [f32]) {
        for (sums, out) in sums.chunks_exact(bias.len()).zip(out.chunks_exact_mut(bias.len())) {
            for ((sum, bias), out) in sums.iter().zip(bias).zip(out) {
                let sum = sum + bias;
                // A NaN stays one: it must reach the loss to be noticed.
                *out = if sum < 0.0 { 0.0 } else { sum };
            }
        }
    }
}

multiversion! {
    /// The gradient where the ReLU let something through, else 0. Not in place: of a choice between a value and what is
    /// there already the compiler makes a masked store, which takes dozens of cycles on some processors.
    pub(crate) fn gated(gradient: &[f32], out: &[f32], gated: &mut [f32]) {
        for ((gated, gradient), out) in gated.iter_mut().zip(gradient).zip(out) {
            *gated = if *out > 0.0 { *gradient } else { 0.0 };
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
