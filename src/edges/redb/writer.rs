//! The one thread that writes `state.redb`: it commits everything that waits together.
//!
//! The next commit takes all that arrived during the last one, so a lone write waits for nobody and a crowd shares one
//! sync of the disk. Nobody is answered before the commit.

use std::{sync::Arc, thread};

use kubeml_actors::ports::PortError;
use tokio::sync::{mpsc, oneshot};

use super::{
    file::{Commit, Fault, StoreFile},
    tables::Tables,
};

#[cfg(test)]
mod tests;

/// Callers wait when this many operations do.
const WAITING_MAX: usize = 1024;
const BATCH_MAX: usize = 256;

/// Ends with its queue empty when it is dropped.
pub(super) struct Writer {
    operations: Option<mpsc::Sender<Box<dyn Operation>>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Something to be done in a transaction that others share. It refuses before it writes, and can be done over, in a
/// transaction of its own.
trait Operation: Send {
    fn apply(&mut self, tables: &mut Tables<'_>) -> Result<(), Fault>;

    /// After the commit, which may have failed.
    fn answer(self: Box<Self>, committed: Result<(), PortError>);
}

struct Asked<T, F> {
    act: F,
    outcome: Option<Result<T, PortError>>,
    reply: oneshot::Sender<Result<T, PortError>>,
}

impl Writer {
    /// `on_head` hears of the newest position after each commit.
    pub(super) fn start(file: Arc<StoreFile>, on_head: impl Fn(u64) + Send + 'static) -> Result<Self, PortError> {
        let (operations, mut waiting) = mpsc::channel(WAITING_MAX);
        let place = file.place();
        let work = move || {
            let mut batch = Vec::new();
            while waiting.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
                write_batch(&file, std::mem::take(&mut batch), &on_head);
            }
        };
        let thread = thread::Builder::new().name("state-writer".to_owned()).spawn(work);
        let thread =
            thread.map_err(|error| PortError::Unavailable(format!("{place}: cannot start its writer: {error}")))?;
        Ok(Self { operations: Some(operations), thread: Some(thread) })
    }

    /// Does `act` and returns when it is durable. Cancelling this future does not take `act` back.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        act: impl Fn(&mut Tables<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, PortError> {
        let (reply, answer) = oneshot::channel();
        let ended = || PortError::Unavailable("the state's writer has ended".to_owned());
        let operations = self.operations.as_ref().ok_or_else(ended)?;
        operations.send(Box::new(Asked { act, outcome: None, reply })).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.operations = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl<T: Send, F: Fn(&mut Tables<'_>) -> Result<T, Fault> + Send> Operation for Asked<T, F> {
    fn apply(&mut self, tables: &mut Tables<'_>) -> Result<(), Fault> {
        match (self.act)(tables) {
            Ok(done) => self.outcome = Some(Ok(done)),
            Err(Fault::Refused(error)) => self.outcome = Some(Err(error)),
            Err(fault) => return Err(fault),
        }
        Ok(())
    }

    fn answer(self: Box<Self>, committed: Result<(), PortError>) {
        let Self { outcome, reply, .. } = *self;
        let not_reached = || Err(PortError::Unavailable("the write was not reached".to_owned()));
        // Whoever asked may have gone.
        let _ = reply.send(committed.and_then(|()| outcome.unwrap_or_else(not_reached)));
    }
}

fn write_batch(file: &StoreFile, mut batch: Vec<Box<dyn Operation>>, on_head: &impl Fn(u64)) {
    let written = write_together(file, &mut batch);
    let one_is_to_blame = written.as_ref().is_err_and(|error| !error.is_transient());
    if one_is_to_blame && batch.len() > 1 {
        // Nothing has been written: each has another try alone.
        for operation in batch {
            write_batch(file, vec![operation], on_head);
        }
        return;
    }
    if let Ok(head) = written {
        on_head(head);
    }
    if let Err(error) = &written {
        tracing::error!(%error, "a write to the state failed");
    }
    for operation in batch {
        operation.answer(written.clone().map(drop));
    }
}

/// Returns the newest position.
fn write_together(file: &StoreFile, batch: &mut [Box<dyn Operation>]) -> Result<u64, PortError> {
    let place = file.place();
    file.write(|transaction| {
        let mut tables = Tables::open(transaction, &place)?;
        for operation in batch {
            operation.apply(&mut tables)?;
        }
        let commit = if tables.has_changed() { Commit::Needed } else { Commit::Nothing };
        Ok((tables.head()?, commit))
    })
}
