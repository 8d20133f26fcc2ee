//! The adapters: one technology, one file or folder, its config beside it.

pub mod cassandra;
pub mod cluster;
pub mod data_dir;
pub mod files;
pub mod history;
pub mod kafka;
pub mod memory_cache;
pub mod mnist;
pub mod redb;
pub mod redis;
