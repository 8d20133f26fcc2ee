//! The section is replaced, and nothing else.

use super::*;

#[test]
fn only_what_lies_between_the_markers_is_replaced() {
    let (begin, end) = markers("this");
    let document = format!("# a\n\n{begin}\nold\n{end}\n\n<!-- bench that -->\n");
    let new = with_section(&document, "this", "new\n").unwrap();
    assert_eq!(new, format!("# a\n\n{begin}\nnew\n{end}\n\n<!-- bench that -->\n"));
    assert_eq!(with_section(&new, "this", "new\n").unwrap(), new);
    for broken in ["", &begin, &format!("{end}{begin}"), &format!("{document}{document}")] {
        assert!(with_section(broken, "this", "new\n").is_err(), "{broken}");
    }
}

#[test]
fn the_document_has_its_sections_and_the_servers_have_versions() {
    let document = include_str!("../../../../docs/performance.md");
    for section in ["cluster", "embedded", "train"] {
        assert!(with_section(document, section, "").is_ok(), "{section}");
    }
    assert!(version_of(KAFKA_POM, "kafka_2.13").is_some() && version_of(CASSANDRA_POM, "cassandra-all").is_some());
}
