//! Permits for chunks on their way: the database bounds the bytes in flight by its heap, and answers more with timeouts.

use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::CassandraConfig;

/// Shared by everything in the process that moves chunks.
#[derive(Clone)]
pub struct ChunkPermits {
    permits: Arc<Semaphore>,
    at_once: usize,
}

impl ChunkPermits {
    pub fn new(config: &CassandraConfig) -> Self {
        let at_once = config.chunk_requests_max;
        Self { permits: Arc::new(Semaphore::new(at_once)), at_once }
    }

    /// How many of one caller's requests are worth having at a time.
    pub(super) fn at_once(&self) -> usize {
        self.at_once
    }

    pub(super) async fn one(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.permits.acquire().await.ok()
    }
}
