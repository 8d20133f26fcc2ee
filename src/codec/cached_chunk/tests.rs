//! Chunks read back from a cache, and nothing that a cache may hold does harm.

use kubeml_actors::testing::contracts::samples::noise;
use proptest::{collection::vec, prelude::*};

use super::*;

fn wrapped(chunk: &[u8]) -> (ChunkHash, Vec<u8>) {
    let hash = ChunkHash::of(chunk);
    (hash, wrap(hash, chunk).expect("it is no longer than a chunk"))
}

fn unwrapped(hash: ChunkHash, bytes: &[u8]) -> Result<Bytes, CodecError> {
    unwrap(hash, &Bytes::copy_from_slice(bytes))
}

#[test]
fn chunks_read_back_and_their_heads_say_how_long_they_are() {
    for length in [0, 1, 300, 70_000, CHUNK_BYTES] {
        let chunk = noise(length, 1);
        let (hash, bytes) = wrapped(&chunk);
        assert!(bytes.len() <= WRAPPED_BYTES_MAX);
        assert!(unwrapped(hash, &bytes) == Ok(chunk), "{length} bytes");
        let start = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
        assert_eq!(head(start), Ok(CachedChunk { hash, length: u32::try_from(length).unwrap() }));
    }
}

/// Caches are shared by versions: when this fails, the head's format has changed.
#[test]
fn the_head_is_what_it_was() {
    let head = CachedChunk { hash: ChunkHash([7; 32]), length: 1 << 20 }.encode().unwrap();
    let hex: String = head.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, include_str!("../golden/cached_chunk_v1.hex").trim());
}

#[test]
fn a_chunk_that_is_too_long_is_not_wrapped() {
    let long = vec![0; CHUNK_BYTES + 1];
    let refused = wrap(ChunkHash::of(&long), &long);
    assert!(matches!(refused, Err(CodecError::TooLong { bytes, .. }) if bytes == CHUNK_BYTES + 1));
}

#[test]
fn a_chunk_under_anothers_name_is_refused() {
    let (_, bytes) = wrapped(b"seven");
    assert!(matches!(unwrapped(ChunkHash::of(b"eight"), &bytes), Err(CodecError::Malformed { .. })));
}

#[test]
fn a_head_of_another_version_is_refused() {
    let (hash, mut bytes) = wrapped(b"seven");
    bytes[1] = 2;
    assert!(matches!(unwrapped(hash, &bytes), Err(CodecError::Damaged { .. })));
    let newer = super::super::tests::in_format(NAME, &bytes[1..=usize::from(bytes[0])], 2);
    bytes.splice(1..=usize::from(bytes[0]), newer);
    assert_eq!(unwrapped(hash, &bytes), Err(CodecError::Newer { name: "cached chunk", format: 2, known: 1 }));
}

#[test]
fn a_head_that_lies_about_the_length_is_refused() {
    let (chunk, hash) = (b"seven", ChunkHash::of(b"seven"));
    let head = CachedChunk { hash, length: u32::MAX }.encode().unwrap();
    let bytes = [&[u8::try_from(head.len()).unwrap()], head.as_slice(), chunk].concat();
    assert!(matches!(unwrapped(hash, &bytes), Err(CodecError::Malformed { .. })));
}

proptest! {
    #[test]
    fn random_bytes_are_refused(bytes in vec(any::<u8>(), 0..600)) {
        prop_assert!(head(&bytes).is_err());
        prop_assert!(unwrapped(ChunkHash([1; 32]), &bytes).is_err());
    }

    #[test]
    fn bytes_cut_short_are_refused(length in any::<prop::sample::Index>()) {
        let (hash, bytes) = wrapped(&noise(1000, 1));
        prop_assert!(unwrapped(hash, &bytes[..length.index(bytes.len())]).is_err());
    }

    /// Behind the head it may go unnoticed here: the chunk's hash tells.
    #[test]
    fn a_changed_byte_is_refused_or_changes_the_chunk(at in any::<prop::sample::Index>(), flip in 1..=u8::MAX) {
        let (hash, mut bytes) = wrapped(&vec![7; 5000]);
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let read = unwrapped(hash, &bytes);
        prop_assert!(read.is_err() || read.is_ok_and(|chunk| chunk.len() == 5000));
    }
}
