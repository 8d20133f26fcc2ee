//! What the bus has said since the pool last looked.

use std::sync::{Arc, Mutex, PoisonError};

use crate::ports::Hint;

/// Hints that came in since the pool last looked: however many, they say the same.
#[derive(Clone, Default)]
pub(super) struct Hints(Arc<Mutex<Vec<Hint>>>);

impl Hints {
    /// Whether it is the first.
    pub(super) fn add(&self, hint: Hint) -> bool {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(hint);
        waiting.len() == 1
    }

    pub(super) fn take(&self) -> Vec<Hint> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
