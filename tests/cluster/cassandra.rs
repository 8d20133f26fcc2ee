//! The adapters on Apache Cassandra: the contracts of their ports, and what only they promise.

#[path = "cassandra/contracts.rs"]
mod contracts;
#[path = "cassandra/damage.rs"]
mod damage;
#[path = "cassandra/keyspace.rs"]
mod keyspace;
#[path = "cassandra/lost_replies.rs"]
mod lost_replies;
#[path = "cassandra/outbox.rs"]
mod outbox;
#[path = "cassandra/proxy.rs"]
mod proxy;
#[path = "cassandra/queue.rs"]
mod queue;
#[path = "cassandra/rows.rs"]
pub mod rows;
#[path = "cassandra/schema.rs"]
mod schema;
#[path = "cassandra/telling.rs"]
mod telling;
#[path = "cassandra/unreadable.rs"]
mod unreadable;
