//! What chores and tests share.

pub mod services;
