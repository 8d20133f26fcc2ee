//! `kubeml train`: submits tasks, shows how they do, and prints a table of what came of them.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use futures::future::try_join_all;
use kubeml_actors::spec::{ModelKind, SpecDraft, TaskSpec};

use super::{
    backend::{Backend, Events, Notices},
    display::{Display, Mode},
    signals::Signals,
};
use crate::config::{Config, Sources};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Model {
    Mlp,
    Cnn,
    Lstm,
    /// All three
    All,
}

#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub struct Train {
    /// What to train
    #[arg(value_enum, default_value = "all")]
    models: Vec<Model>,
    /// Passes over the training data [default: 5]
    #[arg(long)]
    epochs: Option<u32>,
    /// Samples per step [default: 128]
    #[arg(long)]
    batch_size: Option<u32>,
    /// [default: 0.001]
    #[arg(long)]
    learning_rate: Option<f64>,
    /// adam, adamw or sgd [default: adam]
    #[arg(long)]
    optimizer: Option<String>,
    /// constant, step or cosine [default: constant]
    #[arg(long)]
    schedule: Option<String>,
    /// Share of units silenced in training [default: 0.2, of a CNN 0.5]
    #[arg(long)]
    dropout: Option<f64>,
    /// The same seed gives the same weights, bit for bit [default: 1]
    #[arg(long)]
    seed: Option<u64>,
    /// End at this validation accuracy, 0 to 1
    #[arg(long)]
    target_accuracy: Option<f64>,
    /// End after this many epochs without a better validation accuracy
    #[arg(long)]
    patience: Option<u32>,
    /// End after this many seconds of training
    #[arg(long)]
    max_seconds: Option<u32>,
    /// mnist or mnist-10k [default: mnist, and where that cannot be had mnist-10k]
    #[arg(long)]
    dataset: Option<String>,
    /// Training threads; they never change a result [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
    /// Use the server at this URL instead of training in this process
    #[arg(long, value_name = "URL", conflicts_with = "threads")]
    server: Option<String>,
    /// Print every event as a line of JSON, and a summary last
    #[arg(long)]
    json: bool,
    /// Do not wait for the results; needs a server
    #[arg(long)]
    detach: bool,
}

impl Train {
    /// One task at a time with all cores, unless something says otherwise: that is the fastest way through a few tasks.
    pub fn overrides(&self, sources: Sources) -> Sources {
        match self.threads {
            Some(threads) => sources.set("trainer.threads_per_slot", threads, "--threads"),
            None => sources,
        }
    }

    pub async fn run(&self, config: Config) -> anyhow::Result<ExitCode> {
        let drafts = match self.drafts() {
            Ok(drafts) => drafts,
            Err(problems) => {
                eprintln!("kubeml: {problems}");
                return Ok(ExitCode::from(2));
            }
        };
        let mut signals = Signals::listen()?;
        let backend = Backend::open(&config, self.server.as_deref(), self.detach).await?;
        if let (Backend::Remote(remote), Some(_)) = (&backend, self.threads) {
            eprintln!(
                "kubeml: --threads is for training in this process, but the server at {} holds the data directory; leave it \
                 out, or name another directory in KUBEML__NODE__DATA_DIR",
                remote.url()
            );
            return Ok(ExitCode::from(2));
        }
        let mut notices = backend.notices().await?;
        let mut tasks = Vec::new();
        for draft in &drafts {
            tasks.push((backend.submit(draft).await?, draft.model.clone().unwrap_or_default()));
        }
        if self.detach {
            for (task, _) in &tasks {
                println!("{task}");
            }
            return Ok(ExitCode::SUCCESS);
        }
        let display = Display::new(Mode::choose(self.json), &backend.place(), &tasks);
        let watched = async {
            let mut streams = Vec::new();
            for (task, _) in &tasks {
                streams.push(backend.events(*task).await?);
            }
            try_join_all(streams.iter_mut().map(|events| watch(events, &display))).await
        };
        let interrupted = tokio::select! {
            outcome = watched => {
                outcome?;
                None
            }
            signal = signals.next() => Some(signal),
            outcome = tell(&mut notices, &display) => outcome?,
            why = backend.failed() => anyhow::bail!("{why}; run it again: nothing is lost"),
        };
        if let Some(signal) = interrupted {
            display.interrupted();
            backend.close().await;
            return Ok(ExitCode::from(128 + signal));
        }
        let mut views = Vec::new();
        for (task, _) in tasks {
            views.push(backend.view(task).await?);
        }
        backend.close().await;
        let all_succeeded = display.finish(&views);
        Ok(if all_succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// What to submit, in order; all that is wrong with it at once.
    fn drafts(&self) -> Result<Vec<SpecDraft>, String> {
        let mut drafts = Vec::new();
        for kind in self.kinds() {
            let draft = self.draft(kind);
            if let Err(problems) = TaskSpec::build(&draft) {
                let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
                return Err(format!("{kind}: {}", problems.join("; ")));
            }
            drafts.push(draft);
        }
        Ok(drafts)
    }

    fn kinds(&self) -> Vec<ModelKind> {
        let mut kinds = Vec::new();
        for model in &self.models {
            match model {
                Model::Mlp => kinds.push(ModelKind::Mlp),
                Model::Cnn => kinds.push(ModelKind::Cnn),
                Model::Lstm => kinds.push(ModelKind::Lstm),
                Model::All => kinds.extend(ModelKind::ALL),
            }
        }
        kinds
    }

    fn draft(&self, kind: ModelKind) -> SpecDraft {
        SpecDraft {
            model: Some(kind.as_str().to_owned()),
            dataset: self.dataset.clone(),
            epochs: self.epochs,
            batch_size: self.batch_size,
            learning_rate: self.learning_rate,
            optimizer: self.optimizer.clone(),
            schedule: self.schedule.clone(),
            dropout: self.dropout,
            seed: self.seed,
            target_accuracy: self.target_accuracy,
            patience: self.patience,
            max_seconds: self.max_seconds,
            ..SpecDraft::default()
        }
    }
}

/// Never ends well.
async fn tell<T>(notices: &mut Notices, display: &Display) -> anyhow::Result<T> {
    loop {
        for event in notices.next().await? {
            display.event(&event);
        }
    }
}

async fn watch(events: &mut Events, display: &Display) -> anyhow::Result<()> {
    while let Some(event) = events.next().await? {
        display.event(&event);
    }
    Ok(())
}
