//! The configuration as its users meet it: what is in force, from which source, and `kubeml config show`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kubeml::config::{
    Bus, Cache, Config, EMBEDDED, Format, MemoryCache, Origin, Retention, Role, Setting, Settings, Sources, Store,
    load, variable_of,
};
use proptest::prelude::*;

/// The built-in defaults on a machine with a home.
fn defaults() -> Sources {
    Sources::default().variable("HOME", "/home/ada")
}

/// A configuration without the memory of where it came from.
fn values(config: Config) -> Config {
    Config { settings: Settings::default(), ..config }
}

fn as_text(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(items) => items.iter().map(as_text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

#[test]
fn without_any_source_the_documented_defaults_are_in_force() {
    let config = load(&defaults()).unwrap();
    assert_eq!(config.node.id, "node-1");
    assert_eq!(config.node.roles, [Role::Api, Role::Trainer]);
    assert_eq!(config.node.drain_timeout, Duration::from_secs(25));
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:5000");
    assert_eq!(config.http.cors_origins, ["http://localhost:3001"]);
    assert_eq!((config.http.ui_dir, config.http.fault_injection), (None, false));
    assert_eq!(config.tasks.no_progress_max, 5);
    assert_eq!((config.tasks.lease, config.tasks.heartbeat), (Duration::from_secs(2), Duration::from_millis(500)));
    assert_eq!(config.tasks.retention, Retention::Forever);
    assert_eq!(config.trainer.checkpoint_interval_max, Duration::from_secs(30));
    assert_eq!((config.store, config.bus), (Store::Embedded, Bus::Embedded));
    assert_eq!(config.cache, Cache::Memory(MemoryCache { bytes_max: 256 << 20 }));
    assert_eq!((config.datasets.mnist.dir, config.datasets.mnist.download), (None, true));
    assert_eq!((config.telemetry.log.as_str(), config.telemetry.format), ("info", Format::Auto));
}

#[test]
fn slots_are_half_the_cores_and_threads_share_them() {
    for (cores, slots, threads) in [(1, 1, 1), (2, 1, 2), (3, 1, 3), (4, 2, 2), (7, 3, 2), (64, 32, 2)] {
        let trainer = load(&Sources { cores, ..defaults() }).unwrap().trainer;
        assert_eq!((trainer.slots, trainer.threads_per_slot), (slots, threads), "{cores} cores");
    }
    let one_slot = Sources { cores: 8, ..defaults() }.set("trainer.slots", 1, "--slots");
    assert_eq!(load(&one_slot).unwrap().trainer.threads_per_slot, 8);
    let more_than_cores = defaults().set("trainer.threads_per_slot", 6, "--threads");
    assert_eq!(load(&more_than_cores).unwrap().trainer.threads_per_slot, 6);
}

#[test]
fn the_data_directory_is_where_the_system_keeps_such_things() {
    let (home, xdg, state) =
        (("HOME", "/home/ada"), ("XDG_DATA_HOME", "/data"), ("STATE_DIRECTORY", "/var/lib/kubeml:/x"));
    for (variables, data_dir) in [
        (vec![home], "/home/ada/.local/share/kubeml"),
        (vec![home, xdg], "/data/kubeml"),
        (vec![home, ("XDG_DATA_HOME", "relative")], "/home/ada/.local/share/kubeml"),
        (vec![home, ("XDG_DATA_HOME", "")], "/home/ada/.local/share/kubeml"),
        (vec![home, xdg, state], "/var/lib/kubeml"),
        (vec![home, xdg, state, ("KUBEML__NODE__DATA_DIR", "scratch/data")], "scratch/data"),
    ] {
        let sources = variables.iter().fold(Sources::default(), |sources, (name, value)| sources.variable(name, value));
        assert_eq!(load(&sources).unwrap().node.data_dir, Path::new(data_dir), "{variables:?}");
    }
}

#[test]
fn every_key_is_explained_in_the_embedded_file() {
    let lines: Vec<&str> = EMBEDDED.lines().collect();
    for setting in load(&defaults()).unwrap().settings.iter() {
        let (section, name) = setting.key.rsplit_once('.').unwrap();
        let header = lines.iter().position(|line| *line == format!("[{section}]")).expect(section);
        let section = lines[header + 1..].iter().take_while(|line| !line.starts_with('['));
        let section: Vec<&&str> = section.collect();
        let is_key = |line: &str| line.trim_start_matches("# ").starts_with(&format!("{name} = "));
        let at = section.iter().position(|line| is_key(line)).unwrap_or_else(|| panic!("{} is missing", setting.key));
        assert!(at > 0 && section[at - 1].starts_with('#'), "{} is not explained", setting.key);
    }
}

#[test]
fn every_key_has_an_environment_variable() {
    for Setting { key, value, .. } in load(&defaults()).unwrap().settings.iter() {
        let config = load(&defaults().variable(&variable_of(key), as_text(value))).unwrap();
        let setting = config.settings.get(key).unwrap();
        assert_eq!(&setting.value, value, "{key}");
        assert_eq!(setting.origin, Origin::Environment { variable: variable_of(key) });
    }
}

#[test]
fn lists_are_comma_separated_in_the_environment() {
    let sources = defaults()
        .variable("KUBEML__NODE__ROLES", "trainer")
        .variable("KUBEML__STORE__KIND", "cassandra")
        .variable("KUBEML__BUS__KIND", "kafka")
        .variable("KUBEML__HTTP__CORS_ORIGINS", "https://a.example, https://b.example:8443");
    let config = load(&sources).unwrap();
    assert_eq!(config.node.roles, [Role::Trainer]);
    assert!(config.node.has(Role::Trainer) && !config.node.has(Role::Api));
    assert_eq!(config.http.cors_origins, ["https://a.example", "https://b.example:8443"]);
    let none = load(&defaults().variable("KUBEML__HTTP__CORS_ORIGINS", "")).unwrap();
    assert!(none.http.cors_origins.is_empty());
}

#[test]
fn a_value_that_was_set_can_be_unset_by_a_stronger_source() {
    let set = defaults().file("a.toml", "[datasets.mnist]\ndir = \"data/mnist\"");
    assert_eq!(load(&set).unwrap().datasets.mnist.dir, Some(PathBuf::from("data/mnist")));
    assert_eq!(load(&set.variable("KUBEML__DATASETS__MNIST__DIR", "")).unwrap().datasets.mnist.dir, None);
}

#[test]
fn files_are_read_from_disk_and_a_missing_one_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let (found, missing) = (directory.path().join("found.toml"), directory.path().join("missing.toml"));
    std::fs::write(&found, "[node]\nid = \"ada\"\n").unwrap();
    let from = |files: &[PathBuf]| Sources { environment: defaults().environment, ..Sources::from_process(files) };
    assert_eq!(load(&from(std::slice::from_ref(&found))).unwrap().node.id, "ada");
    let problems = load(&from(&[found, missing.clone()])).unwrap_err().to_string();
    assert!(problems.contains(&format!("{}: cannot read this file: ", missing.display())), "{problems}");
}

/// What is written for `tasks.queue_max`, by whom: in the order in which the sources win.
const LADDER: [&str; 5] = ["default", "a.toml:2", "b.toml:2", "KUBEML__TASKS__QUEUE_MAX", "--queue"];

proptest! {
    #[test]
    fn the_strongest_source_that_speaks_wins(speaks in proptest::array::uniform4(any::<bool>())) {
        let mut sources = defaults();
        for rung in (1..=4).filter(|rung| speaks[rung - 1]) {
            let value = rung.to_string();
            sources = match rung {
                1 | 2 => sources.file(&LADDER[rung][..6], &format!("[tasks]\nqueue_max = {value}")),
                3 => sources.variable(LADDER[rung], value),
                _ => sources.set("tasks.queue_max", value, LADDER[rung]),
            };
        }
        let strongest = (1..=4).filter(|rung| speaks[rung - 1]).max().unwrap_or(0);
        let config = load(&sources).unwrap();
        prop_assert_eq!(config.tasks.queue_max, if strongest == 0 { 50_000 } else { strongest });
        prop_assert_eq!(config.settings.get("tasks.queue_max").unwrap().origin.to_string(), LADDER[strongest]);
    }

    #[test]
    fn what_is_shown_configures_the_same(sources in any_sources(), origin in any::<bool>()) {
        let config = load(&sources).unwrap();
        let shown = config.settings.to_toml(origin);
        let again = load(&Sources::default().file("shown.toml", &shown)).unwrap();
        prop_assert_eq!(values(again), values(config), "{}", shown);
    }
}

/// Good values for keys of every type, each sometimes set.
fn any_sources() -> impl Strategy<Value = Sources> {
    let texts = |pattern: &str| proptest::string::string_regex(pattern).expect(pattern).boxed();
    let of = |values: &[&str]| {
        let values: Vec<String> = values.iter().map(ToString::to_string).collect();
        proptest::sample::select(values).boxed()
    };
    let keys = [
        ("node.id", texts("[a-zA-Z0-9._-]{1,64}")),
        ("node.roles", of(&["api,trainer", "trainer,api"])),
        ("node.data_dir", texts("/[^\\x00]{0,20}")),
        ("http.listen", of(&["0.0.0.0:80", "[::1]:5000"])),
        ("http.cors_origins", of(&["", "https://a.example", "http://a.example,https://b.example:8443"])),
        ("http.ui_dir", texts("[a-z ö\"'\\\\]{0,10}")),
        ("http.fault_injection", of(&["true", "false"])),
        ("tasks.lease", (1_000_u64..3_600_000).prop_map(|ms| format!("{ms}ms")).boxed()),
        ("tasks.retention", of(&["forever", "1s", "90days", "1day 3s"])),
        ("trainer.engine", of(&["candle", "stub"])),
        ("trainer.slots", (1..=1024_usize).prop_map(|slots| slots.to_string()).boxed()),
        ("cache.kind", of(&["memory", "redis", "none"])),
        ("cache.memory.bytes_max", (1_u64 << 20..1 << 40).prop_map(|bytes| bytes.to_string()).boxed()),
        ("cache.redis.urls", of(&["redis://cache", "redis://10.0.0.5:7000/3", "redis://[::1]:6379"])),
        ("cache.redis.username", texts("[a-z \"'\\\\]{0,10}")),
        ("cache.redis.key_prefix", texts("[a-zA-Z0-9._:-]{1,64}")),
        ("telemetry.log", of(&["debug", "info,kubeml::http=trace"])),
        ("telemetry.format", of(&["auto", "human", "json"])),
    ];
    let written = keys.map(|(key, value)| proptest::option::of(value).prop_map(move |value| value.map(|it| (key, it))));
    Vec::from(written).prop_map(|written| {
        let set = |sources: Sources, (key, value): (&str, String)| sources.variable(&variable_of(key), value);
        written.into_iter().flatten().fold(defaults(), set)
    })
}

/// The binary as users run it.
mod process {
    use std::path::Path;
    use std::process::{Command, Output};

    /// `kubeml config …` in `directory`, in an environment of its own.
    fn kubeml(directory: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubeml"));
        command.current_dir(directory).env_clear().env("HOME", directory).arg("config").args(arguments);
        command
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    #[test]
    fn show_tells_each_values_origin_and_what_it_prints_is_a_config_file() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("x.toml"), "[http]\n\nlisten = \"127.0.0.1:7000\"\n").unwrap();
        let shown = |arguments: &[&str]| {
            let output = kubeml(directory.path(), arguments).env("KUBEML__TASKS__LEASE", "3s").output().unwrap();
            assert!(output.status.success(), "{}", text(&output.stderr));
            text(&output.stdout)
        };
        let with_origin = shown(&["show", "--origin", "--config", "x.toml"]);
        assert!(with_origin.contains("listen = \"127.0.0.1:7000\"  # x.toml:3\n"), "{with_origin}");
        assert!(with_origin.contains("lease = \"3s\"  # KUBEML__TASKS__LEASE\n"), "{with_origin}");
        let plain = shown(&["show", "--config", "x.toml"]);
        std::fs::write(directory.path().join("shown.toml"), &plain).unwrap();
        assert_eq!(shown(&["show", "--config", "shown.toml"]), plain);
    }

    #[test]
    fn check_names_its_sources_or_every_problem_and_exits_78() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("x.toml"), "[http]\nlissten = 1\n").unwrap();
        let good = kubeml(directory.path(), &["check"]).output().unwrap();
        assert_eq!((good.status.code(), text(&good.stdout).as_str()), (Some(0), "ok: defaults\n"));
        let files = ["check", "--config", "x.toml", "--config", "gone.toml"];
        let Output { status, stdout, stderr } =
            kubeml(directory.path(), &files).env("KUBEML__TASKS__LEESE", "3s").output().unwrap();
        let stderr = text(&stderr);
        assert_eq!((status.code(), stdout.len()), (Some(78), 0), "{stderr}");
        for problem in [
            "3 problems in the configuration:",
            "x.toml:2: http.lissten: unknown key; did you mean http.listen?",
            "gone.toml: cannot read this file: ",
            "KUBEML__TASKS__LEESE: unknown variable; did you mean KUBEML__TASKS__LEASE?",
        ] {
            assert!(stderr.contains(problem), "{problem} is not in\n{stderr}");
        }
    }
}
