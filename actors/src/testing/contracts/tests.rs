//! No promise is forgotten.

const SUITES: [&str; 7] = [
    include_str!("artifact_store.rs"),
    include_str!("chunk_cache.rs"),
    include_str!("dataset_source.rs"),
    include_str!("dataset_store.rs"),
    concat!(include_str!("event_log.rs"), include_str!("log_trim.rs")),
    include_str!("task_bus.rs"),
    concat!(include_str!("task_store.rs"), include_str!("task_lists.rs")),
];

#[test]
fn every_promise_is_listed_in_its_suite() {
    for suite in SUITES {
        let words: Vec<&str> = suite.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let functions = suite.split("pub async fn ").skip(1);
        for promise in functions.filter(|text| text.lines().next().is_some_and(|line| line.contains("open: impl"))) {
            let name = promise.split(['<', '(']).next().unwrap_or_default();
            assert_eq!(words.iter().filter(|word| **word == name).count(), 2, "{name} is to be in one list");
        }
    }
}
