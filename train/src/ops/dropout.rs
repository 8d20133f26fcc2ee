//! Dropout (Srivastava et al. 2014), inverted: kept units are scaled up in training, nothing happens otherwise.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor};
use candle_nn::ModuleT;

use super::{ensure, floats, read};
use crate::lane::Lane;
use crate::rng::{Purpose, Stream};

/// Silences units of `[batch, units]` by a mask keyed by (seed, layer, step, row of the whole batch, unit).
///
/// The rate is kept to 1/65536, and the scale is that of the rounded rate.
pub struct Dropout {
    /// Units dropped of 65,536.
    dropped: u32,
    layer: u32,
    lane: Arc<Lane>,
}

impl Dropout {
    /// `rate` is between 0 and 0.95; `layer` numbers the dropout layers of a model.
    pub fn new(rate: f64, layer: u32, lane: &Arc<Lane>) -> Self {
        Dropout { dropped: (rate * 65_536.0).round().clamp(0.0, 65_535.0) as u32, layer, lane: Arc::clone(lane) }
    }

    /// Whether it does anything.
    pub(super) fn drops(&self) -> bool {
        self.dropped > 0
    }

    /// The mask of the lane's place.
    pub(super) fn mask(&self) -> Mask {
        Mask {
            stream: Stream::new(self.lane.seed(), Purpose::Dropout, self.layer),
            step: self.lane.step(),
            first_row: self.lane.first_row(),
            dropped: self.dropped,
            kept_value: 65_536.0 / (65_536 - self.dropped) as f32,
        }
    }
}

/// Which units of a shard are silenced in a step.
#[derive(Clone, Copy)]
pub(super) struct Mask {
    stream: Stream,
    step: u32,
    first_row: u32,
    dropped: u32,
    /// The factor that keeps the mean.
    pub kept_value: f32,
}

impl Mask {
    /// Of a row of the shard: for each unit 0, or the factor that keeps the mean.
    pub fn write_row(&self, row: usize, factors: &mut [f32]) {
        self.stream.keep_mask(self.step, self.first_row + row as u32, self.dropped, self.kept_value, factors);
    }

    fn rows(&self, rows: usize, units: usize) -> Vec<f32> {
        let mut factors = vec![0.0; rows * units];
        for (row, factors) in factors.chunks_exact_mut(units.max(1)).enumerate() {
            self.write_row(row, factors);
        }
        factors
    }
}

impl ModuleT for Dropout {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        if !train || !self.drops() {
            return Ok(xs.clone());
        }
        let rows = xs.dim(0)?;
        let units = xs.elem_count() / rows.max(1);
        self.lane.apply1(xs, Masked { mask: self.mask().rows(rows, units) })
    }
}

/// Elementwise product with a constant.
struct Masked {
    mask: Vec<f32>,
}

impl Masked {
    fn apply(&self, values: &[f32]) -> Result<Vec<f32>> {
        ensure(values.len() == self.mask.len(), || format!("{} values, mask {}", values.len(), self.mask.len()))?;
        Ok(values.iter().zip(&self.mask).map(|(value, mask)| value * mask).collect())
    }
}

impl CustomOp1 for Masked {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(self.apply(floats(x, layout)?)?), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let values = read(grad, |grad| self.apply(grad))?;
        Tensor::from_vec(values, x.dims(), &Device::Cpu).map(Some)
    }
}
