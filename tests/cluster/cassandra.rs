//! The contract suites on Apache Cassandra.
