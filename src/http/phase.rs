//! How far a server's life is: serving, draining (no new work, everything else goes on), closing (streams say goodbye).

use std::sync::Arc;

use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Serving,
    Draining,
    Closing,
}

/// Whoever holds a clone may move it on; it never goes back.
#[derive(Clone, Debug)]
pub struct Phase(Arc<watch::Sender<Stage>>);

impl Phase {
    pub fn serving() -> Self {
        Self(Arc::new(watch::channel(Stage::Serving).0))
    }

    /// From now on `/readyz` answers 503 and nothing new is taken.
    pub fn drain(&self) {
        self.advance(Stage::Draining);
    }

    /// Streams end, connections close, `serve` returns.
    pub fn close(&self) {
        self.advance(Stage::Closing);
    }

    pub fn is_draining(&self) -> bool {
        *self.0.borrow() >= Stage::Draining
    }

    /// Returns as soon as the server is closing.
    pub async fn closing(&self) {
        // An error would mean that the sender is gone, which `self` holds.
        let _ = self.0.subscribe().wait_for(|stage| *stage == Stage::Closing).await;
    }

    fn advance(&self, to: Stage) {
        self.0.send_if_modified(|stage| {
            let forward = *stage < to;
            if forward {
                *stage = to;
            }
            forward
        });
    }
}
