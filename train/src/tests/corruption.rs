//! A damaged checkpoint is never read: every truncation, flipped bits, and files that are well-formed but wrong. One of
//! another version is read or refused by name.

use kubeml_spec::{Draft, EpochMetrics, TaskSpec, Unknown, unknown::Any};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use sha2::{Digest, Sha256};

use super::{Scripted, built, data, stopped};
use crate::checkpoint::{Progress, header_of};
use crate::metrics::Tally;
use crate::{Checkpoint, CheckpointError, Data, Snapshot, Threads, fit};

fn small() -> (TaskSpec, Data) {
    let draft = Draft::new("mlp").with("hidden", vec![2]).with("epochs", 2).with("batch_size", 4);
    (built(&draft), data(10, 5, 2, 3, 2))
}

fn snapshot() -> Snapshot {
    let (spec, data) = small();
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

/// A checkpoint's bytes with another tensor for its header.
fn with_header(snapshot: &Snapshot, header: Option<TensorView<'_>>) -> Result<Checkpoint, CheckpointError> {
    let bytes = snapshot.encode();
    let mut tensors = SafeTensors::deserialize(body(&bytes)).unwrap().tensors();
    tensors.retain(|(name, _)| name != "header");
    tensors.extend(header.map(|header| ("header".to_string(), header)));
    Checkpoint::decode(&sealed(&safetensors::serialize(tensors, None).unwrap()))
}

/// A checkpoint whose header has changed.
fn reheaded(snapshot: &Snapshot, change: impl FnOnce(&mut Unknown)) -> Result<Checkpoint, CheckpointError> {
    let mut header: Unknown = rmp_serde::from_slice(&header_of(snapshot)).unwrap();
    change(&mut header);
    let bytes = rmp_serde::to_vec_named(&header).unwrap();
    with_header(snapshot, Some(TensorView::new(Dtype::U8, vec![bytes.len()], &bytes).unwrap()))
}

fn nested<'a>(fields: &'a mut Unknown, name: &str) -> &'a mut Unknown {
    match fields.get_mut(name) {
        Some(Any::Map(fields)) => fields,
        other => panic!("{name} is {other:?}"),
    }
}

fn set(fields: &mut Unknown, name: &str, value: Any) {
    fields.insert(name.to_string(), value);
}

fn malformed(read: Result<Checkpoint, CheckpointError>) -> String {
    match read {
        Err(CheckpointError::Malformed(reason)) => reason,
        other => panic!("it should be malformed: {other:?}"),
    }
}

#[test]
fn a_newer_format_is_named_whatever_else_its_header_has() {
    let newer = |header: &mut Unknown| *header = Unknown::from([("format".to_string(), Any::Whole(99))]);
    assert_eq!(reheaded(&snapshot(), newer).unwrap_err(), CheckpointError::Newer { found: 99 });
}

#[test]
fn missing_and_broken_header_fields_are_named() {
    let snapshot = snapshot();
    for field in ["format", "spec_sha256", "dataset", "kernel_sets", "progress"] {
        let missing = malformed(reheaded(&snapshot, |header| drop(header.remove(field))));
        assert!(missing.contains("its header") && missing.contains(field), "{missing}");
        malformed(reheaded(&snapshot, |header| set(header, field, Any::Bool(true))));
    }
    for (field, value) in [("step", Any::Whole(4)), ("epoch", Any::Whole(1)), ("ended", Any::Text("patience".into()))] {
        let with = |value| reheaded(&snapshot, |header| set(nested(header, "progress"), field, value));
        assert!(with(value).is_ok(), "{field}");
        malformed(with(Any::Text("x".to_string())));
    }
}

