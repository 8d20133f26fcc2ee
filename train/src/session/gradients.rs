//! Lends the shards' gradients to the optimizer.

use std::ops::Deref;

use candle_core::{Error, Layout, Result, Storage};

use crate::lane::{Gradient, Slot};
use crate::matmul::is_sparse;
use crate::ops::floats;
use crate::optimizer::{Optimizer, Part};

/// One update from what is in every shard's slots.
pub(super) fn update(optimizer: &mut Optimizer, shards: &[&[Slot]]) -> Result<()> {
    let locked: Vec<Vec<_>> = shards.iter().map(|slots| slots.iter().filter_map(Slot::lock).collect()).collect();
    let lent: Vec<Vec<Lent<'_>>> =
        locked.iter().map(|shard| shard.iter().map(|gradient| Lent::of(gradient)).collect()).collect();
    let parts: Result<Vec<Vec<Part<'_>>>> = lent.iter().map(|shard| shard.iter().map(Lent::part).collect()).collect();
    optimizer.update(&parts?)
}

/// A gradient whose tensors are held.
enum Lent<'a> {
    Whole(&'a [f32]),
    Product { left: Box<dyn Deref<Target = Storage> + 'a>, layout: &'a Layout, right: &'a [f32], outputs: usize },
}

impl<'a> Lent<'a> {
    fn of(gradient: &'a Gradient) -> Self {
        match gradient {
            Gradient::Whole(values) => Lent::Whole(values),
            Gradient::Product { left, right, outputs } => {
                let (storage, layout) = left.storage_and_layout();
                Lent::Product { left: Box::new(storage), layout, right, outputs: *outputs }
            }
        }
    }

    fn part(&self) -> Result<Part<'_>> {
        match self {
            Lent::Whole(values) => Ok(Part::Whole(values)),
            Lent::Product { left, layout, right, outputs } => match &***left {
                Storage::Cpu(storage) => {
                    let left = floats(storage, layout)?;
                    Ok(Part::Product { left, right, outputs: *outputs, is_sparse: is_sparse(left) })
                }
                _ => Err(Error::Msg("a kernel wants a tensor in main memory".to_string())),
            },
        }
    }
}
