//! A model's parameters: candle variables made from the seed on first request, always walked in the order of names.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::{CpuStorage, Error, Result};
use candle_core::{DType, Device, InplaceOp1, Layout, Shape, Tensor, Var};
use candle_nn::var_builder::{Backend, VarBuilderArgs};
use safetensors::tensor::{Dtype, TensorView};
use sha2::{Digest, Sha256};

use crate::hex;
pub use crate::initialisers::Initialiser;
use crate::ops::read;

/// Hands a model its parameters by name: a `candle_nn` variable builder whose hints are our initialisers.
pub type VarBuilder<'a> = VarBuilderArgs<'a, &'a Parameters>;

/// Named variables. Built by the first model that asks; later models of the same spec get the same variables.
pub struct Parameters {
    seed: u64,
    variables: Mutex<BTreeMap<String, Var>>,
}

/// Name and shape of one parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterShape {
    pub name: String,
    pub dims: Vec<usize>,
}

impl ParameterShape {
    /// Numbers in it.
    pub fn count(&self) -> usize {
        self.dims.iter().product()
    }
}

impl Parameters {
    pub fn new(seed: u64) -> Self {
        Parameters { seed, variables: Mutex::new(BTreeMap::new()) }
    }

    /// What a model is built with.
    pub fn builder(&self) -> VarBuilder<'_> {
        VarBuilderArgs::new_with_args(self, DType::F32, &Device::Cpu)
    }

    /// Every variable, sorted by name.
    pub fn variables(&self) -> Vec<Var> {
        self.lock().values().cloned().collect()
    }

    /// Names and shapes, sorted by name.
    pub fn shapes(&self) -> Vec<ParameterShape> {
        let shape = |(name, var): (&String, &Var)| ParameterShape { name: name.clone(), dims: var.dims().to_vec() };
        self.lock().iter().map(shape).collect()
    }

    /// Numbers in all parameters.
    pub fn count(&self) -> usize {
        self.lock().values().map(|var| var.elem_count()).sum()
    }

    /// A copy of all values, one after the other in the order of names.
    pub fn copy(&self) -> Result<Vec<f32>> {
        let mut all = Vec::with_capacity(self.count());
        for var in self.lock().values() {
            read(var.as_tensor(), |values| {
                all.extend_from_slice(values);
                Ok(())
            })?;
        }
        Ok(all)
    }

    /// Sets all values from a copy made by [`Parameters::copy`].
    pub fn set(&self, all: &[f32]) -> Result<()> {
        if all.len() != self.count() {
            return Err(Error::Msg(format!("{} values for {} parameters", all.len(), self.count())));
        }
        let mut rest = all;
        for var in self.lock().values() {
            let (values, after) = rest.split_at(var.elem_count());
            var.inplace_op1(&Overwrite(values))?;
            rest = after;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Var>> {
        self.variables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for &Parameters {
    type Hints = Initialiser;

    fn get(&self, shape: Shape, name: &str, start: Initialiser, _: DType, device: &Device) -> Result<Tensor> {
        let mut variables = self.lock();
        if let Some(var) = variables.get(name) {
            if var.shape() != &shape {
                return Err(Error::Msg(format!("{name} is {:?}, not {shape:?}", var.shape())));
            }
            return Ok(var.as_tensor().clone());
        }
        let var = Var::from_vec(start.values(self.seed, name, shape.dims()), shape, device)?;
        let tensor = var.as_tensor().clone();
        variables.insert(name.to_string(), var);
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        let found = self.lock().get(name).map(|var| var.as_tensor().clone());
        found.ok_or_else(|| Error::Msg(format!("there is no parameter {name}")))
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.lock().contains_key(name)
    }
}

struct Overwrite<'a>(&'a [f32]);

impl InplaceOp1 for Overwrite<'_> {
    fn name(&self) -> &'static str {
        "overwrite"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        crate::ops::floats_mut(storage, layout)?.copy_from_slice(self.0);
        Ok(())
    }
}

/// SHA-256 over (name, dtype, shape, little-endian bytes) of every parameter, in hex. `all` is in the order of `shapes`.
///
/// Names and dtypes are preceded by their length, shapes by their rank, all as little-endian 64-bit numbers.
pub fn weights_sha256(shapes: &[ParameterShape], all: &[f32]) -> String {
    let mut hasher = Sha256::new();
    let mut rest = all;
    for shape in shapes {
        for text in [shape.name.as_str(), "F32"] {
            hasher.update((text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        hasher.update((shape.dims.len() as u64).to_le_bytes());
        shape.dims.iter().for_each(|&dim| hasher.update((dim as u64).to_le_bytes()));
        let (values, after) = rest.split_at(shape.count());
        hasher.update(le_bytes(values));
        rest = after;
    }
    hex(&hasher.finalize())
}

/// A safetensors file of all parameters, without metadata; equal values give equal bytes.
pub fn model_file(shapes: &[ParameterShape], all: &[f32]) -> Vec<u8> {
    let bytes = le_bytes(all);
    let views = views(shapes, &bytes, "");
    // Every view was cut to its shape just above, which is all that can be wrong with it.
    safetensors::serialize(views, None).unwrap_or_default()
}

/// Tensor views over `bytes`, which hold the values of `shapes` one after the other, named with a prefix.
pub(crate) fn views<'a>(shapes: &[ParameterShape], bytes: &'a [u8], prefix: &str) -> Vec<(String, TensorView<'a>)> {
    let mut rest = bytes;
    let mut views = Vec::with_capacity(shapes.len());
    for shape in shapes {
        let (values, after) = rest.split_at(shape.count() * 4);
        rest = after;
        if let Ok(view) = TensorView::new(Dtype::F32, shape.dims.clone(), values) {
            views.push((format!("{prefix}{}", shape.name), view));
        }
    }
    views
}

/// The values' bytes, little-endian.
pub(crate) fn le_bytes(values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; values.len() * 4];
    for (bytes, value) in bytes.chunks_exact_mut(4).zip(values) {
        bytes.copy_from_slice(&value.to_le_bytes());
    }
    bytes
}