#[test]
fn a_header_that_is_not_one_is_refused() {
    let (snapshot, zeros) = (snapshot(), [0_u8; 8]);
    let missing = with_header(&snapshot, None).unwrap_err();
    assert_eq!(missing, CheckpointError::MissingTensor { name: "header".to_string() });
    let floats = with_header(&snapshot, Some(TensorView::new(Dtype::F32, vec![2], &zeros).unwrap()));
    assert!(malformed(floats).contains("F32"));
    for nonsense in [&zeros[..0], &zeros] {
        malformed(with_header(&snapshot, Some(TensorView::new(Dtype::U8, vec![nonsense.len()], nonsense).unwrap())));
    }
}

#[test]
fn fields_of_a_newer_version_are_ignored() {
    let snapshot = snapshot();
    let surprise = || Any::List(vec![Any::Null(()), Any::Real(f64::NAN)]);
    let extended = reheaded(&snapshot, |header| {
        set(header, "surprise", surprise());
        let progress = nested(header, "progress");
        set(progress, "surprise", surprise());
        for part in ["tally", "last", "best"] {
            set(nested(progress, part), "surprise", surprise());
        }
    });
    assert_eq!(extended, Ok(Checkpoint::from(snapshot)));
}

#[test]
fn fields_that_an_older_version_did_not_have_take_their_defaults() {
    let snapshot = snapshot();
    let older = reheaded(&snapshot, |header| {
        let progress = nested(header, "progress");
        drop(progress.remove("ended"));
        for epoch in ["last", "best"] {
            drop(nested(progress, epoch).remove("samples_per_second"));
        }
    });
    // Without a clock, the speed is the default anyway.
    assert_eq!(older, Ok(Checkpoint::from(snapshot)));
}

#[test]
fn every_float_keeps_its_bits() {
    let (spec, data) = small();
    let strange = [f64::from_bits(0x7FF8_0000_0000_1234), f64::INFINITY, f64::NEG_INFINITY, -0.0, 5e-324, 0.1 + 0.2];
    for float in strange {
        let metrics = EpochMetrics { epoch: 1, loss: float, val_loss: float, ..EpochMetrics::default() };
        let progress = Progress {
            tally: Tally { loss_sum: float, ..Tally::default() },
            epoch_seconds: float,
            train_seconds: float,
            last: Some(metrics),
            best: Some(metrics),
            ..Progress::default()
        };
        let bytes = Snapshot { progress, ..snapshot() }.encode();
        let read = Checkpoint::decode(&bytes).unwrap().into_snapshot(&spec, &data).unwrap();
        let Progress { tally, epoch_seconds, train_seconds, last, best, .. } = read.progress;
        let epochs = [last.unwrap(), best.unwrap()].map(|metrics| [metrics.loss, metrics.val_loss]);
        for found in [tally.loss_sum, epoch_seconds, train_seconds].iter().chain(epochs.as_flattened()) {
            assert_eq!(found.to_bits(), float.to_bits(), "{float}, found {found}");
        }
    }
}

#[test]
fn tensors_of_another_shape_or_type_are_named() {
    let snapshot = snapshot();
    let header = header_of(&snapshot);
    for (dtype, shape) in [(Dtype::F32, vec![3]), (Dtype::I32, vec![2])] {
        let values = vec![0; shape[0] * 4];
        let mut tensors: Vec<_> = ["param", "first", "second", "best"]
            .into_iter()
            .map(|prefix| {
                let (dtype, shape) = if prefix == "first" { (dtype, shape.clone()) } else { (Dtype::F32, vec![2]) };
                let count = shape[0] * 4;
                (format!("{prefix}.w"), TensorView::new(dtype, shape, &values[..count.min(values.len())]).unwrap())
            })
            .collect();
        let header = TensorView::new(Dtype::U8, vec![header.len()], &header).unwrap();
        tensors.push(("header".to_string(), header));
        let error = Checkpoint::decode(&sealed(&safetensors::serialize(tensors, None).unwrap())).unwrap_err();
        assert!(matches!(&error, CheckpointError::WrongTensor { name, .. } if name == "first.w"), "{error}");
    }
}
