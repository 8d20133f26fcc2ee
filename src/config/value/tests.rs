//! How each type is written and read.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use super::super::{Format, Role};
use super::{Retention, Value, one_of};

/// Each text reads as its value, from the environment and as a TOML string.
fn reads<T: Value + PartialEq + Debug + Clone>(table: &[(&str, T)]) {
    for (text, value) in table {
        assert_eq!(T::from_text(text).as_ref(), Ok(value), "{text}");
        assert_eq!(T::from_toml(&value.to_toml()).as_ref(), Ok(value), "{text}");
    }
}

fn refuses<T: Value + Debug>(texts: &[&str]) {
    for text in texts {
        let bad = T::from_text(text).expect_err(text);
        assert!(bad.wrong.contains(text), "{} does not name {text:?}", bad.wrong);
        assert!(!bad.allowed.is_empty());
    }
}

#[test]
fn texts_read_as_their_values() {
    reads(&[("true", true), ("false", false)]);
    reads(&[("0", 0_usize), ("1048576", 1 << 20)]);
    reads(&[("30s", Duration::from_secs(30)), ("2m 5s", Duration::from_secs(125)), ("0s", Duration::ZERO)]);
    reads(&[("7days", Retention::For(Duration::from_hours(168))), ("forever", Retention::Forever)]);
    reads(&[("127.0.0.1:5000", SocketAddr::from(([127, 0, 0, 1], 5000)))]);
    reads(&[("data/kubeml", PathBuf::from("data/kubeml")), ("./~", PathBuf::from("./~"))]);
    reads(&[("", None), ("web/dist", Some(PathBuf::from("web/dist")))]);
    reads(&[("api, trainer", vec![Role::Api, Role::Trainer]), ("trainer", vec![Role::Trainer]), ("", vec![])]);
    reads(&[("auto", Format::Auto), ("human", Format::Human), ("json", Format::Json)]);
}

#[test]
fn what_is_not_a_value_is_named_in_the_refusal() {
    refuses::<bool>(&["yes", "1", "TRUE"]);
    refuses::<usize>(&["-1", "1.5", "many"]);
    refuses::<Duration>(&["30", "2 parsecs", "-1s"]);
    refuses::<Retention>(&["0s", "never"]);
    refuses::<SocketAddr>(&["localhost:5000", "127.0.0.1", ":5000"]);
    refuses::<PathBuf>(&["~", "~/kubeml"]);
    refuses::<Vec<Role>>(&["trainr"]);
    refuses::<Format>(&["JSON"]);
    assert!(PathBuf::from_text("").is_err());
}

#[test]
fn a_toml_value_of_another_type_is_refused() {
    let integer = toml::Value::Integer(-3);
    assert!(bool::from_toml(&integer).is_err());
    assert!(usize::from_toml(&integer).is_err());
    assert!(Duration::from_toml(&integer).is_err());
    assert!(String::from_toml(&integer).is_err());
    assert!(Vec::<String>::from_toml(&integer).is_err());
    assert!(Vec::<String>::from_toml(&toml::Value::Array(vec![integer])).is_err());
    assert!(usize::from_toml(&toml::Value::String("3".to_owned())).is_err());
}

#[test]
fn durations_are_written_in_their_largest_whole_unit() {
    for (text, written) in [
        ("90days", "90days"),
        ("36h", "36h"),
        ("60s", "1m"),
        ("90s", "90s"),
        ("1500ms", "1s 500ms"),
        ("1us", "1us"),
        ("0s", "0s"),
    ] {
        assert_eq!(Duration::from_text(text).unwrap().to_toml().as_str(), Some(written));
    }
}

#[test]
fn names_are_listed_as_people_write_them() {
    assert_eq!(one_of(["a"]), "\"a\"");
    assert_eq!(one_of(["a", "b", "c"]), "\"a\", \"b\" or \"c\"");
}

proptest! {
    #[test]
    fn a_duration_reads_back_as_it_was_written(seconds in 0_u64..1 << 40, nanos in 0_u32..1_000_000_000) {
        let duration = Duration::new(seconds, nanos);
        prop_assert_eq!(Duration::from_toml(&duration.to_toml()), Ok(duration));
    }

    #[test]
    fn a_text_reads_back_as_it_was_written(text in ".*") {
        prop_assert_eq!(String::from_toml(&text.to_toml()), Ok(text));
    }
}
