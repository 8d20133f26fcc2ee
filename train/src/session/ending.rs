//! What comes after the last epoch: the test split, for the final and for the best model.

use std::sync::Arc;

use kubeml_spec::{Outcome, StopReason};

use super::evaluation::Tested;
use super::{Flow, Session};
use crate::checkpoint::CheckpointError;
use crate::error::TrainError;
use crate::fit::Trained;
use crate::observer::Observer;
use crate::parameters::{model_file, weights_sha256};

impl Session<'_> {
    /// Tests the final and the best model. Stopped half-way, a resumed training starts this again.
    pub(super) fn finish(&mut self, observer: &mut dyn Observer) -> Result<Flow<Trained>, TrainError> {
        let (Some(last), Some(best), Some(best_weights)) =
            (self.progress.last, self.progress.best, self.best_weights.clone())
        else {
            // Only a checkpoint that was written by another program gets here.
            return Err(CheckpointError::Malformed("it is finished but has no epoch".to_string()).into());
        };
        let weights = self.parameters.copy()?;
        let Flow::Go(test) = self.test(observer)? else { return Ok(Flow::Halt) };
        self.check_loss(test.evaluation.loss)?;
        let best_test = if best.epoch == last.epoch {
            test.clone()
        } else {
            let Flow::Go(best_test) = self.test_other(&best_weights, &weights, observer)? else {
                return Ok(Flow::Halt);
            };
            best_test
        };
        let outcome = Outcome {
            stop_reason: self.progress.ended.unwrap_or(StopReason::Completed),
            epochs: self.progress.epoch,
            steps: self.progress.step,
            train_seconds: self.progress.train_seconds,
            best_epoch: best.epoch,
            test: test.evaluation,
            best_test: best_test.evaluation,
            confusion: test.confusion,
            weights_sha256: weights_sha256(&self.shapes, &weights),
            best_weights_sha256: weights_sha256(&self.shapes, &best_weights),
            kernel_set: self.kernel_sets.clone(),
        };
        let (model, best_model) = (model_file(&self.shapes, &weights), model_file(&self.shapes, &best_weights));
        Ok(Flow::Go(Trained { outcome, last, best, model, best_model }))
    }

    /// Tests other weights and puts the current ones back, whatever comes of it.
    fn test_other(
        &mut self,
        other: &Arc<Vec<f32>>,
        current: &[f32],
        observer: &mut dyn Observer,
    ) -> Result<Flow<Tested>, TrainError> {
        self.parameters.set(other)?;
        let outcome = self.test(observer);
        self.parameters.set(current)?;
        outcome
    }
}
