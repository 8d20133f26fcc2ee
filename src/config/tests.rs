//! What is refused, and in which words.

use proptest::prelude::*;

use super::reader::Reader;
use super::{Kind, Origin, Problems, Sources, load};

/// One file, on a machine with a home.
fn sources(toml: &str) -> Sources {
    Sources::default().variable("HOME", "/home/ada").file("config/x.toml", toml)
}

fn problems(sources: &Sources) -> Vec<String> {
    let found = load(sources).map(drop).map_err(|problems| problems.iter().map(ToString::to_string).collect());
    found.err().unwrap_or_default()
}

/// Each document has exactly the problem beside it.
fn each_has_its_problem(table: &[(&str, &str)]) {
    for (toml, problem) in table {
        assert_eq!(problems(&sources(toml)), [*problem], "{toml}");
    }
}

#[test]
fn unknown_names_are_refused() {
    each_has_its_problem(&[
        ("[http]\nlissten = 1", "config/x.toml:2: http.lissten: unknown key; did you mean http.listen?"),
        ("http.lissten = 1", "config/x.toml:1: http.lissten: unknown key; did you mean http.listen?"),
        ("listen = 1", "config/x.toml:1: listen: unknown key; did you mean http.listen?"),
        ("[tasks]\nslots = 1", "config/x.toml:2: tasks.slots: unknown key; did you mean trainer.slots?"),
        (
            "[events]\n# a comment\nzygote = 1",
            "config/x.toml:3: events.zygote: unknown key; the keys of [events] are retention, ring",
        ),
        (
            "\n[htp]\nlisten = 1\nother = 2\n[htp.x]\ny = 1",
            "config/x.toml:2: htp: unknown section; did you mean [http]?",
        ),
        (
            "[http.tls]",
            "config/x.toml:1: http.tls: unknown section; \
             the sections are bus, bus.kafka, cache, cache.memory, cache.redis, datasets.mnist, events, http, node, \
             store, store.cassandra, tasks, telemetry, trainer",
        ),
        ("\"http.listen\" = 1", "config/x.toml:1: \"http.listen\": unknown key; did you mean http.listen?"),
    ]);
}

#[test]
fn a_section_is_not_a_key_and_a_key_is_not_a_section() {
    each_has_its_problem(&[
        ("events = 5", "config/x.toml:1: events: a section, not a key; its keys are retention, ring"),
        ("[[events]]\nring = 64", "config/x.toml:1: events: a section, not a key; its keys are retention, ring"),
        ("[events.ring]\nsize = 1", "config/x.toml:1: events.ring: a table is not allowed; it must be a whole number"),
    ]);
}

#[test]
fn values_of_the_wrong_kind_are_refused() {
    each_has_its_problem(&[
        (
            "[http]\nlisten = \"localhost\"",
            "config/x.toml:2: http.listen: \"localhost\" is not allowed; \
             it must be an IP address and a port, such as \"127.0.0.1:5000\" or \"[::]:5000\"",
        ),
        (
            "[node]\ndrain_timeout = 25",
            "config/x.toml:2: node.drain_timeout: 25 is not allowed; \
             it must be a number with a unit, such as \"30s\", \"500ms\" or \"7days\"",
        ),
        (
            "[node]\nroles = [\"api\", \"trainr\"]",
            "config/x.toml:2: node.roles: \"trainr\" is not allowed; it must be \"api\" or \"trainer\"; \
             did you mean \"trainer\"?",
        ),
        (
            "[telemetry]\nformat = \"xml\"",
            "config/x.toml:2: telemetry.format: \"xml\" is not allowed; it must be \"auto\", \"human\" or \"json\"",
        ),
        (
            "[http]\nfault_injection = \"yes\"",
            "config/x.toml:2: http.fault_injection: \"yes\" is not allowed; it must be true or false",
        ),
        (
            "[node]\ndata_dir = \"~/kubeml\"",
            "config/x.toml:2: node.data_dir: \"~/kubeml\" is not allowed; \
             it must be a path, written out (`~` is not expanded)",
        ),
        (
            "[events]\nring = 99999999999999999999",
            "config/x.toml:2: events.ring: so large a number is not allowed; it must be a whole number",
        ),
    ]);
}

