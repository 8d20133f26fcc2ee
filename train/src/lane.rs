//! What one shard owns while it runs: its gradients, its scratch memory, and where in the training it is.
//!
//! Parameter gradients do not travel through candle's `GradStore` (which would zero, add and allocate for each): an op
//! writes them into its [`Slot`] and tells candle there is nothing to add. With [`Lane::plain`] there are no slots,
//! and ops return their gradients the ordinary way.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{Device, Result, Tensor};

/// One shard's place. A model is built for one lane and runs on one thread at a time.
pub struct Lane {
    seed: u64,
    step: AtomicU32,
    first_row: AtomicU32,
    slots: Option<Mutex<BTreeMap<String, Slot>>>,
    workspace: Workspace,
}

/// Where a parameter's gradient goes: into the lane, or back to candle.
#[derive(Clone, Default)]
pub struct Slot(Option<Arc<Mutex<Vec<f32>>>>);

impl Lane {
    /// A lane that collects its parameters' gradients itself.
    pub fn collecting(seed: u64) -> Arc<Self> {
        Arc::new(Lane::with_slots(seed, Some(Mutex::default())))
    }

    /// A lane whose ops return gradients to candle, as any candle op.
    pub fn plain(seed: u64) -> Arc<Self> {
        Arc::new(Lane::with_slots(seed, None))
    }

    fn with_slots(seed: u64, slots: Option<Mutex<BTreeMap<String, Slot>>>) -> Self {
        Lane { seed, step: AtomicU32::new(0), first_row: AtomicU32::new(0), slots, workspace: Workspace::default() }
    }

    /// Moves to a step of the training and a first row within its batch: what dropout masks are keyed by.
    pub fn move_to(&self, step: u32, first_row: u32) {
        self.step.store(step, Relaxed);
        self.first_row.store(first_row, Relaxed);
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The global step that is being computed.
    pub fn step(&self) -> u32 {
        self.step.load(Relaxed)
    }

    /// Row 0's place within the whole batch.
    pub fn first_row(&self) -> u32 {
        self.first_row.load(Relaxed)
    }

    /// The place of the gradient of the parameter of this full name, with `count` numbers.
    pub fn slot(&self, name: &str, count: usize) -> Slot {
        let Some(slots) = &self.slots else { return Slot(None) };
        let mut slots = slots.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Slot(Some(Arc::new(Mutex::new(vec![0.0; count]))));
        slots.entry(name.to_string()).or_insert_with(fresh).clone()
    }

    /// Every slot, in the order of names.
    pub fn slots(&self) -> Vec<Slot> {
        let Some(slots) = &self.slots else { return Vec::new() };
        slots.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Scratch memory of `len` numbers with any contents.
    pub(crate) fn scratch(&self, len: usize) -> Buffer {
        self.workspace.take(len)
    }
}

impl Slot {
    /// Lets `fill` write a gradient of shape `dims` (it finds any contents and must write every element).
    pub(crate) fn write(&self, dims: &[usize], fill: impl FnOnce(&mut [f32])) -> Result<Option<Tensor>> {
        match &self.0 {
            Some(place) => {
                fill(&mut place.lock().unwrap_or_else(PoisonError::into_inner));
                Ok(None)
            }
            None => {
                let mut values = vec![0.0; dims.iter().product()];
                fill(&mut values);
                Tensor::from_vec(values, dims, &Device::Cpu).map(Some)
            }
        }
    }

    /// The gradient that was written last; `None` for a slot of a plain lane.
    pub(crate) fn lock(&self) -> Option<MutexGuard<'_, Vec<f32>>> {
        self.0.as_ref().map(|place| place.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Buffers that come back when they are dropped, so that steps after the first allocate no scratch memory.
#[derive(Clone, Default)]
struct Workspace(Arc<Mutex<Vec<Vec<f32>>>>);

impl Workspace {
    /// The smallest free buffer that is large enough, or a new one.
    fn take(&self, len: usize) -> Buffer {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = free.iter().enumerate().filter(|(_, buffer)| buffer.len() >= len);
        let best = fitting.min_by_key(|(_, buffer)| buffer.len()).map(|(at, _)| at);
        let values = best.map_or_else(|| vec![0.0; len], |at| free.swap_remove(at));
        Buffer { values, len, home: self.clone() }
    }
}

/// Scratch memory on loan.
pub(crate) struct Buffer {
    values: Vec<f32>,
    len: usize,
    home: Workspace,
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.values);
        self.home.0.lock().unwrap_or_else(PoisonError::into_inner).push(values);
    }
}
