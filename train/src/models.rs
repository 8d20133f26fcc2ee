//! A network from its list of layers, as `candle_nn::ModuleT`: the training flag in the call switches dropout.
//!
//! Layers that one op computes together are one [`Stage`]: a convolution with its pooling, a ReLU layer with its
//! dropout. A new layer has its arm in `Walk::stage` (what it takes and gives), `Stage::size` and `Stage::build`.

use std::collections::HashSet;
use std::sync::Arc;

use candle_core::{Result, Tensor};
use candle_nn::{Module, ModuleT};
use kubeml_spec::{Activation, Layer, Units};

use crate::lane::Lane;
use crate::ops::conv2d::{KERNEL, POOL};
use crate::ops::{ConvBlock, Dropout, Hidden, Linear, Lstm};
use crate::parameters::VarBuilder;

/// What goes from one layer to the next, for each sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// `[height, width]`
    Image { height: usize, width: usize },
    /// `[height, width, channels]`
    Maps { height: usize, width: usize, channels: usize },
    /// `[features]`
    Features(usize),
}

/// What a network's shape depends on beside its layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputShape {
    pub height: usize,
    pub width: usize,
    pub classes: usize,
}

/// Layers that one op computes.
#[derive(Debug, Clone, PartialEq)]
pub enum Stage {
    ConvBlock { name: String, height: usize, width: usize, inputs: usize, outputs: usize },
    Linear { name: String, inputs: usize, outputs: usize, activation: Activation },
    Hidden { name: String, inputs: usize, outputs: usize, rate: f64, index: u32 },
    Dropout { rate: f64, index: u32 },
    Lstm { name: String, steps: usize, features: usize, units: usize },
}

/// Counts of numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) parameters: u64,
    /// Kept between forward and backward.
    pub(crate) activations: u64,
}

/// The stages of a network, or why these layers are not one for such images.
pub fn stages(layers: &[Layer], input: InputShape) -> std::result::Result<Vec<Stage>, String> {
    check_names(layers)?;
    let shape = Shape::Image { height: input.height, width: input.width };
    let mut walk = Walk { input, shape, dropouts: 0, rest: layers };
    let mut stages = Vec::new();
    while let Some((layer, rest)) = walk.rest.split_first() {
        walk.rest = rest;
        stages.extend(walk.stage(layer)?);
    }
    let is_whole = walk.shape == Shape::Features(input.classes);
    is_whole.then_some(stages).ok_or_else(|| "the last layer does not give a logit for each class".to_owned())
}

/// Two layers of one name would share their parameters.
fn check_names(layers: &[Layer]) -> std::result::Result<(), String> {
    let mut names = HashSet::new();
    match layers.iter().filter_map(Layer::name).find(|name| !names.insert(*name)) {
        Some(name) => Err(format!("two layers have the name {name}")),
        None => Ok(()),
    }
}

/// A walk from the image to the logits.
struct Walk<'a> {
    input: InputShape,
    /// What the layers so far give.
    shape: Shape,
    dropouts: u32,
    rest: &'a [Layer],
}

impl Walk<'_> {
    /// The stage that begins with `layer`, which may take layers off the rest; `None` if it computes nothing.
    fn stage(&mut self, layer: &Layer) -> std::result::Result<Option<Stage>, String> {
        Ok(Some(match layer {
            Layer::Conv2d { name, channels } => self.conv_block(name, *channels)?,
            Layer::MaxPool2d => return Err("a max_pool2d does not follow a conv2d".to_owned()),
            Layer::Flatten => {
                self.shape = Shape::Features(self.shape.features());
                return Ok(None);
            }
            Layer::Dense { name, units, activation } => self.dense(name, *units, *activation),
            Layer::Dropout { rate } => Stage::Dropout { rate: *rate, index: self.next_dropout() },
            Layer::Lstm { name, units } => {
                let Shape::Image { height, width } = self.shape else {
                    return Err(format!("{name} does not take rows of an image"));
                };
                self.shape = Shape::Features(*units);
                Stage::Lstm { name: name.clone(), steps: height, features: width, units: *units }
            }
        }))
    }

    fn conv_block(&mut self, name: &str, channels: usize) -> std::result::Result<Stage, String> {
        let Some((Layer::MaxPool2d, rest)) = self.rest.split_first() else {
            return Err(format!("{name} is not followed by a max_pool2d"));
        };
        self.rest = rest;
        let (rows, columns, inputs) = self.shape.maps().ok_or_else(|| format!("{name} follows a flat layer"))?;
        let (Some(height), Some(width)) = (pooled(rows), pooled(columns)) else {
            let InputShape { height, width, .. } = self.input;
            return Err(format!(
                "{name} does not fit: of {height} x {width} pixels, {rows} x {columns} are left for it"
            ));
        };
        self.shape = Shape::Maps { height, width, channels };
        Ok(Stage::ConvBlock { name: name.to_owned(), height, width, inputs, outputs: channels })
    }

    fn dense(&mut self, name: &str, units: Units, activation: Activation) -> Stage {
        let (name, inputs) = (name.to_owned(), self.shape.features());
        let outputs = match units {
            Units::Count(units) => units,
            Units::Classes => self.input.classes,
        };
        self.shape = Shape::Features(outputs);
        match self.rest.split_first() {
            Some((Layer::Dropout { rate }, rest)) if activation == Activation::Relu => {
                self.rest = rest;
                Stage::Hidden { name, inputs, outputs, rate: *rate, index: self.next_dropout() }
            }
            _ => Stage::Linear { name, inputs, outputs, activation },
        }
    }

    /// Keys the masks: each dropout draws its own.
    fn next_dropout(&mut self) -> u32 {
        self.dropouts += 1;
        self.dropouts - 1
    }
}

