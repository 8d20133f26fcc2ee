//! For tests, here and in the packages that bring adapters.

pub mod contracts;
pub mod faulty;
pub mod scripted_engine;
pub mod test_tree;
pub mod tokio_clock;
