//! What is said of suites: the list beforehand, the table afterwards. Pure text.

use std::time::Duration;

use super::suites::Suite;

#[cfg(test)]
mod tests;

#[derive(Debug, PartialEq)]
pub enum Outcome {
    Passed { note: Option<String> },
    Failed { why: String },
    Skipped { reason: String },
}

pub struct Row {
    pub name: &'static str,
    pub outcome: Outcome,
    pub took: Duration,
    pub budget: Duration,
}

impl Outcome {
    pub fn skipped(reason: String) -> Self {
        Self::Skipped { reason }
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Passed { .. } => "passed",
            Self::Failed { .. } => "FAILED",
            Self::Skipped { .. } => "skipped",
        }
    }

    fn remark(&self) -> &str {
        match self {
            Self::Passed { note } => note.as_deref().unwrap_or_default(),
            Self::Failed { why } => why,
            Self::Skipped { reason } => reason,
        }
    }
}

pub fn list(suites: &[Suite]) -> String {
    let line = |suite: &Suite| {
        let tools: Vec<_> = suite.tools.iter().map(|tool| tool.name).collect();
        let needs = if tools.is_empty() { String::new() } else { format!("; needs {}", tools.join(", ")) };
        let when = if suite.by_default { String::new() } else { format!("; only with --suite {}", suite.name) };
        format!("{:<10} {:>5} s  {}{needs}{when}\n", suite.name, suite.budget.as_secs(), suite.about)
    };
    suites.iter().map(line).collect()
}

/// Whether all is well. Continuous integration has no excuse for a suite that cannot start.
pub fn is_good(rows: &[Row], in_ci: bool) -> bool {
    rows.iter().all(|row| match row.outcome {
        Outcome::Passed { .. } => true,
        Outcome::Failed { .. } => false,
        Outcome::Skipped { .. } => !in_ci,
    })
}

/// The table, and last a line that machines read: `3 passed, 0 failed, 1 skipped`.
pub fn summary(rows: &[Row], in_ci: bool) -> String {
    let mut text = format!("\n{:<10}  {:<7}  {:>7}  {:>6}\n", "suite", "result", "seconds", "budget");
    for Row { name, outcome, took, budget } in rows {
        let (seconds, budget) = (took.as_secs_f64(), budget.as_secs());
        let line = format!("{name:<10}  {:<7}  {seconds:>7.1}  {budget:>6}  {}", outcome.word(), outcome.remark());
        text.push_str(line.trim_end());
        text.push('\n');
    }
    let count = |word| rows.iter().filter(|row| row.outcome.word() == word).count();
    if in_ci && count("skipped") > 0 {
        text.push_str("\nCI is set, so a suite that cannot start is a failure.\n");
    }
    text.push_str(&format!("\n{} passed, {} failed, {} skipped\n", count("passed"), count("FAILED"), count("skipped")));
    text
}
