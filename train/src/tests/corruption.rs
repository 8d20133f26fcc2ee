//! A damaged checkpoint is never read: every truncation, flipped bits, and files that are well-formed but wrong.

use std::collections::HashMap;

use safetensors::tensor::{Dtype, TensorView};
use sha2::{Digest, Sha256};

use super::{Scripted, data, stopped};
use crate::{Checkpoint, CheckpointError, FitSpec, ModelSpec, Snapshot, Threads, fit};

fn snapshot() -> Snapshot {
    let data = data(10, 5, 2, 3, 2);
    let model = ModelSpec::Mlp { hidden: vec![2] };
    let spec = FitSpec { epochs: 2, batch_size: 4, ..FitSpec::new(model) };
    // In the second epoch, so that best weights and metrics are there too.
    let mut observer = Scripted { stop_at: Some(4), ..Scripted::default() };
    stopped(fit(&spec, &data, None, &Threads::new(1), &mut observer).unwrap())
}

/// Puts a right checksum behind a changed file.
fn sealed(body: &[u8]) -> Vec<u8> {
    [body, &Sha256::digest(body)].concat()
}

fn body(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len() - 32]
}

#[test]
fn what_is_written_is_read_back_whole() {
    let snapshot = snapshot();
    assert!(snapshot.best().is_some() && snapshot.best_weights.is_some() && snapshot.last().is_some());
    let bytes = snapshot.encode();
    assert_eq!(bytes, snapshot.encode());
    let checkpoint = Checkpoint::decode(&bytes).unwrap();
    assert_eq!((checkpoint.step(), checkpoint.epoch()), (4, 1));
    assert_eq!(checkpoint, Checkpoint::from(snapshot));
}

#[test]
fn no_truncation_is_read() {
    let bytes = snapshot().encode();
    for length in 0..bytes.len() {
        let error = Checkpoint::decode(&bytes[..length]).unwrap_err();
        assert!(matches!(error, CheckpointError::Truncated { .. } | CheckpointError::Damaged { .. }), "{error}");
    }
    assert!(Checkpoint::decode(&[bytes.as_slice(), &[0]].concat()).is_err());
}

#[test]
fn no_flipped_bit_is_read() {
    let bytes = snapshot().encode();
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(matches!(Checkpoint::decode(&flipped), Err(CheckpointError::Damaged { .. })), "byte {at}");
    }
}

#[test]
fn sealed_nonsense_is_an_error_and_not_a_panic() {
    let bytes = snapshot().encode();
    for length in 0..body(&bytes).len() {
        assert!(Checkpoint::decode(&sealed(&bytes[..length])).is_err(), "length {length}");
    }
    for at in 0..body(&bytes).len() {
        let mut changed = body(&bytes).to_vec();
        changed[at] = changed[at].wrapping_add(97);
        // Changed weights are sealed weights; everything else must be refused. Neither may panic.
        let _ = Checkpoint::decode(&sealed(&changed));
    }
}

fn replaced(bytes: &[u8], from: &str, to: &str) -> Result<Checkpoint, CheckpointError> {
    assert_eq!(from.len(), to.len());
    let mut body = body(bytes).to_vec();
    let at = body.windows(from.len()).position(|window| window == from.as_bytes()).expect(from);
    body[at..at + to.len()].copy_from_slice(to.as_bytes());
    Checkpoint::decode(&sealed(&body))
}

#[test]
fn another_version_is_named() {
    let bytes = snapshot().encode();
    let error = replaced(&bytes, "version 1", "version 9").unwrap_err();
    assert_eq!(error, CheckpointError::Version { found: "9".to_string() });
}

#[test]
fn missing_tensors_are_named() {
    let bytes = snapshot().encode();
    for (from, to) in [
        ("first.output.bias", "third.output.bias"),
        ("second.output.bias", "fourth.output.bias"),
        ("best.output.bias", "rest.output.bias"),
    ] {
        let error = replaced(&bytes, from, to).unwrap_err();
        assert_eq!(error, CheckpointError::MissingTensor { name: from.to_string() });
    }
}

#[test]
fn missing_and_broken_header_lines_are_named() {
    let bytes = snapshot().encode();
    for (from, to) in [("kubeml_train", "kubeml_other"), ("nstep 4", "nstop 4"), ("nepoch 1", "nepoch x")] {
        assert!(matches!(replaced(&bytes, from, to), Err(CheckpointError::Malformed(_))), "{from}");
    }
}

#[test]
fn tensors_of_another_shape_or_type_are_named() {
    let snapshot = snapshot();
    let header = super::super::checkpoint::header_of(&snapshot);
    for (dtype, shape) in [(Dtype::F32, vec![3]), (Dtype::I32, vec![2])] {
        let values = vec![0; shape[0] * 4];
        let tensors: Vec<_> = ["param", "first", "second", "best"]
            .into_iter()
            .map(|prefix| {
                let (dtype, shape) = if prefix == "first" { (dtype, shape.clone()) } else { (Dtype::F32, vec![2]) };
                let count = shape[0] * 4;
                (format!("{prefix}.w"), TensorView::new(dtype, shape, &values[..count.min(values.len())]).unwrap())
            })
            .collect();
        let metadata = HashMap::from([("kubeml_train".to_string(), header.clone())]);
        let error = Checkpoint::decode(&sealed(&safetensors::serialize(tensors, Some(metadata)).unwrap())).unwrap_err();
        assert!(matches!(&error, CheckpointError::WrongTensor { name, .. } if name == "first.w"), "{error}");
    }
}
