//! What every [`DatasetStore`] promises.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Kept,
    samples::{dataset, noise},
};
use crate::{
    dataset::{CHUNK_BYTES, ChunkHash},
    ports::{DatasetStore, PortError},
};

/// `$open` gives an `async || -> Arc<impl DatasetStore>`.
#[macro_export]
macro_rules! dataset_store_contract {
    ($open:expr) => {
        $crate::contract_tests!(
            dataset_store,
            $open,
            [
                chunks_of_all_sizes_read_back,
                an_unknown_chunk_is_not_found,
                a_chunk_can_be_written_again,
                a_chunk_under_another_hash_is_rejected,
                a_manifest_without_one_of_its_chunks_is_rejected,
                a_manifest_makes_its_dataset_visible,
                a_newer_version_takes_the_place_of_the_older,
                manifests_come_by_name,
                a_whole_dataset_comes_back,
                a_chunk_is_no_part_of_a_larger_buffer,
                datasets_outlive_their_process,
            ]
        );
    };
}

pub async fn chunks_of_all_sizes_read_back<S: DatasetStore + 'static>(open: impl AsyncFn() -> Arc<S>) -> Kept {
    let store = open().await;
    let mut chunks = Vec::new();
    for length in [0, 1, 1000, CHUNK_BYTES - 1, CHUNK_BYTES] {
        chunks.push(Bytes::from(vec![7; length]));
        chunks.push(noise(length, 1));
    }
    let hashed: Vec<(ChunkHash, Bytes)> = chunks.into_iter().map(|chunk| (ChunkHash::of(&chunk), chunk)).collect();
    store.put_chunks(&hashed).await?;
    for (hash, chunk) in hashed {
        assert!(store.get_chunk(hash).await? == chunk, "a chunk of {} bytes", chunk.len());
    }
    Ok(())
}

/// What a cache keeps is as large as it says.
pub async fn a_chunk_is_no_part_of_a_larger_buffer<S: DatasetStore + 'static>(open: impl AsyncFn() -> Arc<S>) -> Kept {
    let store = open().await;
    let chunk = noise(10_000, 1).slice(..1_000);
    let hash = ChunkHash::of(&chunk);
    store.put_chunks(&[(hash, chunk)]).await?;
    let alone = store.get_chunk(hash).await?.try_into_mut().expect("nobody else holds the bytes");
    assert!(alone.capacity() <= 2 * alone.len(), "{} bytes hold {}", alone.len(), alone.capacity());
    Ok(())
}

pub async fn an_unknown_chunk_is_not_found<S: DatasetStore + 'static>(open: impl AsyncFn() -> Arc<S>) -> Kept {
    let answer = open().await.get_chunk(ChunkHash([1; 32])).await;
    assert!(matches!(answer, Err(PortError::NotFound(_))), "{answer:?}");
    Ok(())
}

pub async fn a_chunk_can_be_written_again<S: DatasetStore + 'static>(open: impl AsyncFn() -> Arc<S>) -> Kept {
    let store = open().await;
    let chunk = noise(100, 1);
    let hash = ChunkHash::of(&chunk);
    store.put_chunks(&[(hash, chunk.clone()), (hash, chunk.clone())]).await?;
    store.put_chunks(&[(hash, chunk.clone())]).await?;
    store.put_chunks(&[]).await?;
    assert_eq!(store.get_chunk(hash).await?, chunk);
    Ok(())
}

pub async fn a_chunk_under_another_hash_is_rejected<S: DatasetStore + 'static>(open: impl AsyncFn() -> Arc<S>) -> Kept {
    let store = open().await;
    let (good, wrong) = (noise(100, 1), ChunkHash([1; 32]));
    let answer = store.put_chunks(&[(ChunkHash::of(&good), good.clone()), (wrong, good)]).await;
    assert!(matches!(answer, Err(PortError::Rejected(_))), "{answer:?}");
    let answer = store.get_chunk(wrong).await;
    assert!(matches!(answer, Err(PortError::NotFound(_))), "{answer:?}");
    Ok(())
}

