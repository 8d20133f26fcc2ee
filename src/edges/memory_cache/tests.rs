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

#[tokio::test]
async fn a_chunk_does_not_keep_the_buffer_that_it_was_cut_from() -> Result<(), PortError> {
    let cache = MokaChunkCache::new(1 << 20);
    let whole = Bytes::from(vec![7; 1000]);
    let hash = ChunkHash::of(&whole[..10]);
    cache.put(hash, whole.slice(..10)).await?;
    // Only the last owner of a buffer gets it back.
    assert!(whole.try_into_mut().is_ok());
    assert_eq!(cache.get(hash).await?.as_deref(), Some([7; 10].as_slice()));
    Ok(())
}
