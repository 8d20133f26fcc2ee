//! Real Kafka, Cassandra and Redis on this machine, from packages: no container engine needed.
