//! What one shard owns while it runs: its gradients, its tape, its scratch memory, and where in the training it is.
//!
//! The networks are chains, so a collecting lane walks their ops back itself: one gradient goes from op to op, and each
//! op writes its parameters' gradients into its [`Slot`]s. candle's own walk would zero and add a tensor for every
//! argument, and does so for tensors above 65,536 numbers on a process-wide pool of spinning, pinned threads that no
//! priority of ours reaches. With [`Lane::plain`] the same ops run under candle's autograd, as any candle op; so do
//! layers made from tensors, each with a plain lane of its own.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{CustomOp1, CustomOp3, Device, Result, Tensor};

use crate::matmul::{Matrix, multiply};
use crate::ops::read;

/// One shard's place. A model is built for one lane and runs on one thread at a time.
pub struct Lane {
    seed: u64,
    step: AtomicU32,
    first_row: AtomicU32,
    slots: Option<Mutex<BTreeMap<String, Slot>>>,
    recording: AtomicBool,
    tape: Mutex<Vec<Link>>,
    workspace: Workspace,
}

/// One op's way back: the gradient of its output to that of its input, where anyone wants it.
type Link = Box<dyn FnOnce(&Tensor) -> Result<Option<Tensor>> + Send>;

/// Where a parameter's gradient goes: into the lane, or back to candle.
#[derive(Clone, Default)]
pub struct Slot(Option<Arc<Mutex<Gradient>>>);

/// A parameter's gradient over one shard.
pub enum Gradient {
    Whole(Vec<f32>),
    /// `left^T . right`, of `[rows, inputs]` and `[rows, outputs]`. Whoever sums the shards multiplies: that saves each
    /// shard a pass over memory as large as the parameter.
    Product {
        left: Tensor,
        right: Vec<f32>,
        outputs: usize,
    },
}

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
        Lane {
            seed,
            step: AtomicU32::new(0),
            first_row: AtomicU32::new(0),
            slots,
            recording: AtomicBool::new(false),
            tape: Mutex::default(),
            workspace: Workspace::default(),
        }
    }

    /// Moves to a step of the training and a first row within its batch (what dropout masks are keyed by), and starts
    /// to record the way back.
    pub fn begin(&self, step: u32, first_row: u32) {
        self.step.store(step, Relaxed);
        self.first_row.store(first_row, Relaxed);
        self.recording.store(true, Relaxed);
        self.tape().clear();
    }

    /// Walks back from the gradient of the last recorded op's output, and stops recording. A plain lane has nothing to walk.
    pub fn backward(&self, gradient: Tensor) -> Result<()> {
        self.recording.store(false, Relaxed);
        let links = std::mem::take(&mut *self.tape());
        let mut gradient = Some(gradient);
        for link in links.into_iter().rev() {
            let Some(upstream) = gradient else { break };
            gradient = link(&upstream)?;
        }
        Ok(())
    }

    /// Whether an op on `xs` must give it a gradient: not where `xs` is the image.
    pub(crate) fn wants_gradient(&self, xs: &Tensor) -> bool {
        if self.slots.is_some() { !self.tape().is_empty() } else { xs.track_op() }
    }

    /// Applies an op of one argument, recorded on the lane's tape or in candle's graph.
    pub(crate) fn apply1(&self, xs: &Tensor, op: impl CustomOp1 + Send + Sync + 'static) -> Result<Tensor> {
        if self.slots.is_none() {
            return xs.apply_op1(op);
        }
        let out = xs.apply_op1_no_bwd(&op)?;
        let (xs, result) = (xs.clone(), out.clone());
        self.record(move |grad| op.bwd(&xs, &result, grad));
        Ok(out)
    }

    /// As [`Lane::apply1`] for three arguments, of which the first is the chain and the others are parameters.
    pub(crate) fn apply3(&self, arguments: [&Tensor; 3], op: impl CustomOp3 + Send + Sync + 'static) -> Result<Tensor> {
        let [a, b, c] = arguments;
        if self.slots.is_none() {
            return a.apply_op3(b, c, op);
        }
        let out = a.apply_op3_no_bwd(b, c, &op)?;
        let ([a, b, c], result) = (arguments.map(Tensor::clone), out.clone());
        self.record(move |grad| Ok(op.bwd(&a, &b, &c, &result, grad)?.0));
        Ok(out)
    }

    fn record(&self, link: impl FnOnce(&Tensor) -> Result<Option<Tensor>> + Send + 'static) {
        if self.recording.load(Relaxed) {
            self.tape().push(Box::new(link));
        }
    }

    fn tape(&self) -> MutexGuard<'_, Vec<Link>> {
        self.tape.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// The place of the gradient of the parameter of this full name.
    pub fn slot(&self, name: &str) -> Slot {
        let Some(slots) = &self.slots else { return Slot(None) };
        let mut slots = slots.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Slot(Some(Arc::new(Mutex::new(Gradient::Whole(Vec::new())))));
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

impl Gradient {
    /// The gradient's numbers.
    pub fn to_vec(&self) -> Result<Vec<f32>> {
        match self {
            Gradient::Whole(values) => Ok(values.clone()),
            Gradient::Product { left, right, outputs } => read(left, |left| {
                let rows = right.len() / outputs;
                let inputs = left.len() / rows.max(1);
                let mut values = vec![0.0; inputs * outputs];
                multiply(&mut values, Matrix::new(left, rows, inputs).t(), Matrix::new(right, rows, *outputs));
                Ok(values)
            }),
        }
    }
}

impl Slot {
    /// Lets `fill` write a gradient of shape `dims` (it finds any contents and must write every element).
    pub(crate) fn write(&self, dims: &[usize], fill: impl FnOnce(&mut [f32])) -> Result<Option<Tensor>> {
        let count = dims.iter().product();
        let Some(mut place) = self.lock() else {
            let mut values = vec![0.0; count];
            fill(&mut values);
            return Tensor::from_vec(values, dims, &Device::Cpu).map(Some);
        };
        match &mut *place {
            Gradient::Whole(values) if values.len() == count => fill(values),
            other => {
                let mut values = vec![0.0; count];
                fill(&mut values);
                *other = Gradient::Whole(values);
            }
        }
        Ok(None)
    }

    /// Takes the gradient `left^T . right` of `[inputs, outputs]` as it is.
    pub(crate) fn write_product(
        &self,
        [inputs, outputs]: [usize; 2],
        left: &Tensor,
        right: Vec<f32>,
    ) -> Result<Option<Tensor>> {
        let gradient = Gradient::Product { left: left.clone(), right, outputs };
        match self.lock() {
            Some(mut place) => {
                *place = gradient;
                Ok(None)
            }
            None => Tensor::from_vec(gradient.to_vec()?, (inputs, outputs), &Device::Cpu).map(Some),
        }
    }

    /// The gradient that was written last; `None` for a slot of a plain lane.
    pub(crate) fn lock(&self) -> Option<MutexGuard<'_, Gradient>> {
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
