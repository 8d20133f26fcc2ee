//! `cargo xtask bench train`: the reference models on MNIST, by this engine and by other frameworks, in turn.

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use clap::{ValueEnum, value_parser};

use self::{
    contender::{Contender, Course},
    epochs::{Epochs, median},
    peers::Peers,
};
use super::{
    Subject, document,
    table::{Row, Table},
    times::Shown,
};
use crate::{chores::services::progress, runner};

mod contender;
mod costs;
mod epochs;
mod peers;

/// From a cold process to this accuracy on the test images.
const TARGET_ACCURACY: &str = "0.99";
const TARGET_LIMIT: Duration = Duration::from_secs(31);
/// What gets there soon: the reference settings are made for more epochs.
const TARGET_EPOCHS: u32 = 3;
const TARGET_SETTINGS: [&str; 6] = ["--dropout", "0.25", "--learning-rate", "0.002", "--schedule", "cosine"];

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    subject: Subject,
    /// Passes over the images in each turn
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u32).range(1..))]
    epochs: u32,
    /// How often each contender takes its turn; three times as often with the MLP, whose turns take seconds
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u32).range(1..))]
    rounds: u32,
    /// Measure only this model, and leave docs/performance.md alone; may be given several times
    #[arg(long, value_name = "MODEL")]
    only: Vec<Model>,
    /// Leave this framework out, and docs/performance.md alone; may be given several times
    #[arg(long, value_name = "NAME")]
    without: Vec<Contender>,
    /// The Python environment of the others; made there, with some 8 GB from PyPI, if it is missing [default:
    /// kubeml-peers in the directory for temporary files]
    #[arg(long, value_name = "DIR")]
    peers: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Model {
    Mlp,
    Cnn,
    Lstm,
}

impl Model {
    fn name(self) -> &'static str {
        match self {
            Self::Mlp => "mlp",
            Self::Cnn => "cnn",
            Self::Lstm => "lstm",
        }
    }

    /// A turn of the MLP is over before a noisy machine has changed its mind.
    fn rounds(self, rounds: u32) -> u32 {
        if self == Self::Mlp { rounds.saturating_mul(3) } else { rounds }
    }

    /// How many times as fast as the fastest of the others.
    fn goal(self) -> f64 {
        if self == Self::Cnn { 2.0 } else { 1.5 }
    }
}

pub fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    runner::listen_for_interrupts()?;
    let mnist = args.subject.mnist()?;
    let (binary, conditions) = args.subject.program.ready(root)?;
    let environment = args.peers.clone().unwrap_or_else(|| env::temp_dir().join("kubeml-peers"));
    let peers = Peers::ready(root, &environment)?;
    let conditions = conditions.and("peers", &peers.versions()?);
    let course = Course { binary: &binary, peers: &peers, mnist: &mnist, epochs: args.epochs };
    let mut table = Table::default();
    let models = if args.only.is_empty() { Model::value_variants() } else { &args.only };
    for model in models {
        compare(*model, args, &course, &mut table)?;
    }
    if models.contains(&Model::Cnn) {
        table.add(to_target(&course)?);
    }
    costs::measure(models, root, &mnist, &mut table)?;
    print!("\n{}\n{}", conditions.text(), table.text());
    if args.only.is_empty() && args.without.is_empty() {
        document::write(root, "train", &conditions, &table)?;
    }
    ensure!(!table.has_failures(), "not everything could be measured");
    Ok(ExitCode::SUCCESS)
}

/// Every contender once a round, so that whatever slows the machine down slows all of them down.
fn compare(model: Model, args: &Args, course: &Course<'_>, table: &mut Table) -> anyhow::Result<()> {
    let trains = |contender: &Contender| contender.can_train(model) && !args.without.contains(contender);
    let mut field: Vec<(Contender, Vec<Epochs>)> =
        Contender::value_variants().iter().copied().filter(trains).map(|contender| (contender, Vec::new())).collect();
    let rounds = model.rounds(args.rounds);
    for round in 1..=rounds {
        for (contender, turns) in &mut field {
            progress(&format!("{} by {}, round {round} of {rounds}", model.name(), contender.name()));
            turns.push(contender.train(model, course)?);
            runner::check_not_interrupted()?;
        }
    }
    for (contender, turns) in &field {
        table.add(Epochs::row(&format!("{} by {}", model.name(), contender.name()), turns));
    }
    if let Some(row) = ratio(model, &field) {
        table.add(row);
    }
    Ok(())
}

/// Against the fastest of the others; `None` without any.
fn ratio(model: Model, field: &[(Contender, Vec<Epochs>)]) -> Option<Row> {
    let speed = |turns: &[Epochs]| median(turns.iter().flat_map(Epochs::speeds).collect());
    let (ours, others): (Vec<_>, Vec<_>) = field.iter().partition(|(contender, _)| *contender == Contender::Kubeml);
    let (_, ours) = ours.first()?;
    let (best, theirs) = others.into_iter().max_by(|(_, a), (_, b)| speed(a).total_cmp(&speed(b)))?;
    let ratio = speed(ours) / speed(theirs);
    let of_rounds = ours
        .iter()
        .zip(theirs)
        .map(|(ours, theirs)| format!("{:.2}", median(ours.speeds().collect()) / median(theirs.speeds().collect())));
    let goal = model.goal();
    let row = Row::new(&format!("{}: kubeml to {}", model.name(), best.name()), &format!("{ratio:.2} x"));
    let note = format!("medians; round by round {}", of_rounds.collect::<Vec<_>>().join(", "));
    Some(row.goal(&format!(">= {goal} x"), ratio >= goal).note(&note))
}

/// The files are imported, trained on and evaluated by a process of its own.
fn to_target(course: &Course<'_>) -> anyhow::Result<Row> {
    progress(&format!("cnn until {TARGET_ACCURACY}"));
    let start = Instant::now();
    let arguments = [["--target-accuracy", TARGET_ACCURACY].as_slice(), &TARGET_SETTINGS].concat();
    let epochs = Course { epochs: TARGET_EPOCHS, ..*course }.ours(Model::Cnn, &arguments)?;
    let took = start.elapsed();
    let accuracy = epochs.accuracy().context("no epoch was trained")?;
    let row = Row::new("cnn: from a cold process to 99 %", &Shown(took).to_string());
    let is_met = took < TARGET_LIMIT && accuracy >= 0.99;
    let note = format!(
        "{:.2} % of the test images after {} epochs with {}; import and evaluation included",
        accuracy * 100.0,
        epochs.count(),
        TARGET_SETTINGS.join(" ")
    );
    Ok(row.goal("< 31 s", is_met).note(&note))
}
