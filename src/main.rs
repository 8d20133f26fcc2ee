//! `kubeml`: the whole platform in one binary.

use std::process::ExitCode;

use clap::Parser;
use kubeml::cli::Cli;

fn main() -> ExitCode {
    Cli::parse().run()
}
