//! `[bus.kafka]`

use std::{collections::BTreeMap, fmt, fs, path::PathBuf};

use kubeml_actors::ports::PortError;
use rdkafka::{
    ClientConfig,
    consumer::BaseConsumer,
    error::{KafkaError, KafkaResult},
    producer::BaseProducer,
    types::RDKafkaConfRes,
};

use super::client::Detached;
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
        let set: Vec<String> = config.client.keys().map(|name| format!("client.{name}")).collect();
        if !set.is_empty()
            && let Err(wrong) = config.check_together()
        {
            table.require(&set.iter().map(String::as_str).collect::<Vec<_>>(), false, &wrong);
        }
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
            // `kubeml admin init` makes topics, with the partitions they should have. Producers make them by default.
            .set("allow.auto.create.topics", "false")
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

    /// Of a client that reads from places it chooses itself. The group is a name only.
    pub(super) fn reader(&self) -> Result<ClientConfig, PortError> {
        let mut settings = self.common()?;
        settings
            .set("group.id", self.prefixed("kubeml-facts"))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("fetch.error.backoff.ms", "100")
            .set("fetch.wait.max.ms", "500")
            .set("queued.max.messages.kbytes", "16384");
        Ok(self.overriding(settings))
    }

    /// Of a member of a consumer group.
    pub(super) fn member(&self, group: &str) -> Result<ClientConfig, PortError> {
        let mut settings = self.reader()?;
        settings
            .set("group.id", self.prefixed(group))
            // All partitions change hands at once: the cooperative strategies lose track of lost ones (librdkafka 5604).
            .set("partition.assignment.strategy", "range")
            .set("session.timeout.ms", "10000")
            // Between two messages; others of the group wait as long for one that hangs.
            .set("max.poll.interval.ms", "60000")
            .set("queued.max.messages.kbytes", "2048");
        Ok(self.overriding(settings))
    }

    /// Of the producer.
    pub(super) fn sender(&self) -> Result<ClientConfig, PortError> {
        let mut settings = self.common()?;
        settings
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "0")
            .set("compression.type", "lz4")
            .set("queue.buffering.max.kbytes", "32768")
            .set("topic.metadata.propagation.max.ms", "5000");
        let mut settings = self.overriding(settings);
        // A message that waits keeps those behind it waiting, however long brokers are away. Given up, it would come after
        // them when it is sent again, and who has heard those passes it over.
        settings.set("message.timeout.ms", "0");
        Ok(settings)
    }

    /// Whether librdkafka takes what the operator has set together with the rest. It says so only when it makes a client.
    fn check_together(&self) -> Result<(), String> {
        let (Ok(mut sender), Ok(mut member)) = (self.sender(), self.member("kubeml-settings")) else {
            // A password's file that cannot be read: whoever wants to connect says so.
            return Ok(());
        };
        // Nobody is asked anything.
        for settings in [&mut sender, &mut member] {
            settings.remove("bootstrap.servers");
        }
        let sender: KafkaResult<BaseProducer> = sender.create();
        let member: KafkaResult<BaseConsumer> = member.create();
        let refused = [sender.map(Detached::new).err(), member.map(Detached::new).err()].into_iter().flatten().next();
        refused.map_or(Ok(()), |error| Err(format!("librdkafka does not take these settings together: {error}")))
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
