//! Datasets are cut, named by their content, and put together again unchanged or not at all.

use proptest::{
    prelude::{ProptestConfig, any, prop_assert_eq, proptest},
    test_runner::RngSeed,
};

use super::*;

fn raw(height: u32, width: u32, train: usize, test: usize) -> RawDataset {
    let split = |samples: usize, salt: u8| {
        let byte = |at: usize| (at % 251) as u8 ^ salt;
        RawSplit {
            images: (0..samples * (height * width) as usize).map(byte).collect(),
            labels: (0..samples).map(|at| (at % 10) as u8).collect(),
        }
    };
    RawDataset { name: "digits".to_owned(), classes: 10, height, width, train: split(train, 0), test: split(test, 7) }
}

fn refused_chunk(manifest: &Manifest, chunks: &[(ChunkHash, Bytes)]) -> usize {
    match manifest.assemble(chunks) {
        Err(DatasetError::Chunk { index, .. }) => index,
        other => panic!("expected a refused chunk, found {other:?}"),
    }
}

/// Two chunks of images and one of labels in the training split, one of each in the test split.
fn five_chunks() -> (Manifest, Vec<(ChunkHash, Bytes)>) {
    let (manifest, chunks) = raw(1, 2, CUT_BYTES / 2 + 1, 1).cut();
    assert_eq!(chunks.len(), 5);
    (manifest, chunks)
}

#[track_caller]
fn assert_round_trip(raw: &RawDataset) {
    let (manifest, chunks) = raw.cut();
    assert!(manifest.chunks().eq(chunks.iter().map(|(hash, _)| *hash)));
    assert!(chunks.iter().all(|(hash, bytes)| !bytes.is_empty() && *hash == ChunkHash::of(bytes)));
    assert_eq!(manifest.bytes(), chunks.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>());
    let dataset = manifest.assemble(&chunks).expect("nothing is missing");
    assert!(dataset.train == raw.train && dataset.test == raw.test);
}

#[test]
fn what_is_cut_is_put_together_unchanged_at_every_edge_of_a_chunk() {
    for samples in [1, CUT_BYTES - 1, CUT_BYTES, CUT_BYTES + 1] {
        assert_round_trip(&raw(1, 1, samples, 1));
        assert_round_trip(&raw(1, 2, 1, samples));
    }
}

#[test]
fn only_a_splits_last_chunk_is_smaller() {
    let (manifest, chunks) = raw(1, 1, 2 * CUT_BYTES + 3, CUT_BYTES).cut();
    let sizes: Vec<usize> = chunks.iter().map(|(_, bytes)| bytes.len()).collect();
    assert_eq!(sizes, [CUT_BYTES, CUT_BYTES, 3, CUT_BYTES, CUT_BYTES, 3, CUT_BYTES, CUT_BYTES]);
    let counts = [&manifest.train, &manifest.test].map(|split| (split.images.len(), split.labels.len()));
    assert_eq!(counts, [(3, 3), (1, 1)]);
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..ProptestConfig::with_cases(128)
    })]

    #[test]
    fn whatever_is_cut_is_put_together_unchanged(
        height in 1_u32..8, width in 1_u32..8, train in 1_usize..200, test in 1_usize..200,
    ) {
        assert_round_trip(&raw(height, width, train, test));
    }

    #[test]
    fn one_flipped_bit_anywhere_is_refused(chunk in 0_usize..4, at in any::<usize>(), bit in 0_u8..8) {
        let (manifest, mut chunks) = raw(3, 3, 20, 10).cut();
        let mut bytes = chunks[chunk].1.to_vec();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        chunks[chunk] = (ChunkHash::of(&bytes), bytes.into());
        prop_assert_eq!(refused_chunk(&manifest, &chunks), chunk);
    }
}

#[test]
fn a_missing_chunk_is_refused_and_named() {
    for missing in 0..5 {
        let (manifest, mut chunks) = five_chunks();
        chunks.remove(missing);
        assert_eq!(refused_chunk(&manifest, &chunks), missing);
    }
    let (manifest, chunks) = five_chunks();
    let error = manifest.assemble(&chunks[..4]).expect_err("the last one is missing");
    assert_eq!(error.to_string(), "dataset digits: chunk 4 of 5 is missing, out of place or not one of the manifest's");
}

#[test]
fn chunks_in_another_order_are_refused() {
    for first in 0..4 {
        let (manifest, mut chunks) = five_chunks();
        chunks.swap(first, first + 1);
        assert_eq!(refused_chunk(&manifest, &chunks), first);
    }
}

#[test]
fn a_chunk_too_many_is_refused() {
    let (manifest, mut chunks) = five_chunks();
    chunks.push((ChunkHash::of(b"more"), Bytes::from_static(b"more")));
    assert_eq!(refused_chunk(&manifest, &chunks), 5);
}

#[test]
fn a_dataset_is_known_by_its_content() {
    let (manifest, _) = raw(2, 3, 4, 2).cut();
    assert_eq!(manifest.sha256, "ad97cd3a9142e0d578e9b2cdf725c72a42f2d97297dc8cfd39b24632abd4cf99");
    assert_eq!(manifest.version, manifest.sha256[..12]);
    assert_eq!(
        manifest.train.labels[0].to_string(),
        "f30f5ab28fe047904037f77b6da4fea1e27241c5d132638d8bedce9d40494f32"
    );
}

#[test]
fn every_change_of_the_content_is_another_version_and_a_change_of_name_is_none() {
    let version = |change: fn(&mut RawDataset)| {
        let mut raw = raw(2, 3, 6, 6);
        change(&mut raw);
        raw.cut().0.version
    };
    let unchanged = version(|_| ());
    assert_eq!(version(|raw| raw.name = "other".to_owned()), unchanged);
    let changes: [fn(&mut RawDataset); 6] = [
        |raw| raw.classes = 11,
        |raw| (raw.height, raw.width) = (3, 2),
        |raw| raw.train.images = raw.train.images.iter().rev().copied().collect(),
        |raw| raw.train.labels = raw.train.labels.iter().rev().copied().collect(),
        |raw| raw.test.labels = raw.train.labels.iter().rev().copied().collect(),
        |raw| std::mem::swap(&mut raw.train, &mut raw.test),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        assert_ne!(version(change), unchanged, "change {index}");
    }
}

#[test]
fn a_dataset_that_cannot_be_trained_on_is_refused_with_the_reason() {
    let refusal = |change: fn(&mut RawDataset)| {
        let mut raw = raw(2, 3, 4, 2);
        change(&mut raw);
        raw.check().expect_err("it is broken").to_string()
    };
    assert_eq!(
        refusal(|raw| raw.train.images = raw.train.images.slice(1..)),
        "dataset digits, train split: 23 image bytes are not 4 labels x 2 x 3"
    );
    assert_eq!(
        refusal(|raw| raw.test.labels = Bytes::from_static(&[1])),
        "dataset digits, test split: 12 image bytes are not 1 labels x 2 x 3"
    );
    assert_eq!(
        refusal(|raw| raw.train.labels = Bytes::from_static(&[0, 9, 10, 3])),
        "dataset digits, train split: label 10 of sample 2 is not below 10"
    );
    assert_eq!(
        refusal(|raw| raw.test = RawSplit { images: Bytes::new(), labels: Bytes::new() }),
        "dataset digits: the test split is empty"
    );
    assert_eq!(
        refusal(|raw| (raw.height, raw.width) = (u32::MAX, u32::MAX)),
        "dataset digits, train split: 24 image bytes are not 4 labels x 4294967295 x 4294967295"
    );
    assert_eq!(raw(2, 3, 4, 2).check(), Ok(()));
}
