//! The contract suites on Redis.
