//! The section is replaced, and nothing else.

use super::*;

#[test]
fn only_what_lies_between_the_markers_is_replaced() {
    let document = format!("# a\n\n{BEGIN}\nold\n{END}\n\nb\n");
    let new = with_section(&document, "new\n").unwrap();
    assert_eq!(new, format!("# a\n\n{BEGIN}\nnew\n{END}\n\nb\n"));
    assert_eq!(with_section(&new, "new\n").unwrap(), new);
    for broken in ["", BEGIN, &format!("{END}{BEGIN}"), &format!("{document}{document}")] {
        assert!(with_section(broken, "new\n").is_err(), "{broken}");
    }
}

#[test]
fn the_document_has_a_section_and_the_servers_have_versions() {
    let document = include_str!("../../../../docs/performance.md");
    assert!(with_section(document, "").is_ok());
    assert!(version_of(KAFKA_POM, "kafka_2.13").is_some() && version_of(CASSANDRA_POM, "cassandra-all").is_some());
}
