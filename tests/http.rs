//! The HTTP API over a real socket: a node's actors on in-memory ports with a scripted engine, asked by a real client.

#[path = "http/bad_input.rs"]
mod bad_input;
#[path = "http/events.rs"]
mod events;
#[path = "http/older_clients.rs"]
mod older_clients;
#[path = "http/operations.rs"]
mod operations;
#[path = "http/server.rs"]
mod server;
#[path = "http/stream.rs"]
mod stream;
#[path = "http/tasks.rs"]
mod tasks;