pub async fn a_manifest_without_one_of_its_chunks_is_rejected<S: DatasetStore + 'static>(
    open: impl AsyncFn() -> Arc<S>,
) -> Kept {
    let store = open().await;
    let (manifest, chunks) = dataset("digits", 1).cut();
    for missing in 0..chunks.len() {
        let but_one: Vec<_> = chunks.iter().filter(|chunk| chunk.0 != chunks[missing].0).cloned().collect();
        let fresh = if missing == 0 { but_one } else { Vec::new() };
        store.put_chunks(&fresh).await?;
        let answer = store.put_manifest(&manifest).await;
        assert!(matches!(answer, Err(PortError::Rejected(_))), "{answer:?}");
    }
    assert_eq!(store.manifest("digits").await?, None);
    assert_eq!(store.manifests().await?, []);
    Ok(())
}

pub async fn a_manifest_makes_its_dataset_visible<S: DatasetStore + 'static>(open: impl AsyncFn() -> Arc<S>) -> Kept {
    let store = open().await;
    let (manifest, chunks) = dataset("digits", 1).cut();
    store.put_chunks(&chunks).await?;
    assert_eq!(store.manifest("digits").await?, None);
    store.put_manifest(&manifest).await?;
    assert_eq!(store.manifest("digits").await?, Some(manifest));
    assert_eq!(store.manifest("digit").await?, None);
    Ok(())
}

pub async fn a_newer_version_takes_the_place_of_the_older<S: DatasetStore + 'static>(
    open: impl AsyncFn() -> Arc<S>,
) -> Kept {
    let store = open().await;
    for seed in [1, 2] {
        let (manifest, chunks) = dataset("digits", seed).cut();
        store.put_chunks(&chunks).await?;
        store.put_manifest(&manifest).await?;
        store.put_manifest(&manifest).await?;
        assert_eq!(store.manifests().await?, [manifest]);
    }
    Ok(())
}

pub async fn manifests_come_by_name<S: DatasetStore + 'static>(open: impl AsyncFn() -> Arc<S>) -> Kept {
    let store = open().await;
    for name in ["mnist", "a", "mnist-10k", "z"] {
        let (manifest, chunks) = dataset(name, 1).cut();
        store.put_chunks(&chunks).await?;
        store.put_manifest(&manifest).await?;
    }
    let names: Vec<String> = store.manifests().await?.into_iter().map(|manifest| manifest.name).collect();
    assert_eq!(names, ["a", "mnist", "mnist-10k", "z"]);
    Ok(())
}

pub async fn a_whole_dataset_comes_back<S: DatasetStore + 'static>(open: impl AsyncFn() -> Arc<S>) -> Kept {
    let store = open().await;
    let raw = dataset("digits", 1);
    let (manifest, chunks) = raw.cut();
    store.put_chunks(&chunks).await?;
    store.put_manifest(&manifest).await?;
    let stored = store.manifest("digits").await?.expect("it is visible");
    let mut read = Vec::new();
    for hash in stored.chunks() {
        read.push((hash, store.get_chunk(hash).await?));
    }
    let assembled = stored.assemble(&read).expect("its chunks are its own");
    assert!(assembled.train == raw.train && assembled.test == raw.test);
    Ok(())
}

pub async fn datasets_outlive_their_process<S: DatasetStore + 'static>(open: impl AsyncFn() -> Arc<S>) -> Kept {
    let store = open().await;
    let (manifest, chunks) = dataset("digits", 1).cut();
    store.put_chunks(&chunks).await?;
    store.put_manifest(&manifest).await?;
    drop(store);
    let store = open().await;
    assert_eq!(store.manifests().await?, [manifest]);
    assert!(store.get_chunk(chunks[0].0).await? == chunks[0].1);
    Ok(())
}
