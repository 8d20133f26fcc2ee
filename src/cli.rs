//! The command line: `kubeml serve` (the default), `train`, `admin`, `config`.
//!
//! Exit codes: 0 good, 1 it went wrong, 2 wrong usage, 69 something it needs is not reachable, 78 wrong configuration.

use std::{path::PathBuf, process::ExitCode, sync::LazyLock};

use clap::{Parser, Subcommand};
use kubeml_actors::ports::PortError;
use tracing_subscriber::{EnvFilter, fmt};

use crate::config::{Config as Settled, Format, Origin, Problems, Sources, load};

pub mod admin;
pub mod backend;
pub mod catalogue;
pub mod config;
pub mod display;
pub mod fields;
pub mod remote;
pub mod serve;
pub mod signals;
pub mod table;
pub mod train;

static VERSION: LazyLock<String> =
    LazyLock::new(|| format!("{} (kernels: {})", env!("CARGO_PKG_VERSION"), kubeml_train::kernel_set()));

const UNAVAILABLE: u8 = 69;

/// Trains neural networks as durable tasks: on this machine alone, or on a cluster.
#[derive(Debug, Parser)]
#[command(name = "kubeml", version = VERSION.as_str(), propagate_version = false)]
pub struct Cli {
    /// A configuration file; later ones win. Environment variables like KUBEML__HTTP__LISTEN win over files
    #[arg(long, global = true, value_name = "FILE")]
    config: Vec<PathBuf>,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node: HTTP API, task store, dataset store and trainers in this process (the default)
    Serve(serve::Serve),
    /// Train models and show how they do; exits 0 only if all of them succeeded
    Train(Box<train::Train>),
    /// Show the models, hyperparameters and metrics, with bounds and defaults
    Catalogue(catalogue::Catalogue),
    /// Set up what a cluster's nodes work with
    #[command(subcommand)]
    Admin(admin::Command),
    /// Show or check the configuration
    #[command(subcommand)]
    Config(config::Command),
}

impl Cli {
    pub fn run(self) -> ExitCode {
        let sources = Sources::from_process(&self.config);
        match self.command.unwrap_or(Command::Serve(serve::Serve::default())) {
            Command::Serve(serve) => with_config(serve.overrides(sources), |config| {
                start_logging(&config, "info");
                run_to_end(serve::run(config))
            }),
            Command::Train(train) => with_config(train.overrides(sources), |config| {
                start_logging(&config, "warn");
                run_to_end(train.run(config))
            }),
            Command::Catalogue(catalogue) => {
                print!("{}", catalogue.text());
                ExitCode::SUCCESS
            }
            Command::Admin(command) => with_config(sources, |config| {
                start_logging(&config, "warn");
                run_to_end(command.run(config))
            }),
            Command::Config(command) => match command.run(&sources) {
                Ok(text) => {
                    print!("{text}");
                    ExitCode::SUCCESS
                }
                Err(problems) => misconfigured(&problems),
            },
        }
    }
}

fn with_config(sources: Sources, run: impl FnOnce(Settled) -> ExitCode) -> ExitCode {
    match load(&sources) {
        Ok(config) => run(config),
        Err(problems) => misconfigured(&problems),
    }
}

fn misconfigured(problems: &Problems) -> ExitCode {
    eprintln!("kubeml: {problems}");
    ExitCode::from(Problems::EXIT_CODE)
}

fn run_to_end(work: impl Future<Output = anyhow::Result<ExitCode>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("kubeml").build();
    let outcome = match &runtime {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => Err(anyhow::anyhow!("cannot start the runtime: {error}")),
    };
    if let Ok(runtime) = runtime {
        // Whatever still blocks must not keep the process.
        runtime.shutdown_background();
    }
    outcome.unwrap_or_else(|error| {
        eprintln!("kubeml: {error:#}");
        if error.chain().any(is_unavailable) { ExitCode::from(UNAVAILABLE) } else { ExitCode::FAILURE }
    })
}

fn is_unavailable(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<PortError>().is_some_and(PortError::is_transient)
}

/// What is logged: `quiet` unless a file, a variable or a flag sets `[telemetry] log`.
fn directives<'a>(config: &'a Settled, quiet: &'a str) -> &'a str {
    let origin = config.settings.get("telemetry.log").map(|setting| &setting.origin);
    if origin == Some(&Origin::Default) { quiet } else { &config.telemetry.log }
}

/// To stderr: for people on a terminal, as JSON otherwise.
fn start_logging(config: &Settled, quiet: &str) {
    let filter = EnvFilter::try_new(directives(config, quiet)).unwrap_or_else(|_| EnvFilter::new(quiet));
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let human = match config.telemetry.format {
        Format::Human => true,
        Format::Json => false,
        Format::Auto => terminal,
    };
    let logs = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // An error means that logging has been started already.
    let _ = if human {
        logs.with_ansi(terminal && std::env::var_os("NO_COLOR").is_none()).try_init()
    } else {
        logs.json().try_init()
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_level_that_is_written_down_is_in_force_also_if_it_is_the_default_one() {
        let sources = || Sources::default().variable("HOME", "/home/ada");
        let logged = |sources: Sources| directives(&load(&sources).unwrap(), "warn").to_owned();
        assert_eq!(logged(sources()), "warn");
        assert_eq!(logged(sources().file("quiet.toml", "[telemetry]\nlog = \"info\"")), "info");
        assert_eq!(logged(sources().variable("KUBEML__TELEMETRY__LOG", "info")), "info");
        assert_eq!(logged(sources().variable("KUBEML__TELEMETRY__LOG", "error")), "error");
    }
}
