//! The contract suites on Apache Kafka.
