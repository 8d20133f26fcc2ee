//! What `cargo xtask` does beside running tests.

pub mod cluster;
pub mod services;
