//! KubeML's edges and assembly: everything that knows a technology.
//!
//! `node` puts the parts together; `edges` holds the adapters of `kubeml-actors`' ports; `engine` binds training;
//! `http` and `cli` are the ways in.

pub mod cli;
pub mod codec;
pub mod config;
pub mod edges;
pub mod engine;
pub mod http;
pub mod node;
pub mod wire;
