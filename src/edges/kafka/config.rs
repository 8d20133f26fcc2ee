//! `[bus.kafka]`

use std::{collections::BTreeMap, fmt, fs, path::PathBuf};

use kubeml_actors::ports::PortError;
use rdkafka::{ClientConfig, error::KafkaError, types::RDKafkaConfRes};

use crate::config::{Bad, OpenKeys, Table};

#[cfg(test)]
mod tests;

const PREFIX_LENGTH_MAX: usize = 100;

/// What KubeML's correctness hangs on, and what has a key of its own.
const OURS: [&str; 13] = [
    "acks",
    "bootstrap.servers",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "message.timeout.ms",
    "metadata.broker.list",
    "request.required.acks",
    "transactional.id",
];

#[derive(Clone, PartialEq, Eq)]
pub struct KafkaConfig {
    /// `host:port`
    pub brokers: Vec<String>,
    pub topic_prefix: String,
    pub username: Option<String>,
    pub password_file: Option<PathBuf>,
    /// librdkafka's own settings; they override ours.
    pub client: BTreeMap<String, String>,
}

impl KafkaConfig {
    pub fn read(table: &mut Table<'_>) -> Self {
        let config = Self {
            brokers: table
                .key("brokers")
                .only("addresses like \"kafka-1:9092\"", |brokers: &Vec<String>| are_addresses(brokers))
                .get(),
            topic_prefix: table.key("topic_prefix").only(PREFIX_RULE, |prefix: &String| is_prefix(prefix)).get(),
            username: table.key("username").get(),
            password_file: table.key("password_file").get(),
            client: table.open("client", &OpenKeys { check, is_secret }),
        };
        let agree = config.username.is_some() == config.password_file.is_some();
        table.require(&["username", "password_file"], agree, "a user name and a password belong together");
        config
    }

    /// What all clients have in common, without what they override.
    pub(super) fn common(&self) -> Result<ClientConfig, PortError> {
        let mut common = ClientConfig::new();
        common
            .set("bootstrap.servers", self.brokers.join(","))
            .set("client.id", "kubeml")
            // Messages are small, and somebody waits for each.
            .set("socket.nagle.disable", "true")
            // An outage ends when it ends, not up to ten seconds later.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("statistics.interval.ms", "5000")
            // Idle connections are closed by brokers; that is no news.
            .set("log.connection.close", "false");
        if let (Some(username), Some(file)) = (&self.username, &self.password_file) {
            let password = fs::read_to_string(file).map_err(|error| {
                PortError::Rejected(format!("[bus.kafka] password_file: cannot read {}: {error}", file.display()))
            })?;
            common.set("sasl.username", username).set("sasl.password", password.trim_end_matches(['\r', '\n']));
        }
        Ok(common)
    }

    /// `client` with what the operator has set.
    pub(super) fn overriding(&self, mut client: ClientConfig) -> ClientConfig {
        client.extend(self.client.clone());
        client
    }

    pub(super) fn prefixed(&self, name: &str) -> String {
        format!("{}{name}", self.topic_prefix)
    }
}

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |name: &String, value: &String| if is_secret(name) { "(hidden)".to_owned() } else { value.clone() };
        let client: BTreeMap<_, _> = self.client.iter().map(|(name, value)| (name, shown(name, value))).collect();
        f.debug_struct("KafkaConfig")
            .field("brokers", &self.brokers)
            .field("topic_prefix", &self.topic_prefix)
            .field("username", &self.username)
            .field("password_file", &self.password_file)
            .field("client", &client)
            .finish()
    }
}

fn are_addresses(brokers: &[String]) -> bool {
    let is_address = |address: &String| {
        let parts = address.rsplit_once(':');
        parts.is_some_and(|(host, port)| {
            !host.is_empty() && !address.contains([' ', '/']) && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
    };
    !brokers.is_empty() && brokers.iter().all(is_address)
}

const PREFIX_RULE: &str = "at most 100 letters, digits, '.', '_' or '-'";

fn is_prefix(prefix: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    prefix.len() <= PREFIX_LENGTH_MAX && prefix.chars().all(is_allowed)
}

fn is_secret(name: &str) -> bool {
    ["password", "passphrase", "secret", "token", "key.pem", "oauthbearer.config", "jaas"]
        .iter()
        .any(|part| name.contains(part))
}

fn check(name: &str, value: &str) -> Result<(), Bad> {
    let bad = |wrong: String, allowed: &str| Err(Bad { wrong, allowed: allowed.to_owned(), meant: None });
    if OURS.contains(&name) {
        return bad("KubeML sets this itself".to_owned(), "left out");
    }
    let wants_tls = name == "security.protocol" && value.to_ascii_lowercase().ends_with("ssl");
    if wants_tls && !cfg!(feature = "kafka-tls") {
        let allowed = "\"plaintext\" or \"sasl_plaintext\": TLS needs a build with the feature kafka-tls";
        return bad(format!("{value:?} is not in this build"), allowed);
    }
    let mut alone = ClientConfig::new();
    alone.set(name, value);
    match alone.create_native_config() {
        Ok(_) => Ok(()),
        // A value is not repeated that may be a secret, by its name or by what was meant with it.
        Err(KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)) => {
            bad("librdkafka has no such setting".to_owned(), A_SETTING)
        }
        Err(KafkaError::ClientConfig(_, reason, ..)) if !is_secret(name) => {
            bad(format!("{value:?} is not taken by librdkafka: {reason}"), A_SETTING)
        }
        Err(_) => bad("this value is not taken by librdkafka".to_owned(), A_SETTING),
    }
}

const A_SETTING: &str = "one of the settings in librdkafka's CONFIGURATION.md, with a value it allows there";
