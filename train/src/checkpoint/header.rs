//! A checkpoint's counters as lines of text, `name value ...`; reals as the hex of their bits, so none is rounded.

use super::{CheckpointError, Progress, Snapshot, VERSION};
use crate::fit::StopReason;
use crate::metrics::{EpochMetrics, Tally};

/// What the text says.
pub(super) struct Header {
    pub(super) progress: Progress,
    pub(super) spec_hash: String,
    pub(super) dataset_hash: String,
    pub(super) kernel_sets: String,
}

pub(super) fn write(snapshot: &Snapshot) -> String {
    let progress = &snapshot.progress;
    let Tally { loss_sum, correct, samples } = progress.tally;
    let mut lines = vec![
        format!("version {VERSION}"),
        format!("spec {}", snapshot.spec_hash),
        format!("dataset {}", snapshot.dataset_hash),
        format!("kernel_set {}", snapshot.kernel_sets),
        format!("step {}", progress.step),
        format!("epoch {}", progress.epoch),
        format!("tally {} {correct} {samples}", bits(loss_sum)),
        format!("seconds {} {}", bits(progress.epoch_seconds), bits(progress.train_seconds)),
    ];
    lines.extend(progress.last.as_ref().map(|metrics| format!("last {}", write_metrics(metrics))));
    lines.extend(progress.best.as_ref().map(|metrics| format!("best {}", write_metrics(metrics))));
    lines.extend(progress.ended.map(|reason| format!("ended {}", reason.as_str())));
    lines.join("\n")
}

pub(super) fn read(text: &str) -> Result<Header, CheckpointError> {
    let lines = Lines(text);
    let version = lines.get("version")?;
    if version != VERSION.to_string() {
        return Err(CheckpointError::Version { found: version.to_string() });
    }
    let mut tally = lines.words("tally")?;
    let mut seconds = lines.words("seconds")?;
    let metrics = |name| lines.find(name).map(|_| read_metrics(lines.words(name)?)).transpose();
    let ended = |name: &str| StopReason::parse(name).ok_or_else(|| malformed("ended", name));
    Ok(Header {
        spec_hash: lines.get("spec")?.to_string(),
        dataset_hash: lines.get("dataset")?.to_string(),
        kernel_sets: lines.get("kernel_set")?.to_string(),
        progress: Progress {
            step: lines.words("step")?.whole()?,
            epoch: lines.words("epoch")?.whole()?,
            tally: Tally { loss_sum: tally.real()?, correct: tally.whole()?, samples: tally.whole()? },
            epoch_seconds: seconds.real()?,
            train_seconds: seconds.real()?,
            last: metrics("last")?,
            best: metrics("best")?,
            ended: lines.find("ended").map(ended).transpose()?,
        },
    })
}

fn write_metrics(metrics: &EpochMetrics) -> String {
    let EpochMetrics { epoch, step, loss, accuracy, val_loss, val_accuracy, samples, train_seconds, is_best } = metrics;
    let reals = [loss, accuracy, val_loss, val_accuracy, train_seconds].map(|real| bits(*real)).join(" ");
    format!("{epoch} {step} {samples} {} {reals}", u8::from(*is_best))
}

fn read_metrics(mut words: Words<'_>) -> Result<EpochMetrics, CheckpointError> {
    Ok(EpochMetrics {
        epoch: words.whole()?,
        step: words.whole()?,
        samples: words.whole()?,
        is_best: words.whole::<u8>()? == 1,
        loss: words.real()?,
        accuracy: words.real()?,
        val_loss: words.real()?,
        val_accuracy: words.real()?,
        train_seconds: words.real()?,
    })
}

fn bits(real: f64) -> String {
    format!("{:016x}", real.to_bits())
}

fn malformed(name: &str, value: &str) -> CheckpointError {
    CheckpointError::Malformed(format!("header line {name} says {value:?}"))
}

struct Lines<'a>(&'a str);

impl<'a> Lines<'a> {
    /// The rest of the line that starts with `name`.
    fn find(&self, name: &str) -> Option<&'a str> {
        self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
    }

    fn get(&self, name: &'static str) -> Result<&'a str, CheckpointError> {
        self.find(name).ok_or_else(|| CheckpointError::Malformed(format!("no header line {name}")))
    }

    fn words(&self, name: &'static str) -> Result<Words<'a>, CheckpointError> {
        Ok(Words { name, rest: self.get(name)?.split(' ') })
    }
}

/// The values of one line, read from left to right.
struct Words<'a> {
    name: &'static str,
    rest: std::str::Split<'a, char>,
}

impl Words<'_> {
    fn whole<T: std::str::FromStr>(&mut self) -> Result<T, CheckpointError> {
        let word = self.rest.next().unwrap_or_default();
        word.parse().map_err(|_| malformed(self.name, word))
    }

    fn real(&mut self) -> Result<f64, CheckpointError> {
        let word = self.rest.next().unwrap_or_default();
        u64::from_str_radix(word, 16).map(f64::from_bits).map_err(|_| malformed(self.name, word))
    }
}
