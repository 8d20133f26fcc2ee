//! A convolution block: 3 x 3 convolution, bias, ReLU and 2 x 2 max-pooling in one op, image by image.
//!
//! Maps are channels-last. Each image is unfolded into patches (im2col) in scratch that stays in the cache, multiplied
//! by the kernel, pooled at once, and only the pooled map is kept: the backward pass unfolds again, which costs less
//! than fetching the unfolded image from memory. Convolution outputs that pooling would leave out are never computed.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp3, Device, Layout, Result, Shape, Tensor};
use candle_nn::Module;

use super::linear::{column_sums, gated};
use super::max_pool2d::{pool, unpool};
use super::{ensure, floats, read};
use crate::lane::{Buffer, Lane, Slot};
use crate::matmul::{Matrix, Packed, multiply, multiply_add};
use crate::parameters::{Initialiser, VarBuilder};
use crate::simd::multiversion;

/// Side of the kernel. Convolutions have no padding, as in the reference model.
pub const KERNEL: usize = 3;
/// Side and stride of the pooling window.
pub const POOL: usize = 2;

/// `max_pool(relu(conv(x, weight) + bias))` for x `[batch, height, width, inputs]`; gives
/// `[batch, (height - 2) / 2, (width - 2) / 2, outputs]`.
///
/// Weight `[3, 3, inputs, outputs]`, Glorot-uniform; bias `[outputs]`, zeros.
pub struct ConvBlock {
    weight: Tensor,
    bias: Tensor,
    lane: Arc<Lane>,
    slots: [Slot; 2],
}

impl ConvBlock {
    pub fn new(inputs: usize, outputs: usize, vb: &VarBuilder<'_>, lane: &Arc<Lane>) -> Result<Self> {
        let area = KERNEL * KERNEL;
        let glorot = Initialiser::GlorotUniform { fan_in: area * inputs, fan_out: area * outputs };
        let slot = |name: &str| lane.slot(&format!("{}.{name}", vb.prefix()));
        Ok(ConvBlock {
            weight: vb.get_with_hints((KERNEL, KERNEL, inputs, outputs), "weight", glorot)?,
            bias: vb.get_with_hints(outputs, "bias", Initialiser::Zeros)?,
            lane: Arc::clone(lane),
            slots: [slot("weight"), slot("bias")],
        })
    }

    /// Of a weight `[3, 3, inputs, outputs]` and a bias `[outputs]`, to be trained under candle's autograd.
    pub fn from_tensors(weight: Tensor, bias: Tensor) -> Result<Self> {
        let (height, width, _, outputs) = weight.dims4()?;
        ensure((height, width) == (KERNEL, KERNEL) && bias.dims1()? == outputs, || {
            format!("a 3 x 3 convolution of {:?} and {:?}", weight.dims(), bias.dims())
        })?;
        Ok(ConvBlock { weight, bias, lane: Lane::plain(0), slots: Default::default() })
    }
}

impl Module for ConvBlock {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let op = ConvBlockOp {
            lane: Arc::clone(&self.lane),
            slots: self.slots.clone(),
            gradient_of_x: self.lane.wants_gradient(xs),
            winners: Mutex::default(),
        };
        self.lane.apply3([xs, &self.weight, &self.bias], op)
    }
}

/// The op behind [`ConvBlock`]: arguments x, weight, bias.
struct ConvBlockOp {
    lane: Arc<Lane>,
    slots: [Slot; 2],
    gradient_of_x: bool,
    /// Which pixel of each pooling window won, `[batch, rows, columns, outputs]`. Written by forward.
    winners: Mutex<Vec<u8>>,
}

/// The sizes of one block, all checked against each other.
#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    width: usize,
    inputs: usize,
    outputs: usize,
    /// Of the pooled map.
    rows: usize,
    columns: usize,
    /// Numbers of one input image.
    image: usize,
}

