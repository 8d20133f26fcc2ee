//! The actors on virtual time: every way a task can be disturbed, and what becomes of it.

#![allow(clippy::unwrap_used)]

mod actors {
    mod cluster;
    mod crashes;
    mod datasets;
    mod log;
    mod restarts;
    mod retention;
    mod shutdown;
    mod simulation;
    mod tasks;
}
