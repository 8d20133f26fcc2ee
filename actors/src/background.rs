//! Work beside the mailboxes: tokio tasks that an actor starts and hears of again.

use tokio::task::JoinHandle;

/// Ends a task together with the actor that holds this: after a panic or a kill no hook runs, but the state is dropped.
pub struct AbortOnDrop(pub JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An adapter may panic: then who waits for it hears of that, and does not wait for ever.
pub async fn unless_it_panics<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Option<T> {
    tokio::spawn(work).await.inspect_err(|error| tracing::error!(%error, "work beside an actor ended badly")).ok()
}