impl Sizes {
    fn new(x: &Shape, weight: &Shape) -> Result<Self> {
        let (batch, height, width, channels) = x.dims4()?;
        let (_, _, inputs, outputs) = weight.dims4()?;
        let pooled = |side: usize| side.saturating_sub(KERNEL - 1) / POOL;
        let (rows, columns) = (pooled(height), pooled(width));
        ensure(channels == inputs && rows * columns * inputs * outputs > 0, || {
            format!("a convolution {:?} cannot take {:?}", weight.dims(), x.dims())
        })?;
        Ok(Sizes { batch, width, inputs, outputs, rows, columns, image: height * width * channels })
    }

    /// Convolution outputs that are pooled.
    fn pixels(&self) -> usize {
        self.rows * self.columns * POOL * POOL
    }

    /// Numbers of a patch.
    fn patch(&self) -> usize {
        KERNEL * KERNEL * self.inputs
    }

    /// Numbers of a pooled map.
    fn pooled(&self) -> usize {
        self.rows * self.columns * self.outputs
    }

    fn unfold(&self, image: &[f32], patches: &mut [f32]) {
        if self.inputs == 1 {
            unfold_one_channel(image, self.width, POOL * self.columns, patches);
        } else {
            unfold(image, self.width, self.inputs, POOL * self.columns, patches);
        }
    }
}

