//! What was measured, beside its goal: for the terminal and for the documentation.

use std::{fmt::Write as _, time::Duration};

use super::times::{Samples, Shown};

#[cfg(test)]
mod tests;

#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
    has_failures: bool,
}

#[derive(Default)]
pub struct Row {
    what: String,
    figure: String,
    goal: String,
    /// Of what has a goal.
    is_met: Option<bool>,
    note: String,
}

impl Row {
    pub fn new(what: &str, figure: &str) -> Self {
        Self { what: what.to_owned(), figure: figure.to_owned(), ..Self::default() }
    }

    pub fn of_samples(what: &str, samples: &Samples) -> Self {
        let figure = format!("{} / {}", Shown(samples.median()), Shown(samples.p99()));
        Self::new(what, &figure).note(&format!("p50 / p99 of {}", samples.count()))
    }

    pub fn goal(self, goal: &str, is_met: bool) -> Self {
        Self { goal: goal.to_owned(), is_met: Some(is_met), ..self }
    }

    pub fn goal_median(self, samples: &Samples, goal: Duration) -> Self {
        self.goal(&format!("p50 < {} ms", goal.as_millis()), samples.median() < goal)
    }

    pub fn goal_median_and_p99(self, samples: &Samples, median: Duration, p99: Duration) -> Self {
        let text = format!("p50 < {} ms, p99 < {} ms", median.as_millis(), p99.as_millis());
        self.goal(&text, samples.median() < median && samples.p99() < p99)
    }

    /// One more remark.
    pub fn note(mut self, note: &str) -> Self {
        if !self.note.is_empty() {
            self.note.push_str("; ");
        }
        self.note.push_str(note);
        self
    }

    fn verdict(&self) -> &'static str {
        match self.is_met {
            None => "",
            Some(true) => "met",
            Some(false) => "missed",
        }
    }
}

impl Table {
    pub fn add(&mut self, row: Row) {
        crate::chores::services::progress(&row.line());
        self.rows.push(row);
    }

    pub fn fail(&mut self, what: &str, error: &anyhow::Error) {
        self.has_failures = true;
        let why = error.to_string();
        let why: String = why.lines().next().unwrap_or_default().chars().take(200).collect();
        self.rows.push(Row::new(what, "not measured").note(&why));
    }

    pub fn has_failures(&self) -> bool {
        self.has_failures
    }

    pub fn text(&self) -> String {
        self.rows.iter().map(|row| row.line() + "\n").collect()
    }

    pub fn markdown(&self) -> String {
        let mut text = "| what | figure | goal | | |\n|---|---|---|---|---|\n".to_owned();
        for row in &self.rows {
            let Row { what, figure, goal, note, .. } = row;
            let cells = [what.as_str(), figure, goal, row.verdict(), note].map(|cell| cell.replace('|', "\\|"));
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
        text
    }
}

impl Row {
    fn line(&self) -> String {
        let Self { what, figure, goal, note, .. } = self;
        let line = format!("{what:<45} {figure:<22} {goal:<25} {:<7} {note}", self.verdict());
        line.trim_end().to_owned()
    }
}