/// A side of a map after convolution and pooling; `None` where nothing is left.
fn pooled(side: usize) -> Option<usize> {
    side.checked_sub(KERNEL - 1).map(|side| side / POOL).filter(|side| *side > 0)
}

impl Shape {
    /// Height, width and channels.
    fn maps(self) -> Option<(usize, usize, usize)> {
        match self {
            Self::Image { height, width } => Some((height, width, 1)),
            Self::Maps { height, width, channels } => Some((height, width, channels)),
            Self::Features(_) => None,
        }
    }

    fn features(self) -> usize {
        match self {
            Self::Image { height, width } => height * width,
            Self::Maps { height, width, channels } => height * width * channels,
            Self::Features(features) => features,
        }
    }
}

impl Stage {
    /// For `rows` samples at a time; bounds of the fields keep the counts from overflowing.
    pub(crate) fn size(&self, rows: u64) -> Size {
        match *self {
            Self::ConvBlock { height, width, inputs, outputs, .. } => {
                let (pixels, inputs, outputs) = ((height * width) as u64, inputs as u64, outputs as u64);
                let (area, window) = ((KERNEL * KERNEL) as u64, (POOL * POOL) as u64);
                Size {
                    parameters: (area * inputs + 1) * outputs,
                    // The pooled maps and their gradients of every row, and one image unfolded.
                    activations: 2 * rows * pixels * outputs + window * pixels * (area * inputs + outputs),
                }
            }
            Self::Linear { inputs, outputs, .. } | Self::Hidden { inputs, outputs, .. } => {
                Size { parameters: (inputs as u64 + 1) * outputs as u64, activations: rows * outputs as u64 }
            }
            Self::Dropout { .. } => Size::default(),
            Self::Lstm { steps, features, units, .. } => {
                let (steps, features, units) = (steps as u64, features as u64, units as u64);
                Size {
                    parameters: (features + units + 1) * 4 * units,
                    activations: rows * steps * (features + 7 * units),
                }
            }
        }
    }

    fn build(&self, vb: &VarBuilder<'_>, lane: &Arc<Lane>) -> Result<Box<dyn ModuleT + Send + Sync>> {
        Ok(match self {
            Self::ConvBlock { name, inputs, outputs, .. } => {
                Box::new(OnMaps(ConvBlock::new(*inputs, *outputs, &vb.pp(name), lane)?))
            }
            Self::Linear { name, inputs, outputs, activation } => {
                Box::new(Linear::new(*inputs, *outputs, *activation, &vb.pp(name), lane)?)
            }
            Self::Hidden { name, inputs, outputs, rate, index } => {
                Box::new(Hidden::new([*inputs, *outputs], &vb.pp(name), *rate, *index, lane)?)
            }
            Self::Dropout { rate, index } => Box::new(Dropout::new(*rate, *index, lane)),
            Self::Lstm { name, features, units, .. } => Box::new(Lstm::new(*features, *units, &vb.pp(name), lane)?),
        })
    }
}

/// Gives an image `[batch, height, width]` its one channel; maps have theirs.
struct OnMaps(ConvBlock);

impl Module for OnMaps {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        if xs.rank() == 3 { xs.unsqueeze(3)?.apply(&self.0) } else { xs.apply(&self.0) }
    }
}

/// A network for one lane: images `[batch, height, width]` in 0 to 1 to logits `[batch, classes]`.
pub struct Network(Vec<Box<dyn ModuleT + Send + Sync>>);

impl Network {
    /// With parameters from `vb`; writes its gradients and draws its masks in `lane`.
    pub fn new(stages: &[Stage], vb: &VarBuilder<'_>, lane: &Arc<Lane>) -> Result<Self> {
        stages.iter().map(|stage| stage.build(vb, lane)).collect::<Result<_>>().map(Network)
    }
}

impl ModuleT for Network {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        let mut xs = xs.clone();
        for stage in &self.0 {
            xs = stage.forward_t(&xs, train)?;
        }
        Ok(xs)
    }
}