impl CustomOp3 for ConvBlockOp {
    fn name(&self) -> &'static str {
        "conv2d-relu-max-pool2d"
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
        let sizes = Sizes::new(x_layout.shape(), weight_layout.shape())?;
        let (x, weight, bias) = (floats(x, x_layout)?, floats(weight, weight_layout)?, floats(bias, bias_layout)?);
        let kernel = Matrix::new(weight, sizes.patch(), sizes.outputs);
        let mut patches = self.lane.scratch(sizes.pixels() * sizes.patch());
        let mut sums = self.lane.scratch(sizes.pixels() * sizes.outputs);
        let mut out = vec![0.0; sizes.batch * sizes.pooled()];
        let mut winners = vec![0; out.len()];
        let maps = out.chunks_exact_mut(sizes.pooled()).zip(winners.chunks_exact_mut(sizes.pooled()));
        for (image, (map, winners)) in x.chunks_exact(sizes.image).zip(maps) {
            sizes.unfold(image, &mut patches);
            multiply(&mut sums, Matrix::new(&patches, sizes.pixels(), sizes.patch()), kernel);
            pool(&sums, POOL * sizes.columns, sizes.outputs, sizes.columns, map, winners);
            // After pooling, as neither changes which pixel wins: a quarter of the work.
            add_bias_relu(map, bias);
        }
        *self.winners.lock().unwrap_or_else(PoisonError::into_inner) = winners;
        let shape = (sizes.batch, sizes.rows, sizes.columns, sizes.outputs);
        Ok((CpuStorage::F32(out), Shape::from(shape)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let sizes = Sizes::new(x.shape(), weight.shape())?;
        let mut pooled_gradient = self.lane.scratch(out.elem_count());
        read(grad, |grad| {
            read(out, |out| {
                gated(grad, out, 1.0, &mut pooled_gradient);
                Ok(())
            })
        })?;
        let of_bias = self.slots[1].write(bias.dims(), |out| column_sums(&pooled_gradient, out))?;
        let mut of_x = if self.gradient_of_x { vec![0.0; x.elem_count()] } else { Vec::new() };
        let transposed = read(weight, |weight| {
            let kernel = Matrix::new(weight, sizes.patch(), sizes.outputs);
            Ok(Packed::of(kernel.t(), |count| self.lane.scratch(count)))
        })?;
        let of_weight = read(x, |x| {
            self.slots[0].write(weight.dims(), |of_weight| {
                self.images_backward(&sizes, x, &pooled_gradient, &transposed, of_weight, &mut of_x);
            })
        })?;
        let of_x = self.gradient_of_x.then(|| Tensor::from_vec(of_x, x.dims(), &Device::Cpu)).transpose()?;
        Ok((of_x, of_weight, of_bias))
    }
}

impl ConvBlockOp {
    /// Sums the kernel's gradient over images in order, and computes each image's own unless `of_x` is empty.
    fn images_backward(
        &self,
        sizes: &Sizes,
        x: &[f32],
        pooled_gradient: &[f32],
        transposed: &Packed<Buffer>,
        of_weight: &mut [f32],
        of_x: &mut [f32],
    ) {
        let winners = self.winners.lock().unwrap_or_else(PoisonError::into_inner);
        let mut patches = self.lane.scratch(sizes.pixels() * sizes.patch());
        let mut gradient = self.lane.scratch(sizes.pixels() * sizes.outputs);
        of_weight.fill(0.0);
        let maps = pooled_gradient.chunks_exact(sizes.pooled()).zip(winners.chunks_exact(sizes.pooled()));
        for (at, (image, (map, winners))) in x.chunks_exact(sizes.image).zip(maps).enumerate() {
            unpool(map, winners, POOL * sizes.columns, sizes.outputs, sizes.columns, &mut gradient);
            let upstream = Matrix::new(&gradient, sizes.pixels(), sizes.outputs);
            sizes.unfold(image, &mut patches);
            multiply_add(of_weight, Matrix::new(&patches, sizes.pixels(), sizes.patch()).t(), upstream);
            if let Some(of_image) = of_x.get_mut(at * sizes.image..(at + 1) * sizes.image) {
                transposed.multiply(&mut patches, upstream);
                fold(&patches, sizes.width, sizes.inputs, POOL * sizes.columns, of_image);
            }
        }
    }
}

multiversion! {
    /// Patches `[pixels, 3, 3, channels]` of an image `[.., width, channels]`, `columns` of them to a row.
    fn unfold(image: &[f32], width: usize, channels: usize, columns: usize, patches: &mut [f32]) {
        let (run, line) = (KERNEL * channels, width * channels);
        for (at, patch) in patches.chunks_exact_mut(KERNEL * run).enumerate() {
            let corner = at / columns * line + at % columns * channels;
            for (row, part) in patch.chunks_exact_mut(run).enumerate() {
                part.copy_from_slice(&image[corner + row * line..][..run]);
            }
        }
    }
}

/// As [`unfold`], for the image itself, whose runs are three numbers long.
fn unfold_one_channel(image: &[f32], width: usize, columns: usize, patches: &mut [f32]) {
    for (row, patches) in patches.chunks_exact_mut(KERNEL * KERNEL * columns).enumerate() {
        let lines = &image[row * width..(row + KERNEL) * width];
        let (first, rest) = lines.split_at(width);
        let (second, third) = rest.split_at(width);
        let windows = first.windows(KERNEL).zip(second.windows(KERNEL)).zip(third.windows(KERNEL));
        for (patch, ((first, second), third)) in patches.chunks_exact_mut(KERNEL * KERNEL).zip(windows) {
            patch[..3].copy_from_slice(&first[..3]);
            patch[3..6].copy_from_slice(&second[..3]);
            patch[6..9].copy_from_slice(&third[..3]);
        }
    }
}

multiversion! {
    /// The reverse of [`unfold`]: adds every patch to the image it came from.
    fn fold(patches: &[f32], width: usize, channels: usize, columns: usize, image: &mut [f32]) {
        let (run, line) = (KERNEL * channels, width * channels);
        for (at, patch) in patches.chunks_exact(KERNEL * run).enumerate() {
            let corner = at / columns * line + at % columns * channels;
            for (row, part) in patch.chunks_exact(run).enumerate() {
                let pixels = &mut image[corner + row * line..][..run];
                for (pixel, value) in pixels.iter_mut().zip(part) {
                    *pixel += value;
                }
            }
        }
    }
}

multiversion! {
    fn add_bias_relu(map: &mut [f32], bias: &[f32]) {
        for pixel in map.chunks_exact_mut(bias.len()) {
            for (value, bias) in pixel.iter_mut().zip(bias) {
                let sum = *value + bias;
                // A NaN stays one: it must reach the loss to be noticed.
                *value = if sum < 0.0 { 0.0 } else { sum };
            }
        }
    }
}