#[test]
fn values_outside_their_rule_are_refused() {
    each_has_its_problem(&[
        ("[trainer]\nslots = 0", "config/x.toml:2: trainer.slots: 0 is not allowed; it must be 1 to 1024"),
        ("[events]\nring = 1", "config/x.toml:2: events.ring: 1 is not allowed; it must be 64 to 1048576"),
        (
            "[tasks]\nlease = \"1ms\"\nheartbeat = \"9s\"",
            "config/x.toml:2: tasks.lease: \"1ms\" is not allowed; it must be \"100ms\" to \"1h\"",
        ),
        (
            "[node]\nid = \"node/1\"",
            "config/x.toml:2: node.id: \"node/1\" is not allowed; it must be 1 to 64 letters, digits, '.', '_' or '-'",
        ),
        (
            "[node]\nroles = []",
            "config/x.toml:2: node.roles: [] is not allowed; it must be \"api\", \"trainer\" or both, each once",
        ),
        (
            "[node]\nroles = [\"api\", \"api\"]",
            "config/x.toml:2: node.roles: [\"api\", \"api\"] is not allowed; \
             it must be \"api\", \"trainer\" or both, each once",
        ),
    ]);
}

#[test]
fn origins_and_log_directives_are_checked_before_a_library_sees_them() {
    for origin in ["*", "http://*", "localhost:3001", "http://localhost:3001/", "http://a b", "http://u@h", "ftp://h"] {
        let found = problems(&sources(&format!("[http]\ncors_origins = [\"https://kubeml.dev\", \"{origin}\"]")));
        assert!(
            matches!(found.as_slice(), [one] if one.contains("it must be a list of origins")),
            "{origin}: {found:?}"
        );
    }
    for log in ["inof", "", "info,kubeml", "kubeml=loud"] {
        let found = problems(&sources(&format!("[telemetry]\nlog = \"{log}\"")));
        assert!(matches!(found.as_slice(), [one] if one.contains("it must be a level")), "{log}: {found:?}");
    }
    for log in ["off", "DEBUG", "warn,kubeml=debug", "kubeml::http[request{id=1}]=trace,info"] {
        assert_eq!(problems(&sources(&format!("[telemetry]\nlog = \"{log}\""))), [""; 0], "{log}");
    }
}

#[test]
fn adapters_and_their_keys_are_checked() {
    each_has_its_problem(&[
        (
            "[store]\nkind = \"casandra\"",
            "config/x.toml:2: store.kind: \"casandra\" is not allowed; \
             it must be \"embedded\" or \"cassandra\"; did you mean \"cassandra\"?",
        ),
        (
            "[bus.kafka]\nbrokers = \"k\"",
            "config/x.toml:2: bus.kafka.brokers: \"k\" is not allowed; it must be a list, each a text",
        ),
        (
            "[store.embedded]\nx = 1",
            "config/x.toml:1: store.embedded: unknown section; \
             the sections are bus, bus.kafka, cache, cache.memory, cache.redis, datasets.mnist, events, http, node, \
             store, store.cassandra, tasks, telemetry, trainer",
        ),
    ]);
}

#[test]
fn the_table_of_an_adapter_that_is_not_chosen_is_checked_too() {
    each_has_its_problem(&[(
        "[cache]\nkind = \"none\"\n[cache.memory]\nbytes_max = 1",
        "config/x.toml:4: cache.memory.bytes_max: 1 is not allowed; it must be 1048576 to 1099511627776",
    )]);
}

