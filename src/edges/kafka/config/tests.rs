//! What `[bus.kafka]` takes, and what it never shows.

use crate::config::{Bus, Config, Problems, Sources, load};

use super::KafkaConfig;

const CLUSTER: &str = "store.kind = \"cassandra\"\nbus.kind = \"kafka\"\n";

fn loaded(toml: &str) -> Result<Config, Problems> {
    load(&Sources::default().variable("HOME", "/home/ada").file("x.toml", toml))
}

fn kafka(toml: &str) -> KafkaConfig {
    match loaded(&format!("{CLUSTER}{toml}")).expect("it is good").bus {
        Bus::Kafka(kafka) => kafka,
        Bus::Embedded => unreachable!("it was chosen"),
    }
}

fn problems(toml: &str) -> Vec<String> {
    let problems = loaded(toml).map(drop).expect_err("it is bad");
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn defaults_name_a_broker_on_this_machine() {
    let kafka = kafka("");
    assert_eq!((kafka.brokers.as_slice(), kafka.topic_prefix.as_str()), (&["127.0.0.1:9092".to_owned()][..], ""));
    assert_eq!((kafka.username, kafka.password_file, kafka.client.len()), (None, None, 0));
}

#[test]
fn settings_of_the_library_are_taken_nested_and_quoted_and_from_the_environment() {
    let toml = "store.kind = \"cassandra\"\n[bus]\nkind = \"kafka\"\n[bus.kafka.client]\nlinger.ms = 5\n\"socket.keepalive.enable\" = true\n";
    let sources = Sources::default().variable("HOME", "/home/ada").file("x.toml", toml);
    let config = load(&sources.variable("KUBEML__BUS__KAFKA__CLIENT__CLIENT__RACK", "a")).expect("it is good");
    let Bus::Kafka(kafka) = &config.bus else { unreachable!("it was chosen") };
    let client: Vec<_> = kafka.client.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(client, [("client.rack", "a"), ("linger.ms", "5"), ("socket.keepalive.enable", "true")]);
    let shown = config.settings.to_toml(false);
    let again = load(&Sources::default().file("shown.toml", &shown)).expect(&shown);
    assert_eq!(again.bus, config.bus, "{shown}");
}

#[test]
fn bad_values_are_named_with_their_keys_all_at_once() {
    let toml = "[bus.kafka]\nbrokers = [\"kafka\"]\ntopic_prefix = \"a b\"\n\
                [bus.kafka.client]\nliger.ms = 5\nlinger.ms = \"soon\"\nacks = 1\nretries = []\n";
    let found = problems(toml);
    let starts = [
        "x.toml:2: bus.kafka.brokers: [\"kafka\"] is not allowed; it must be addresses like",
        "x.toml:3: bus.kafka.topic_prefix: \"a b\" is not allowed; it must be at most 100 letters",
        "x.toml:5: bus.kafka.client.liger.ms: librdkafka has no such setting; it must be one of",
        "x.toml:6: bus.kafka.client.linger.ms: \"soon\" is not taken by librdkafka: ",
        "x.toml:7: bus.kafka.client.acks: KubeML sets this itself; it must be left out",
        "x.toml:8: bus.kafka.client.retries: this value is not allowed; it must be a text, a number",
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    for (problem, start) in found.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem}\n{start}");
    }
    for broker in ["", ":9092", "kafka:0", "kafka:99999", "a b:1", "http://kafka:9092"] {
        assert!(problems(&format!("bus.kafka.brokers = [\"{broker}\"]"))[0].contains("addresses"), "{broker}");
    }
    assert!(problems("bus.kafka.brokers = []")[0].contains("addresses"));
}

#[test]
fn a_user_and_a_password_belong_together() {
    let found = problems("[bus.kafka]\nusername = \"ada\"");
    assert!(found.iter().any(|problem| problem.contains("belong together")), "{found:?}");
}

#[cfg(not(feature = "kafka-tls"))]
#[test]
fn tls_names_the_feature_that_it_needs() {
    for protocol in ["SSL", "sasl_ssl"] {
        let found = problems(&format!("[bus.kafka.client]\nsecurity.protocol = \"{protocol}\""));
        assert!(found[0].contains("the feature kafka-tls"), "{found:?}");
    }
    for protocol in ["plaintext", "SASL_PLAINTEXT"] {
        let login = "sasl.mechanisms = \"PLAIN\"\nsasl.username = \"ada\"\nsasl.password = \"hunter2\"";
        let toml = format!("[bus.kafka.client]\nsecurity.protocol = \"{protocol}\"\n{login}");
        assert_eq!(kafka(&toml).client.len(), 4);
    }
}

#[test]
fn settings_that_contradict_each_other_are_found_before_anything_starts() {
    for (settings, why) in [
        // Ours is 60 s between two messages.
        ("session.timeout.ms = 120000", "max.poll.interval.ms"),
        ("linger.ms = 5\ngroup.protocol = \"consumer\"", "group.protocol"),
        ("security.protocol = \"sasl_plaintext\"", "GSSAPI"),
    ] {
        let found = problems(&format!("{CLUSTER}[bus.kafka.client]\n{settings}"));
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(
            found[0].starts_with("x.toml:") && found[0].contains("does not take these settings together"),
            "{found:?}"
        );
        assert!(found[0].contains(why), "{found:?}");
    }
    assert_eq!(kafka("[bus.kafka.client]\nsession.timeout.ms = 120000\nmax.poll.interval.ms = 120000").client.len(), 2);
}

#[test]
fn a_secret_is_never_repeated() {
    let config = loaded(&format!("{CLUSTER}[bus.kafka.client]\nsasl.password = \"hunter2\"")).expect("it is good");
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(config.settings.to_toml(true).contains("password = \"(hidden)\""));
    let found = problems("[bus.kafka.client]\nsasl.pasword = \"hunter2\"\nno.secret = \"hunter2\"");
    assert!(found.iter().all(|problem| !problem.contains("hunter2")), "{found:?}");
}
