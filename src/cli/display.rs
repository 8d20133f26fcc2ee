//! What `kubeml train` shows: bars on a terminal, lines otherwise, events as JSON if that is asked for.

use std::{collections::HashMap, io::IsTerminal, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use kubeml_actors::task::TaskId;
use kubeml_spec::{Metric, ModelKind, outcome::Unit};
use serde_json::json;

use super::table;
use crate::wire::{Body, Event, TaskView};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Bars,
    Lines,
    Json,
}

impl Mode {
    pub fn choose(json: bool) -> Self {
        match (json, std::io::stderr().is_terminal()) {
            (true, _) => Self::Json,
            (false, true) => Self::Bars,
            (false, false) => Self::Lines,
        }
    }
}

pub struct Display {
    mode: Mode,
    bars: MultiProgress,
    tasks: HashMap<TaskId, Shown>,
}

struct Shown {
    name: String,
    bar: ProgressBar,
}

impl Display {
    /// `tasks` with their models, in the order in which they were submitted.
    pub fn new(mode: Mode, place: &str, tasks: &[(TaskId, String)]) -> Self {
        let bars = MultiProgress::new();
        let tasks = tasks.iter().map(|(id, model)| (*id, Shown::new(mode, &bars, model))).collect();
        let display = Self { mode, bars, tasks };
        display.say(&format!("training {place}"));
        display
    }

    pub fn event(&self, event: &Event) {
        if self.mode == Mode::Json {
            println!("{}", json!(event));
            return;
        }
        let Some(shown) = event.task_id.and_then(|id| self.tasks.get(&id)) else {
            if let Body::Log { message, .. } = &event.body {
                self.say(message);
            }
            return;
        };
        shown.update(&event.body);
        if let Some(line) = shown.line(event, self.mode) {
            self.say(&format!("{:<width$} {line}", shown.name, width = name_width()));
        }
    }

    pub fn interrupted(&self) {
        self.clear();
        self.say("interrupted: what runs is checkpointed and goes on with the next `kubeml serve` or `kubeml train`");
    }

    /// Prints what came of the tasks. `true` when all of them succeeded.
    pub fn finish(&self, views: &[TaskView]) -> bool {
        self.clear();
        match self.mode {
            Mode::Json => println!("{}", json!({"kind": "summary", "tasks": views})),
            Mode::Bars | Mode::Lines => print!("{}", table::render(views)),
        }
        views.iter().all(|view| view.state == "succeeded")
    }

    fn clear(&self) {
        for shown in self.tasks.values() {
            shown.bar.finish_and_clear();
        }
    }

    /// To stderr, above the bars: stdout is for results.
    fn say(&self, line: &str) {
        match self.mode {
            Mode::Bars => {
                // An error means that the terminal is gone.
                let _ = self.bars.println(line);
            }
            Mode::Lines => eprintln!("{line}"),
            Mode::Json => {}
        }
    }
}

impl Shown {
    fn new(mode: Mode, bars: &MultiProgress, name: &str) -> Self {
        let bar = match mode {
            Mode::Bars => bars.add(ProgressBar::new(0)),
            Mode::Lines | Mode::Json => ProgressBar::hidden(),
        };
        let style = format!("{{prefix:<{}}} {{bar:30}} {{pos}}/{{len}} steps  {{msg}}", name_width());
        bar.set_style(ProgressStyle::with_template(&style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(name.to_owned());
        bar.set_message("waiting");
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { name: name.to_owned(), bar }
    }

    fn update(&self, body: &Body) {
        match body {
            Body::Claimed { .. } => self.bar.set_message("loading"),
            Body::Progress { epoch, epochs, step, steps, samples_per_second, eta_seconds, loss, .. } => {
                self.bar.set_length(*steps);
                self.bar.set_position(*step);
                self.bar.set_message(format!(
                    "epoch {epoch}/{epochs}  loss {loss:.4}  {} samples/s  {eta_seconds:.0} s to go",
                    table::thousands(*samples_per_second)
                ));
            }
            body if body.is_terminal() => {
                self.bar.set_position(self.bar.length().unwrap_or(0));
                self.bar.finish_with_message("done");
            }
            _ => {}
        }
    }

    /// What is worth a line of its own.
    fn line(&self, event: &Event, mode: Mode) -> Option<String> {
        Some(match &event.body {
            Body::EpochFinished(epoch) => {
                let values: Vec<String> = epoch.values().map(|(metric, value)| shown(metric, value)).collect();
                format!("epoch {:>3}  {}", epoch.epoch, values.join("  "))
            }
            Body::Claimed { worker_id } if mode == Mode::Lines => format!("attempt {} on {worker_id}", event.attempt),
            Body::Resumed { from_step } => format!("goes on at step {from_step} (attempt {})", event.attempt),
            Body::Log { message, level } if level == "warn" => format!("WARNING: {message}"),
            Body::Log { message, .. } => message.clone(),
            Body::AttemptFailed { failure, .. } => format!("attempt {} failed: {}", event.attempt, failure.message),
            Body::CancelRequested => "is being cancelled".to_owned(),
            Body::Failed { failure } => format!("FAILED: {}", failure.message),
            Body::Cancelled => "was cancelled".to_owned(),
            _ => return None,
        })
    }
}

/// Room for the longest name of a model.
fn name_width() -> usize {
    ModelKind::names().map(str::len).max().unwrap_or(0)
}

/// `val_accuracy 97.12 %`
fn shown(metric: &Metric, value: f64) -> String {
    match metric.unit {
        Unit::Nats => format!("{} {value:.4}", metric.name),
        Unit::Share => format!("{} {:.2} %", metric.name, value * 100.0),
        Unit::SamplesPerSecond => format!("{} samples/s", table::thousands(value)),
    }
}
