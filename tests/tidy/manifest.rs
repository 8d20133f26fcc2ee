//! What a Cargo.toml depends on, in whichever table it says so.

use toml::{Table, Value};

/// The real names of all dependencies: of the library, of its tests and of its build, on every platform.
pub fn dependencies(manifest: &str) -> Vec<String> {
    let mut names: Vec<_> = entries(manifest).into_iter().map(|(name, value)| real_name(name, &value)).collect();
    names.sort();
    names.dedup();
    names
}

/// The features that a manifest asks of one dependency.
pub fn features_of(manifest: &str, dependency: &str) -> Vec<String> {
    let asked = entries(manifest).into_iter().filter(|(name, _)| name == dependency);
    let features = asked.filter_map(|(_, value)| value.get("features")?.as_array().cloned()).flatten();
    features.filter_map(|feature| feature.as_str().map(str::to_owned)).collect()
}

fn entries(manifest: &str) -> Vec<(String, Value)> {
    let manifest: Table = manifest.parse().expect("cargo has read this manifest already");
    let platforms = manifest.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values);
    let places = platforms.filter_map(Value::as_table).chain([&manifest]);
    let tables = places.flat_map(|place| place.iter().filter(|(key, _)| key.ends_with("dependencies")));
    let entries = tables.filter_map(|(_, table)| table.as_table()).flatten();
    entries.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// `alias = { package = "name" }` hides the name.
fn real_name(key: String, value: &Value) -> String {
    value.get("package").and_then(Value::as_str).map_or(key, str::to_owned)
}

#[test]
fn every_table_of_dependencies_is_read() {
    let manifest = r#"
        [package]
        name = "example"
        [dependencies]
        tokio = { version = "1", features = ["net"] }
        alias = { package = "redis", version = "1" }
        [dev-dependencies.proptest]
        version = "1"
        [build-dependencies]
        cc = "1"
        [target.'cfg(unix)'.dependencies]
        libc = "0.2"
    "#;
    assert_eq!(dependencies(manifest), ["cc", "libc", "proptest", "redis", "tokio"]);
    assert_eq!(features_of(manifest, "tokio"), ["net"]);
}
