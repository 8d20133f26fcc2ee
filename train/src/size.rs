//! What of a spec does not fit a dataset, found before anything is allocated: no request takes the machine's memory.

use kubeml_spec::{Problem, TaskSpec};

use crate::batches::{EVALUATED, held_out, shard_count};
use crate::data::Data;
use crate::models::{InputShape, Size, Stage, stages};

/// Numbers a network may learn: each is held up to some twenty times (gradients of 16 shards, moments, best, snapshot).
const PARAMETERS_MAX: u64 = 16 << 20;
/// Numbers one shard may keep between forward and backward.
const ACTIVATIONS_MAX: u64 = 64 << 20;

/// The stages of the spec's network on such data, or everything that does not fit.
pub(crate) fn fitting_stages(spec: &TaskSpec, data: &Data) -> Result<Vec<Stage>, Vec<Problem>> {
    let mut problems = Vec::new();
    let fraction = spec.hyperparameters().validation_fraction;
    let (samples, held_out) = (data.train().len(), held_out(spec, data.train().len()));
    if fraction > 0.0 && (held_out == 0 || held_out >= samples) {
        let message = format!("{fraction} of {samples} training samples leaves a side empty");
        problems.push(Problem::new("/hyperparameters/validation_fraction", message));
    }
    let input = InputShape { height: data.height(), width: data.width(), classes: data.classes() };
    match stages(&spec.layers(), input) {
        Err(message) => problems.push(Problem::new("/model", message)),
        Ok(stages) => {
            problems.extend(too_large(spec, data, &stages));
            if problems.is_empty() {
                return Ok(stages);
            }
        }
    }
    Err(problems)
}

/// Of one shard, or of what is evaluated at a time if that is more.
pub(crate) fn size(spec: &TaskSpec, data: &Data, stages: &[Stage]) -> Size {
    let batch = spec.hyperparameters().batch_size as usize;
    let rows = batch.div_ceil(shard_count(batch)).max(EVALUATED) as u64;
    let input = Size { parameters: 0, activations: rows * data.pixels() as u64 };
    stages.iter().map(|stage| stage.size(rows)).fold(input, |sum, stage| Size {
        parameters: sum.parameters + stage.parameters,
        activations: sum.activations + stage.activations,
    })
}

fn too_large(spec: &TaskSpec, data: &Data, stages: &[Stage]) -> Vec<Problem> {
    let Size { parameters, activations } = size(spec, data, stages);
    let mut problems = Vec::new();
    if parameters > PARAMETERS_MAX {
        problems.push(Problem::new("/model", format!("{parameters} parameters are more than {PARAMETERS_MAX}")));
    }
    if activations > ACTIVATIONS_MAX {
        let message = format!(
            "{activations} activations at a time are more than {ACTIVATIONS_MAX}; lower it, or the model's sizes"
        );
        problems.push(Problem::new("/hyperparameters/batch_size", message));
    }
    problems
}
