//! How the code reads, kept by a test: sizes, what may know what, and what must not be there.
//!
//! Every check looks at the whole checkout and lists all offenders, each with its place and what to do.

use std::{
    fs,
    path::{Path, PathBuf},
};

use source::Source;

#[path = "tidy/manifest.rs"]
mod manifest;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/vocabulary.rs"]
mod vocabulary;

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 60;

/// `actors/` is the application: it sees edges through its ports only, so no crate of an edge is among these.
const ACTORS_MAY_DEPEND_ON: [&str; 16] = [
    "async-trait",
    "blake3",
    "bytes",
    "futures",
    "kubeml-actors", // its own feature "testing"
    "kubeml-spec",
    "prometheus",
    "proptest",
    "ractor",
    "serde",
    "serde_bytes",
    "sha2",
    "thiserror",
    "tokio",
    "tracing",
    "uuid",
];

/// `train/` is a library: no actors, no network, no clock, nothing asynchronous.
const TRAIN_MAY_DEPEND_ON: [&str; 16] = [
    "bytes",
    "candle-core",
    "candle-nn",
    "criterion",
    "flate2", // of an example
    "gemm",
    "kubeml-spec",
    "libm",
    "proptest",
    "rayon",
    "rmp-serde", // a checkpoint's header
    "safetensors",
    "serde",
    "serde_json", // of tests, which read fixtures
    "sha2",
    "thiserror",
];

/// `spec/` is words: no I/O, nothing asynchronous, no tensor.
const SPEC_MAY_DEPEND_ON: [&str; 7] = ["proptest", "serde", "serde_bytes", "serde_json", "sha2", "strsim", "thiserror"];

/// Of tokio, the application has tasks, channels and time. Files, sockets and processes are edges.
const TOKIO_FEATURES_OF_EDGES: [&str; 6] = ["fs", "full", "io-std", "net", "process", "signal"];

/// Crates that one place knows, so that they can be replaced there.
const KNOWN_IN_ONE_PLACE: [(&str, &[&str]); 6] = [
    ("bincode", &["src/codec.rs", "src/codec/"]),
    ("lz4_flex", &["src/codec.rs", "src/codec/"]),
    (
        "rmp_serde",
        &[
            "src/codec.rs",
            "src/codec/",
            "train/src/checkpoint/header.rs",
            "train/src/tests/",
            "tests/cluster/scenarios/newer.rs",
        ],
    ),
    ("rdkafka", &["src/edges/kafka.rs", "src/edges/kafka/", "tests/cluster/kafka/older_client.rs"]),
    (
        "scylla",
        &["src/edges/cassandra.rs", "src/edges/cassandra/", "tests/cluster/cassandra/", "tests/cluster/ha/servers.rs"],
    ),
    ("warp", &["src/http.rs", "src/http/"]),
];

/// In any code, spaces aside.
const FORBIDDEN: [(&str, &str); 11] = [
    ("OutputPort", "it drops messages silently; hand out a subscription that reads after a position"),
    ("ractor::registry", "no actor is found by name; pass its handle"),
    ("where_is(", "no actor is found by name; pass its handle"),
    ("spawn(Some(", "an actor has no global name: a restarted one would collide with itself; spawn it with None"),
    (
        "spawn_linked(Some(",
        "an actor has no global name: a restarted one would collide with itself; spawn it with None",
    ),
    ("spawn_instant(Some(", "an actor has no global name; spawn it with None"),
    ("spawn_linked_instant(Some(", "an actor has no global name; spawn it with None"),
    ("todo!", "write it, or leave it out"),
    ("unimplemented!", "write it, or leave it out"),
    ("#[ignore]", "a test that does not run proves nothing; make it run or remove it"),
    ("#[ignore=", "a test that does not run proves nothing; make it run or remove it"),
];

#[test]
fn files_are_short_and_say_what_they_are_for() {
    let mut offences = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            offences.push(format!("{}:{lines}: more than {FILE_LINES_MAX} lines; split it by duty", source.path));
        }
        if !source.text.starts_with("//!") {
            offences.push(format!("{}:1: begin it with //! and what the file is for", source.path));
        }
    }
    assert_none(&offences);
}

#[test]
fn functions_are_short() {
    let mut offences = Vec::new();
    for source in sources() {
        for function in source.functions().into_iter().filter(|function| function.lines > FUNCTION_LINES_MAX) {
            let (path, line, name, lines) = (&source.path, function.line, function.name, function.lines);
            offences.push(format!("{path}:{line}: {name} has {lines} lines of at most {FUNCTION_LINES_MAX}; split it"));
        }
    }
    assert_none(&offences);
}

#[test]
fn the_application_cannot_name_an_edge() {
    let manifest = read("actors/Cargo.toml");
    let advice = "an edge belongs behind a port, in src/edges";
    let mut offences = not_among(&manifest, "actors/Cargo.toml", &ACTORS_MAY_DEPEND_ON, advice);
    for feature in manifest::features_of(&manifest, "tokio") {
        if TOKIO_FEATURES_OF_EDGES.contains(&feature.as_str()) {
            offences.push(format!("actors/Cargo.toml: tokio's feature {feature:?} belongs to the edges; remove it"));
        }
    }
    assert_none(&offences);
}

