//! The kernels of training, each a candle custom op with its own gradient, and the layers that wrap them.
//!
//! All are single-threaded and sum in a fixed order. An op computes the gradient of its input only where candle tracks
//! one, so none is computed for the image.

pub mod conv2d;
pub mod cross_entropy;
pub mod dropout;
pub mod linear;
pub mod lstm;
pub mod max_pool2d;

use candle_core::{CpuStorage, Error, Layout, Result, Storage, Tensor};

pub use conv2d::ConvBlock;
pub use cross_entropy::{SoftmaxCrossEntropy, tally};
pub use dropout::Dropout;
pub use kubeml_spec::Activation;
pub use linear::{Hidden, Linear};
pub use lstm::Lstm;
pub use max_pool2d::MaxPool2d;

/// The numbers of a gap-free f32 tensor.
pub(crate) fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((from, to))) => Ok(&values[from..to]),
        _ => Err(Error::Msg("a kernel wants a contiguous f32 tensor".to_string())),
    }
}

/// As [`floats`], to write.
pub(crate) fn floats_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((from, to))) => Ok(&mut values[from..to]),
        _ => Err(Error::Msg("a kernel wants a contiguous f32 tensor".to_string())),
    }
}

/// Lends the numbers of a gap-free f32 tensor in main memory.
pub(crate) fn read<R>(tensor: &Tensor, with: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => with(floats(storage, layout)?),
        _ => Err(Error::Msg("a kernel wants a tensor in main memory".to_string())),
    }
}

/// Refuses what does not hold, so that no kernel is called with sizes that do not fit.
pub(crate) fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Msg(what())) }
}
