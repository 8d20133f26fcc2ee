//! Loss and accuracy of the current parameters on a split, in blocks whose sums are added in order.

use kubeml_spec::Evaluation;
use rayon::prelude::*;

use super::{Flow, Session, Shard};
use crate::batches::EVALUATED;
use crate::data::{Data, Split};
use crate::error::TrainError;
use crate::metrics::{Tally, confusion};
use crate::observer::{Control, EvaluationProgress, Observer};

/// Blocks each thread computes between two questions to the observer.
const BLOCKS_PER_TURN: usize = 8;

/// Tally and answers of one block.
type Answered = (Tally, Vec<u16>);

/// A model's answers on the test split.
#[derive(Clone)]
pub(super) struct Tested {
    pub(super) evaluation: Evaluation,
    pub(super) confusion: Vec<Vec<u64>>,
}

impl Session<'_> {
    /// The open epoch's validation: on the held-out samples, or on the test split where none are held out.
    pub(super) fn validate(&mut self, observer: &mut dyn Observer) -> Result<Flow<Tally>, TrainError> {
        let (data, held_out) = (self.data, std::mem::take(&mut self.plan.held_out));
        let outcome = if held_out.is_empty() {
            evaluate(&mut self.shards, data, data.test(), &all_of(data.test()), observer)
        } else {
            evaluate(&mut self.shards, data, data.train(), &held_out, observer)
        };
        self.plan.held_out = held_out;
        Ok(match outcome? {
            Flow::Go((tally, _)) => Flow::Go(tally),
            Flow::Halt => Flow::Halt,
        })
    }

    /// The current parameters on the test split.
    pub(super) fn test(&mut self, observer: &mut dyn Observer) -> Result<Flow<Tested>, TrainError> {
        let (data, test) = (self.data, self.data.test());
        Ok(match evaluate(&mut self.shards, data, test, &all_of(test), observer)? {
            Flow::Go((tally, answers)) => Flow::Go(Tested {
                evaluation: Evaluation { loss: tally.loss(), accuracy: tally.accuracy() },
                confusion: confusion(&answers, &test.labels, data.classes()),
            }),
            Flow::Halt => Flow::Halt,
        })
    }
}

fn all_of(split: &Split) -> Vec<u32> {
    (0..split.len() as u32).collect()
}

fn evaluate(
    shards: &mut [Shard],
    data: &Data,
    split: &Split,
    samples: &[u32],
    observer: &mut dyn Observer,
) -> Result<Flow<Answered>, TrainError> {
    let mut total = (Tally::default(), Vec::with_capacity(samples.len()));
    for turn in samples.chunks(EVALUATED * BLOCKS_PER_TURN * shards.len()) {
        for block in evaluate_turn(shards, data, split, turn) {
            let (tally, answers) = block?;
            total.0.add(&tally);
            total.1.extend(answers);
        }
        let progress = EvaluationProgress { samples_done: total.1.len(), samples_total: samples.len() };
        if observer.evaluating(&progress) == Control::Stop {
            return Ok(Flow::Halt);
        }
    }
    Ok(Flow::Go(total))
}

/// Every block of `samples` in order. Each shard takes a stretch of them; which one does not change a block's result.
fn evaluate_turn(
    shards: &mut [Shard],
    data: &Data,
    split: &Split,
    samples: &[u32],
) -> Vec<candle_core::Result<Answered>> {
    let blocks: Vec<&[u32]> = samples.chunks(EVALUATED).collect();
    let share = blocks.len().div_ceil(shards.len()).max(1);
    let stretches: Vec<Vec<_>> = shards
        .par_iter_mut()
        .with_max_len(1)
        .zip(blocks.par_chunks(share))
        .map(|(shard, blocks)| {
            let answer = |block: &&[u32]| {
                let mut answers = Vec::with_capacity(block.len());
                let tally = shard.evaluate(data, split, block, &mut answers)?;
                Ok((tally, answers))
            };
            blocks.iter().map(answer).collect()
        })
        .collect();
    stretches.into_iter().flatten().collect()
}
