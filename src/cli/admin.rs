//! `kubeml admin init`: the keyspace, tables and topics that a cluster's nodes expect.

use std::process::ExitCode;

use clap::Subcommand;

use crate::{
    config::{Bus, Config, Store},
    edges::{cassandra, kafka},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Create keyspace, tables and topics, or find them there; safe to repeat
    Init,
}

impl Command {
    pub async fn run(self, config: Config) -> anyhow::Result<ExitCode> {
        match self {
            Self::Init => init(&config).await,
        }
    }
}

async fn init(config: &Config) -> anyhow::Result<ExitCode> {
    if let (Store::Embedded, Bus::Embedded) = (&config.store, &config.bus) {
        println!("nothing to set up: this configuration is embedded");
    }
    // Each line when it is done: what fails later takes none back.
    let said = |line: String| println!("{line}");
    if let Store::Cassandra(store) = &config.store {
        cassandra::init(store, &said).await?;
    }
    if let Bus::Kafka(bus) = &config.bus {
        kafka::init(bus, &said).await?;
    }
    Ok(ExitCode::SUCCESS)
}