#[test]
fn an_adapter_adds_its_table_with_one_line() {
    #[derive(Debug, PartialEq)]
    enum Store {
        Embedded,
        Toy { seats: usize },
    }
    const KINDS: &[Kind<Store>] = &[
        Kind { name: "embedded", table: "embedded", read: |_| Store::Embedded },
        Kind { name: "toy", table: "toy", read: |toy| Store::Toy { seats: toy.key("seats").within(1..=9).or(4) } },
    ];
    let read = |toml| {
        let mut reader = Reader::new(&sources(toml));
        let store = reader.table("store").kind(KINDS);
        // The other sections are not read here, so their defaults are strangers.
        let problems = reader.finish().unwrap_err();
        let of_the_file = problems.iter().filter(|problem| problem.origin != Origin::Default);
        (store, of_the_file.map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(read(""), (Store::Embedded, vec![]));
    assert_eq!(read("[store]\nkind = \"toy\"\ntoy.seats = 2"), (Store::Toy { seats: 2 }, vec![]));
    let mistyped = "config/x.toml:2: store.toy.seat: unknown key; did you mean store.toy.seats?";
    assert_eq!(read("[store.toy]\nseat = 2"), (Store::Embedded, vec![mistyped.to_owned()]));
}

#[test]
fn what_makes_no_node_together_is_refused() {
    each_has_its_problem(&[
        (
            "[bus]\nkind = \"kafka\"",
            "config/x.toml:2: bus.kind: the store \"cassandra\" and the bus \"kafka\" go together, \
             as \"embedded\" and \"embedded\" do",
        ),
        (
            "[node]\nroles = [\"api\"]",
            "config/x.toml:2: node.roles: an embedded node is on its own: it needs the roles \"api\" and \"trainer\"",
        ),
    ]);
    let worker = "[node]\nroles = [\"trainer\"]\n[store]\nkind = \"cassandra\"\n[bus]\nkind = \"kafka\"";
    assert_eq!(problems(&sources(worker)), [""; 0]);
}

#[test]
fn keys_that_contradict_each_other_are_refused_where_the_stronger_source_says_so() {
    each_has_its_problem(&[(
        "[tasks]\nheartbeat = \"2s\"",
        "config/x.toml:2: tasks.heartbeat: the heartbeat must be shorter than the lease; \
         tasks.lease is \"2s\" (default), tasks.heartbeat is \"2s\" (config/x.toml:2)",
    )]);
    let lease_by_flag = sources("[tasks]\nheartbeat = \"1s\"").set("tasks.lease", "900ms", "--lease");
    assert!(problems(&lease_by_flag)[0].starts_with("--lease: tasks.lease: the heartbeat must be shorter"));
}

#[test]
fn a_data_directory_must_be_known() {
    let homeless = Sources::default();
    assert!(problems(&homeless)[0].starts_with("default: node.data_dir: must be set here"));
    assert_eq!(problems(&homeless.variable("KUBEML__NODE__DATA_DIR", "data")), [""; 0]);
}

#[test]
fn syntax_errors_are_all_named_and_the_rest_of_the_file_is_still_checked() {
    let broken = "[http]\nlisten = \"127.0.0.1:1\nui_dir = x\n[tasks]\nlease = \"x\"\nlease = \"1s\"\n";
    assert_eq!(
        problems(&sources(broken)),
        [
            "config/x.toml:2: not valid TOML: invalid basic string, expected `\"`",
            "config/x.toml:3: not valid TOML: string values must be quoted, expected literal string",
            "config/x.toml:5: tasks.lease: \"x\" is not allowed; \
             it must be a number with a unit, such as \"30s\", \"500ms\" or \"7days\"",
            "config/x.toml:6: not valid TOML: duplicate key",
        ]
    );
}

#[test]
fn variables_are_checked_as_files_are() {
    let environment = Sources::default()
        .variable("HOME", "/home/ada")
        .variable("KUBEML_PORT", "tcp://10.0.0.1:5000")
        .variable("KUBEML__", "x")
        .variable("KUBEML__HTTP", "x")
        .variable("KUBEML__HTTP.LISTEN", "x")
        .variable("KUBEML__HTTP__LISSEN", "x")
        .variable("KUBEML__TASKS__LEASE", "2")
        .variable("KUBEML__http__listen", "x");
    assert_eq!(
        problems(&environment),
        [
            "KUBEML__: unknown variable; \
             the sections are bus, bus.kafka, cache, cache.memory, cache.redis, datasets.mnist, events, http, node, \
             store, store.cassandra, tasks, telemetry, trainer",
            "KUBEML__HTTP: a section, not a key; \
             its keys are listen, cors_origins, body_bytes_max, ui_dir, fault_injection",
            "KUBEML__HTTP.LISTEN: unknown variable; did you mean KUBEML__HTTP__LISTEN?",
            "KUBEML__HTTP__LISSEN: unknown variable; did you mean KUBEML__HTTP__LISTEN?",
            "KUBEML__TASKS__LEASE: tasks.lease: \"2\" is not allowed; \
             it must be a number with a unit, such as \"30s\", \"500ms\" or \"7days\"",
            "KUBEML__http__listen: unknown variable; did you mean KUBEML__HTTP__LISTEN?",
        ]
    );
}

#[test]
fn every_problem_of_every_source_is_named_at_once_in_their_order() {
    let mut sources = sources("[tasks]\nlease = \"2 parsecs\"\n\n[node]\nroles = []\n")
        .file("config/y.toml", "[tasks]\nlease = 3\nlese = 4\n")
        .set("trainer.slots", 0, "--slots")
        .variable("KUBEML__NODE__ID", "");
    sources.files.insert(1, super::SourceFile { path: "gone.toml".into(), text: Err("no such file".to_owned()) });
    let found = problems(&sources);
    let origins: Vec<&str> = found.iter().filter_map(|problem| problem.split(": ").next()).collect();
    let expected = [
        "config/x.toml:2",
        "config/x.toml:5",
        "gone.toml",
        "config/y.toml:2",
        "config/y.toml:3",
        "KUBEML__NODE__ID",
        "--slots",
    ];
    assert_eq!(origins, expected, "{found:#?}");
    let all = load(&sources).map(drop).map_err(|problems: Problems| problems.to_string()).unwrap_err();
    assert!(all.starts_with("7 problems in the configuration:\n  config/x.toml:2: tasks.lease"), "{all}");
}

#[test]
fn what_may_be_a_secret_is_not_repeated() {
    let careless = sources("[node]\npassword = \"hunter2\"\n[htp]\npassword = \"hunter2\"\n");
    let found = problems(&careless.variable("KUBEML__STORE__CASSANDRA__PASSWORD", "hunter2"));
    assert_eq!(found.len(), 3);
    assert!(found.iter().all(|problem| !problem.contains("hunter2")), "{found:#?}");
}

/// Something like TOML, mostly broken.
const SCRAPS: &str = "([\\[\\]a.=\"'#\n{},1 ]|http|listen){0,40}";

/// Names that exist, that do not, and that only look as if.
const NAME: &str = "http|listen|a|'http[.]listen'|'a[.]b'|''";

proptest! {
    #[test]
    fn no_file_however_odd_is_more_than_a_list_of_problems(text in ".*", scraps in SCRAPS) {
        let _ = load(&sources(&text));
        let _ = load(&sources(&scraps));
    }

    #[test]
    fn nothing_is_dropped_in_silence(names in proptest::collection::vec(NAME, 1..5)) {
        let path = names.join(".");
        prop_assume!(path != "http.listen");
        for toml in [format!("{path} = 1"), format!("[{path}]\nx = 1"), format!("x.{path} = {{ y = 1, z = 2 }}")] {
            prop_assert_eq!(problems(&sources(&toml)).len(), 1, "{}", toml);
        }
    }
}
