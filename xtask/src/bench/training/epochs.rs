//! The epochs of one turn, as a contender tells them.

use super::super::table::Row;

#[cfg(test)]
mod tests;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Epochs(Vec<Epoch>);

#[derive(Clone, Copy, Debug, PartialEq)]
struct Epoch {
    samples_per_second: f64,
    /// On the test images, 0 to 1.
    accuracy: f64,
}

impl Epochs {
    /// Of lines like `epoch 1 0.571 105078 0.9432`, which is its number, seconds, samples/s and accuracy.
    pub fn of_lines(text: &str) -> Self {
        let epoch = |line: &str| {
            let [_, _, speed, accuracy] =
                line.strip_prefix("epoch ")?.split(' ').collect::<Vec<_>>().try_into().ok()?;
            Some(Epoch { samples_per_second: speed.parse().ok()?, accuracy: accuracy.parse().ok()? })
        };
        Self(text.lines().filter_map(epoch).collect())
    }

    /// Of the events of `kubeml train --json`.
    pub fn of_events(text: &str) -> Self {
        let epoch = |line: &str| {
            let event: serde_json::Value = serde_json::from_str(line).ok()?;
            (event["kind"] == "epoch_finished").then_some(())?;
            Some(Epoch {
                samples_per_second: event["samples_per_second"].as_f64()?,
                accuracy: event["val_accuracy"].as_f64()?,
            })
        };
        Self(text.lines().filter_map(epoch).collect())
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    pub fn speeds(&self) -> impl Iterator<Item = f64> {
        self.0.iter().map(|epoch| epoch.samples_per_second)
    }

    /// After the last.
    pub fn accuracy(&self) -> Option<f64> {
        self.0.last().map(|epoch| epoch.accuracy)
    }

    pub fn row(what: &str, turns: &[Self]) -> Row {
        let speeds: Vec<f64> = turns.iter().flat_map(Self::speeds).collect();
        let accuracies = turns.iter().filter_map(Self::accuracy).map(|accuracy| accuracy * 100.0).collect();
        let (low, high) =
            speeds.iter().fold((f64::MAX, 0.0_f64), |(low, high), speed| (low.min(*speed), high.max(*speed)));
        let note = format!(
            "median of {} epochs, {low:.0} to {high:.0}; {:.2} % right after {}",
            speeds.len(),
            median(accuracies),
            turns.first().map_or(0, Self::count)
        );
        Row::new(what, &format!("{:.0} samples/s", median(speeds))).note(&note)
    }
}

/// The upper of the two in the middle; 0 of nothing.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
