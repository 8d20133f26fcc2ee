//! What `[cache.redis]` takes, what it refuses in which words, and what it never repeats.

use crate::config::{Cache, Sources, load};

use super::*;

fn sources(toml: &str) -> Sources {
    Sources::default().variable("HOME", "/home/ada").file("x.toml", toml)
}

fn redis(toml: &str) -> RedisConfig {
    match load(&sources(toml)).expect(toml).cache {
        Cache::Redis(redis) => redis,
        other => panic!("{other:?}"),
    }
}

fn problems(sources: &Sources) -> Vec<String> {
    load(sources).expect_err("it is wrong").iter().map(ToString::to_string).collect()
}

#[test]
fn both_kinds_read_one_table() {
    let table = "[cache.redis]\nurls = [\"redis://a\"]\nttl = \"2h\"\nusername = \"ada\"\npassword_file = \"p\"\n";
    let expected = |topology| RedisConfig {
        topology,
        urls: RedisUrls(vec![RedisUrl { host: "a".to_owned(), port: 6379, database: 0 }]),
        ttl: Duration::from_hours(2),
        username: Some("ada".to_owned()),
        password_file: Some("p".into()),
        key_prefix: "kubeml".to_owned(),
    };
    assert_eq!(redis(&format!("cache.kind = \"redis\"\n{table}")), expected(Topology::Single));
    assert_eq!(redis(&format!("cache.kind = \"redis-cluster\"\n{table}")), expected(Topology::Cluster));
}

#[test]
fn the_defaults_are_a_redis_on_this_machine() {
    let redis = redis("cache.kind = \"redis\"");
    assert_eq!(redis.urls.to_string(), "redis://127.0.0.1:6379");
    assert_eq!((redis.username, redis.password_file, redis.ttl), (None, None, Duration::from_hours(24)));
}

#[test]
fn urls_read_as_what_they_mean_and_are_shown_in_full() {
    for (text, host, port, database, shown) in [
        ("redis://cache", "cache", 6379, 0, "redis://cache:6379"),
        ("redis://cache/", "cache", 6379, 0, "redis://cache:6379"),
        ("redis://10.0.0.5:7000/3", "10.0.0.5", 7000, 3, "redis://10.0.0.5:7000/3"),
        ("redis://[::1]:7000", "::1", 7000, 0, "redis://[::1]:7000"),
    ] {
        let url = RedisUrl { host: host.to_owned(), port, database };
        assert_eq!(url.to_string(), shown);
        assert_eq!(RedisUrl::parse(text), Ok(url.clone()));
        assert_eq!(RedisUrl::parse(shown), Ok(url));
    }
    let listed = sources("").variable("KUBEML__CACHE__REDIS__URLS", "redis://a:1, redis://b:2,");
    let listed = load(&listed.variable("KUBEML__CACHE__KIND", "redis-cluster")).unwrap();
    assert!(matches!(listed.cache, Cache::Redis(redis) if redis.urls.to_string() == "redis://a:1, redis://b:2"));
}

#[test]
fn what_is_no_url_of_a_redis_is_refused() {
    for text in ["", "redis", "127.0.0.1:6379", "redis://", "http://a", "redis://a:70000", "redis://a/x", "unix:///a"] {
        let bad = RedisUrl::parse(text).expect_err(text);
        assert_eq!(bad.wrong, format!("\"{text}\" is not allowed"));
    }
    let tls = RedisUrl::parse("rediss://a").expect_err("it is TLS");
    assert_eq!(tls.wrong, "\"rediss://a\" asks for TLS, which this build does not carry (use a tunnel)");
}

#[test]
fn no_password_is_repeated() {
    let secret = "hunter2";
    for value in [
        "[\"redis://:hunter2@a\"]",
        "[\"redis://ada:hunter2@a:6379\", \"redis://b\"]",
        "\"redis://:hunter2@a\"",
        "\"redis://:hun,hunter2@a\"",
        "[\"rediss://:hunter2@a\"]",
        "[\"hunter2@\"]",
        "[\"unix:///tmp/s?pass=hunter2\"]",
        "[\"redis://a#hunter2\"]",
        "{ url = \"redis://:hunter2@a\" }",
        "[[\"redis://:hunter2@a\"]]",
        "[{ password = \"hunter2\" }]",
    ] {
        let found = problems(&sources(&format!("cache.redis.urls = {value}")));
        assert!(!found.is_empty() && found.iter().all(|problem| !problem.contains(secret)), "{value}: {found:?}");
    }
    let variable = sources("").variable("KUBEML__CACHE__REDIS__URLS", "redis://:hun,hunter2@a");
    assert!(!problems(&variable).concat().contains("hun"));
}

#[test]
fn a_url_with_a_password_is_refused_with_the_place_where_it_belongs() {
    assert_eq!(
        problems(&sources("cache.redis.urls = [\"redis://:hunter2@a\"]")),
        ["x.toml:1: cache.redis.urls: a URL with a user, a password or parameters is not allowed \
          (write the user into cache.redis.username, and the password into the file that cache.redis.password_file names); \
          it must be a list of URLs such as \"redis://10.0.0.5:6379\""]
    );
}

#[test]
fn keys_outside_their_rule_are_refused() {
    for (toml, problem) in [
        ("cache.redis.urls = []", "cache.redis.urls: [] is not allowed; it must be at least one URL"),
        ("cache.redis.ttl = \"1ms\"", "cache.redis.ttl: \"1ms\" is not allowed; it must be \"1s\" to \"365days\""),
        (
            "cache.redis.key_prefix = \"a*\"",
            "cache.redis.key_prefix: \"a*\" is not allowed; it must be 1 to 64 letters, digits, '.', '_', '-' or ':'",
        ),
        ("cache.redis.url = \"redis://a\"", "cache.redis.url: unknown key; did you mean cache.redis.urls?"),
    ] {
        assert_eq!(problems(&sources(toml)), [format!("x.toml:1: {problem}")]);
    }
}

#[test]
fn keys_that_contradict_the_kind_are_refused() {
    let several = "cache = { kind = \"redis\", redis.urls = [\"redis://a\", \"redis://b\"] }";
    assert!(
        problems(&sources(several))[0].contains("one server has one URL; for the nodes of a cluster, set cache.kind")
    );
    let numbered = "cache = { kind = \"redis-cluster\", redis.urls = [\"redis://a/1\"] }";
    assert!(problems(&sources(numbered))[0].contains("a cluster has database 0 only"));
    // What is not chosen contradicts nothing.
    assert!(load(&sources("cache.redis.urls = [\"redis://a\", \"redis://b/1\"]")).is_ok());
}
