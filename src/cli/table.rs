//! The table of results that `kubeml train` prints last.

use std::fmt::Write as _;

use crate::wire::TaskView;

const HEADER: [&str; 9] =
    ["model", "dataset", "state", "epochs", "test accuracy", "best epoch", "samples/s", "seconds", "weights sha256"];

/// A row a task, and below it what people should not miss.
pub fn render(views: &[TaskView]) -> String {
    let mut rows = vec![HEADER.map(str::to_owned)];
    rows.extend(views.iter().map(row));
    let widths: Vec<usize> =
        (0..HEADER.len()).map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line: Vec<String> = cells.collect();
        let _ = writeln!(text, "{}", line.join("  ").trim_end());
    }
    for note in notes(views) {
        let _ = writeln!(text, "{note}");
    }
    text
}

fn row(view: &TaskView) -> [String; 9] {
    let test = view.metrics.test.as_ref();
    [
        view.spec.model.clone(),
        view.dataset.as_ref().map_or("-", |dataset| dataset.name.as_str()).to_owned(),
        view.state.clone(),
        format!("{}/{}", view.progress.epoch, view.progress.epochs),
        test.map_or_else(|| "-".to_owned(), |test| format!("{:.2} %", test.accuracy * 100.0)),
        view.metrics.best.epoch.to_string(),
        thousands(view.progress.samples_per_second),
        format!("{:.1}", view.duration_seconds),
        view.weights_sha256.as_ref().map_or("-", |sha256| &sha256[..sha256.len().min(16)]).to_owned(),
    ]
}

fn notes(views: &[TaskView]) -> Vec<String> {
    let mut notes = Vec::new();
    for view in views {
        if let Some(failure) = view.failure.as_ref().filter(|_| view.state == "failed") {
            notes.push(format!("{}: {}", view.spec.model, failure.message));
        }
    }
    let replaced = views.iter().filter_map(|view| view.dataset.as_ref());
    if let Some((dataset, why)) = replaced.filter_map(|dataset| Some((dataset, dataset.instead_of.as_ref()?))).next() {
        notes.push(format!(
            "NOT ON THE FULL MNIST: trained on {}, {} built-in digits, because {why}",
            dataset.name,
            thousands((dataset.train_samples + dataset.test_samples) as f64)
        ));
    }
    if let Some(kernels) = views.iter().find_map(|view| view.kernel_set.as_ref()) {
        notes.push(format!("computed by {kernels}"));
    }
    notes
}

/// `12345.6` as `12,346`.
pub fn thousands(number: f64) -> String {
    let digits = format!("{:.0}", number.max(0.0));
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap_or_default()).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        for (number, shown) in [(0.0, "0"), (999.4, "999"), (1_000.0, "1,000"), (1_234_567.8, "1,234,568")] {
            assert_eq!(thousands(number), shown);
        }
    }
}
