//! The real binary as real processes: killed, terminated, crashed from inside, and asked from outside.

#![allow(clippy::unwrap_used)]

mod process {
    mod cli;
    mod faults;
    mod golden;
    mod killed;
    mod server;
    mod stream;
    mod terminated;
}
