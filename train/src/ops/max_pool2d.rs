//! 2 x 2 max-pooling over channels-last maps that remembers which pixel won.
//!
//! candle's own gradient is wrong (it divides by the window's area and misaligns maps whose side is not a multiple of
//! the window). Here a window's whole gradient goes to its winner: the first of equal values, as in Keras.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor};

use super::conv2d::POOL;
use super::{ensure, floats, read};
use crate::simd::multiversion;

/// Pools `[batch, height, width, channels]` to `[batch, height / 2, width / 2, channels]`; an odd last row or column
/// is left out, and gets no gradient.
#[derive(Default)]
pub struct MaxPool2d {
    /// Which of a window's four pixels won, for each output. Written by forward.
    winners: Mutex<Vec<u8>>,
}

impl MaxPool2d {
    /// Applies the op; a new one for each call.
    pub fn of(maps: &Tensor) -> Result<Tensor> {
        maps.apply_op1(MaxPool2d::default())
    }
}

impl CustomOp1 for MaxPool2d {
    fn name(&self) -> &'static str {
        "max-pool2d"
    }

    fn cpu_fwd(&self, maps: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, height, width, channels) = layout.shape().dims4()?;
        let (rows, columns) = (height / POOL, width / POOL);
        ensure(rows * columns * channels > 0, || format!("nothing to pool in {:?}", layout.dims()))?;
        let mut out = vec![0.0; batch * rows * columns * channels];
        let mut winners = vec![0; out.len()];
        let size = rows * columns * channels;
        for ((map, out), winners) in floats(maps, layout)?
            .chunks_exact(height * width * channels)
            .zip(out.chunks_mut(size))
            .zip(winners.chunks_mut(size))
        {
            pool(map, width, channels, columns, out, winners);
        }
        *self.winners.lock().unwrap_or_else(PoisonError::into_inner) = winners;
        Ok((CpuStorage::F32(out), Shape::from((batch, rows, columns, channels))))
    }

    fn bwd(&self, maps: &Tensor, out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (_, height, width, channels) = maps.dims4()?;
        let (_, rows, columns, _) = out.dims4()?;
        let winners = self.winners.lock().unwrap_or_else(PoisonError::into_inner);
        let mut values = vec![0.0; maps.elem_count()];
        let size = rows * columns * channels;
        read(grad, |grad| {
            for ((map, grad), winners) in
                values.chunks_mut(height * width * channels).zip(grad.chunks(size)).zip(winners.chunks(size))
            {
                unpool(grad, winners, width, channels, columns, map);
            }
            Ok(())
        })?;
        Tensor::from_vec(values, maps.dims(), &Device::Cpu).map(Some)
    }
}

multiversion! {
    /// Pools one map `[.., width, channels]` into `out` `[rows, columns, channels]`, noting winners 0 to 3.
    pub(crate) fn pool(
        map: &[f32], width: usize, channels: usize, columns: usize, out: &mut [f32], winners: &mut [u8],
    ) {
        let line = width * channels;
        for (at, (out, winners)) in out.chunks_exact_mut(channels).zip(winners.chunks_exact_mut(channels)).enumerate() {
            let corner = at / columns * POOL * line + at % columns * POOL * channels;
            let window = &map[corner..corner + line + 2 * channels];
            let (a, rest) = window.split_at(channels);
            let b = &rest[..channels];
            let (c, d) = window[line..].split_at(channels);
            for channel in 0..channels {
                // Later pixels win only if larger; a NaN never wins but from the first place.
                let (mut best, mut winner) = (a[channel], 0);
                if b[channel] > best { (best, winner) = (b[channel], 1); }
                if c[channel] > best { (best, winner) = (c[channel], 2); }
                if d[channel] > best { (best, winner) = (d[channel], 3); }
                out[channel] = best;
                winners[channel] = winner;
            }
        }
    }
}

multiversion! {
    /// Hands each output's gradient to its winner; writes every pixel of the windows and no other.
    pub(crate) fn unpool(
        gradient: &[f32], winners: &[u8], width: usize, channels: usize, columns: usize, map: &mut [f32],
    ) {
        let line = width * channels;
        for (at, (gradient, winners)) in gradient.chunks_exact(channels).zip(winners.chunks_exact(channels)).enumerate() {
            let corner = at / columns * POOL * line + at % columns * POOL * channels;
            let window = &mut map[corner..corner + line + 2 * channels];
            let (upper, lower) = window.split_at_mut(line);
            let (a, rest) = upper.split_at_mut(channels);
            let b = &mut rest[..channels];
            let (c, d) = lower.split_at_mut(channels);
            for channel in 0..channels {
                let (value, winner) = (gradient[channel], winners[channel]);
                a[channel] = if winner == 0 { value } else { 0.0 };
                b[channel] = if winner == 1 { value } else { 0.0 };
                c[channel] = if winner == 2 { value } else { 0.0 };
                d[channel] = if winner == 3 { value } else { 0.0 };
            }
        }
    }
}
