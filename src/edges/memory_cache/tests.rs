//! The bounds of the embedded cache.

use super::*;

#[tokio::test]
async fn values_are_bounded() -> Result<(), PortError> {
    let cache = MokaChunkCache::new(1 << 20);
    let value = "x".repeat(10_000);
    for n in 0..200 {
        cache.put_value(&n.to_string(), value.clone()).await?;
    }
    cache.values.run_pending_tasks().await;
    assert!(cache.values.weighted_size() <= VALUE_BYTES_MAX);
    Ok(())
}