#[test]
fn training_is_a_library_of_its_own() {
    let manifest = read("train/Cargo.toml");
    assert_none(&not_among(&manifest, "train/Cargo.toml", &TRAIN_MAY_DEPEND_ON, "what is no learning belongs in src"));
}

#[test]
fn the_words_of_a_training_are_a_leaf() {
    let advice = "what is not a word of a training belongs in another package";
    assert_none(&not_among(&read("spec/Cargo.toml"), "spec/Cargo.toml", &SPEC_MAY_DEPEND_ON, advice));
}

#[test]
fn a_technology_is_known_in_one_place() {
    let mut offences = Vec::new();
    for source in sources() {
        for (crate_name, places) in KNOWN_IN_ONE_PLACE {
            if places.iter().any(|place| source.path.starts_with(place)) {
                continue;
            }
            for line in source.lines_with_word(crate_name) {
                offences.push(format!("{}:{line}: only {} may name {crate_name}", source.path, places.join(" and ")));
            }
        }
    }
    assert_none(&offences);
}

#[test]
fn nothing_forbidden_is_used() {
    let mut offences = Vec::new();
    for source in sources() {
        for (pattern, instead) in FORBIDDEN {
            for line in source.lines_with_code(pattern) {
                offences.push(format!("{}:{line}: {pattern} is not used here: {instead}", source.path));
            }
        }
    }
    assert_none(&offences);
}

#[test]
fn no_file_names_a_directory_of_somebodys_machine() {
    // Put together here, or this file would be the first offender.
    let forbidden = [["/wo", "rk/"].concat(), ["/ro", "ot/"].concat()];
    let mut offences = Vec::new();
    for path in files_below(Path::new("")) {
        let bytes = fs::read(root().join(&path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for (index, line) in String::from_utf8_lossy(&bytes).lines().enumerate() {
            for found in forbidden.iter().filter(|forbidden| line.contains(*forbidden)) {
                let place = format!("{}:{}", path.display(), index + 1);
                offences.push(format!("{place}: {found} exists on one machine only; say it relative to the checkout"));
            }
        }
    }
    assert_none(&offences);
}

#[test]
fn decision_records_are_numbered() {
    let mut offences = Vec::new();
    let mut numbers: Vec<(String, PathBuf)> = Vec::new();
    for path in files_below(Path::new("docs/adr")) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let number = name.split_once('-').map(|(number, _)| number).unwrap_or_default();
        if number.len() != 4 || !number.bytes().all(|byte| byte.is_ascii_digit()) || !name.ends_with(".md") {
            offences.push(format!("{}: name it NNNN-what-was-decided.md", path.display()));
        } else if let Some((_, other)) = numbers.iter().find(|(taken, _)| taken == number) {
            offences.push(format!("{}: its number is that of {}; take the next", path.display(), other.display()));
        }
        numbers.push((number.to_owned(), path));
    }
    assert_none(&offences);
}

fn not_among(manifest: &str, path: &str, allowed: &[&str], advice: &str) -> Vec<String> {
    let dependencies = manifest::dependencies(manifest);
    let strangers = dependencies.iter().filter(|name| !allowed.contains(&name.as_str()));
    strangers.map(|name| format!("{path}: may not depend on {name}: {advice}, or allow it in tests/tidy.rs")).collect()
}

/// Every Rust file of every package.
fn sources() -> Vec<Source> {
    let packages = ["", "actors", "spec", "train", "xtask"];
    let dirs = packages
        .iter()
        .flat_map(|package| ["src", "tests", "benches", "examples"].map(|dir| Path::new(package).join(dir)));
    let files = dirs.flat_map(|dir| files_below(&dir));
    let rust = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.map(|path| Source::new(path.display().to_string(), read(&path))).collect()
}

/// The paths of all files of a directory of the checkout, in order, without what `.gitignore` names.
fn files_below(dir: &Path) -> Vec<PathBuf> {
    let ignored = read(".gitignore");
    let ignored: Vec<_> = ignored.lines().filter_map(|line| line.strip_prefix('/')).chain([".git"]).collect();
    let mut files = Vec::new();
    let mut unvisited = vec![dir.to_owned()];
    while let Some(dir) = unvisited.pop() {
        let Ok(entries) = fs::read_dir(root().join(&dir)) else { continue };
        for entry in entries.flatten() {
            let path = dir.join(entry.file_name());
            match entry.file_type() {
                _ if ignored.iter().any(|ignored| path == Path::new(ignored)) => {}
                Ok(kind) if kind.is_dir() => unvisited.push(path),
                Ok(kind) if kind.is_file() => files.push(path),
                _ => {}
            }
        }
    }
    files.sort();
    files
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn assert_none(offences: &[String]) {
    assert!(offences.is_empty(), "{} untidy:\n{}\n", offences.len(), offences.join("\n"));
}
