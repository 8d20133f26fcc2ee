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
    let mut done = Vec::new();
    if let Store::Cassandra(store) = &config.store {
        done.extend(cassandra::init(store).await?);
    }
    if let Bus::Kafka(bus) = &config.bus {
        done.extend(kafka::init(bus).await?);
    }
    if done.is_empty() {
        done.push("nothing to set up: this configuration is embedded".to_owned());
    }
    done.iter().for_each(|line| println!("{line}"));
    Ok(ExitCode::SUCCESS)
}
