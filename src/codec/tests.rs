//! Bytes read back, old bytes stay readable, and no bytes do harm.

use kubeml_actors::{
    context::Roles,
    dataset::{CHUNK_BYTES, CUT_BYTES, ChunkHash},
    event::{EventKind, Seq},
    ports::{ActorReport, SlotReport},
    task::{Failure, FailureKind, Incarnation, Progress},
    testing::contracts::samples,
    timestamp::Timestamp,
};
use kubeml_spec::{EpochMetrics, Kept, unknown::Any};
use proptest::{collection::vec, prelude::*};
use serde::Deserialize;
use uuid::Uuid;

use super::*;

#[test]
fn values_read_back() -> Result<(), CodecError> {
    for record in [samples::record(1), samples::full_record()] {
        assert_eq!(decode::<TaskRecord>(&encode(&record)?)?, record);
    }
    for event in events() {
        assert_eq!(decode::<TaskEvent>(&encode(&event)?)?, event);
    }
    assert_eq!(decode::<NodeRow>(&encode(&node_row())?)?, node_row());
    let manifest = manifest();
    assert_eq!(decode::<Manifest>(&encode(&manifest)?)?, manifest);
    Ok(())
}

/// Every golden file is read, and the newest of a type is what this version writes. With `KUBEML_BLESS` set, bytes that have
/// changed become the next file of their type; the files before it stay, because stores hold such bytes.
#[test]
fn bytes_of_every_released_version_are_read_and_those_of_this_one_are_written() {
    golden("task_record", &[samples::full_record()]);
    golden("task_event", &events());
    golden("manifest", &[manifest()]);
    golden("node_row", &[node_row()]);
}

/// A field that came later has a neutral value, with which older versions go on.
#[test]
fn an_older_version_refuses_only_what_needs_something_newer() -> Result<(), CodecError> {
    let old = encode(&Old { name: "a".to_owned() })?;
    assert_eq!(decode::<New>(&old)?, New { name: "a".to_owned(), size: 1 });
    let neutral = encode(&New { name: "b".to_owned(), size: 1 })?;
    assert_eq!(decode::<Old>(&neutral)?, Old { name: "b".to_owned() });
    let new = encode(&New { name: "b".to_owned(), size: 5 })?;
    assert_eq!(decode::<New>(&new)?, New { name: "b".to_owned(), size: 5 });
    let refused = decode::<Old>(&new).map_err(|error| error.at("state.redb"));
    let text = "state.redb: a thing is in format 2, newer than the 1 that this version of kubeml knows; start the \
                version that wrote it, or a newer one";
    assert_eq!(refused, Err(PortError::Rejected(text.to_owned())));
    Ok(())
}

/// As a newer version would write it: the same value with a field more, at any depth.
fn with_more(value: &Any) -> Any {
    match value {
        Any::Map(fields) => {
            let mut more: std::collections::BTreeMap<String, Any> =
                fields.iter().map(|(name, field)| (name.clone(), with_more(field))).collect();
            more.insert("from_the_future".to_owned(), Any::Real(f64::NEG_INFINITY));
            Any::Map(more)
        }
        Any::List(items) => Any::List(items.iter().map(with_more).collect()),
        other => other.clone(),
    }
}

#[test]
fn fields_of_a_newer_record_are_kept_and_written_back() -> Result<(), CodecError> {
    let bytes = encode(&samples::full_record())?;
    let value: Any = rmp_serde::from_slice(&bytes[VALUE_HEADER_BYTES..]).expect("it describes itself");
    let newer = rmp_serde::to_vec_named(&with_more(&value)).expect("it can be written");
    let record = decode::<TaskRecord>(&in_format(TaskRecord::NAME, &[vec![0; VALUE_HEADER_BYTES], newer].concat(), 1))?;
    let written: Any = rmp_serde::from_slice(&encode(&record)?[VALUE_HEADER_BYTES..]).expect("it describes itself");
    let kept = |value: &Any, path: &[&str]| {
        let parent = path.iter().try_fold(value, |value, name| match value {
            Any::Map(fields) => fields.get(*name),
            Any::List(items) => items.get(name.parse::<usize>().ok()?),
            _ => None,
        });
        matches!(parent, Some(Any::Map(fields)) if fields.get("from_the_future") == Some(&Any::Real(f64::NEG_INFINITY)))
    };
    for path in [
        &[][..],
        &["dataset"],
        &["checkpoints", "0"],
        &["checkpoints", "1"],
        &["progress"],
        &["result"],
        &["result", "outcome"],
        &["failure"],
    ] {
        assert!(kept(&written, path), "{path:?}");
    }
    Ok(())
}

#[test]
fn floats_keep_their_bits() -> Result<(), CodecError> {
    for bits in [0x7ff8_0000_0000_0001, 0xfff0_0000_0000_0000, 0x8000_0000_0000_0000, 1, 0x3fb9_9999_9999_999a_u64] {
        let progress = Kept::from(Progress { loss: f64::from_bits(bits), ..Progress::default() });
        let record = TaskRecord { progress, ..samples::record(1) };
        assert_eq!(decode::<TaskRecord>(&encode(&record)?)?.progress.loss.to_bits(), bits);
    }
    Ok(())
}

/// What nodes of different versions read of each other while a cluster is upgraded.
#[test]
fn whatever_is_newer_is_refused_by_name_and_place() {
    refused_when_newer(&samples::full_record(), "task record");
    refused_when_newer(&events()[0], "task event");
    refused_when_newer(&manifest(), "dataset manifest");
    refused_when_newer(&node_row(), "node row");
}

fn refused_when_newer<T: Stored + std::fmt::Debug>(value: &T, name: &str) {
    let newer = in_format(T::NAME, &encode(value).expect("it is short"), T::newest_format() + 1);
    let (format, known) = (T::newest_format() + 1, T::newest_format());
    let text = format!(
        "cassandra at db:9042, thing 5: a {name} is in format {format}, newer than the {known} that this version of kubeml \
         knows; start the version that wrote it, or a newer one"
    );
    let refused = decode::<T>(&newer).expect_err("it is newer").at("cassandra at db:9042, thing 5");
    assert_eq!(refused, PortError::Rejected(text));
}

#[test]
fn bytes_of_one_type_do_not_pass_for_anothers() -> Result<(), CodecError> {
    let bytes = encode(&samples::full_record())?;
    assert_eq!(decode::<TaskEvent>(&bytes), Err(CodecError::Damaged { name: "task event", bytes: bytes.len() }));
    Ok(())
}

#[test]
fn a_value_that_is_too_long_is_not_written() {
    let mut record = samples::record(1);
    record.tags = vec!["x".repeat(VALUE_BYTES_MAX)];
    assert!(matches!(encode(&record), Err(CodecError::TooLong { name: "task record", .. })));
}

#[test]
fn the_longest_value_that_is_written_is_read() -> Result<(), CodecError> {
    let mut record = samples::full_record();
    let result = record.result.as_mut().expect("it is full");
    result.known.outcome.known.confusion = vec![vec![1; 500]; 500];
    assert_eq!(decode::<TaskRecord>(&encode(&record)?)?, record);
    Ok(())
}

#[test]
fn what_follows_a_value_is_not_ignored() -> Result<(), CodecError> {
    let mut bytes = encode(&samples::record(1))?;
    bytes.push(0);
    let longer = in_format(TaskRecord::NAME, &bytes, 1);
    assert!(matches!(decode::<TaskRecord>(&longer), Err(CodecError::Malformed { .. })));
    Ok(())
}

#[test]
fn chunks_read_back() -> Result<(), CodecError> {
    for length in [0, 1, 20_000, CHUNK_BYTES] {
        for chunk in [samples::noise(length, 1).to_vec(), vec![3; length]] {
            assert!(unpack(&pack(&chunk)?, CHUNK_BYTES)? == chunk, "{length} bytes");
        }
    }
    assert!(pack(&vec![3; CHUNK_BYTES])?.len() < 10_000);
    assert!(pack(&samples::noise(CUT_BYTES, 1))?.len() <= CHUNK_BYTES, "what does not compress");
    Ok(())
}

#[test]
fn a_chunk_that_claims_too_much_is_not_allocated() {
    let bomb = [1, 0xff, 0xff, 0xff, 0xff, 0x1f, 0x00];
    assert!(matches!(unpack(&bomb, CHUNK_BYTES), Err(CodecError::Malformed { name: "chunk", .. })));
    let shorter = pack(&[1; 100]).map(|packed| unpack(&packed, 99));
    assert!(matches!(shorter, Ok(Err(CodecError::Malformed { .. }))));
}

#[test]
fn a_newer_chunk_is_refused_by_name() {
    assert_eq!(unpack(&[2, 0, 0, 0, 0, 0], 10), Err(CodecError::Newer { name: "chunk", format: 2, known: 1 }));
}

proptest! {
    #[test]
    fn random_bytes_are_refused(bytes in vec(any::<u8>(), 0..600)) {
        prop_assert!(decode::<TaskRecord>(&bytes).is_err());
        prop_assert!(decode::<TaskEvent>(&bytes).is_err());
        prop_assert!(decode::<Manifest>(&bytes).is_err());
        prop_assert!(decode::<NodeRow>(&bytes).is_err());
    }

    /// Behind a good checksum, too: nothing panics, nothing allocates without bound.
    #[test]
    fn random_encodings_do_no_harm(bytes in vec(any::<u8>(), 0..600)) {
        let bytes = [vec![0; VALUE_HEADER_BYTES], bytes].concat();
        let _ = decode::<TaskRecord>(&in_format(TaskRecord::NAME, &bytes, 1));
        let _ = decode::<TaskEvent>(&in_format(TaskEvent::NAME, &bytes, 1));
        let _ = decode::<Manifest>(&in_format(Manifest::NAME, &bytes, 1));
        let _ = decode::<NodeRow>(&in_format(NodeRow::NAME, &bytes, 1));
    }

    #[test]
    fn a_changed_value_is_damaged(at in any::<prop::sample::Index>(), flip in 1..=u8::MAX) {
        let mut bytes = encode(&samples::full_record()).expect("it is short");
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert_eq!(
            decode::<TaskRecord>(&bytes),
            Err(CodecError::Damaged { name: "task record", bytes: bytes.len() })
        );
    }

    #[test]
    fn a_changed_record_behind_a_good_checksum_does_no_harm(at in any::<prop::sample::Index>(), flip in 1..=u8::MAX) {
        let mut bytes = encode(&samples::full_record()).expect("it is short");
        let at = VALUE_HEADER_BYTES + at.index(bytes.len() - VALUE_HEADER_BYTES);
        bytes[at] ^= flip;
        let _ = decode::<TaskRecord>(&in_format(TaskRecord::NAME, &bytes, 1));
    }

    #[test]
    fn a_value_cut_short_is_damaged(length in any::<prop::sample::Index>()) {
        let bytes = encode(&samples::full_record()).expect("it is short");
        let cut = &bytes[..length.index(bytes.len())];
        prop_assert_eq!(decode::<TaskRecord>(cut), Err(CodecError::Damaged { name: "task record", bytes: cut.len() }));
    }

    #[test]
    fn any_packed_bytes_unpack_to_no_more_than_allowed(mut bytes in vec(any::<u8>(), 0..600), claim in 0..2000u32) {
        prop_assert!(unpack(&bytes, 1000).map_or(0, |chunk| chunk.len()) <= 1000);
        if bytes.len() >= CHUNK_HEADER_BYTES {
            bytes[0] = CHUNK_FORMAT;
            bytes[1..CHUNK_HEADER_BYTES].copy_from_slice(&claim.to_le_bytes());
            prop_assert!(unpack(&bytes, 1000).map_or(0, |chunk| chunk.len()) <= 1000);
        }
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Old {
    name: String,
}

/// `Old` with a field more, whose neutral value is 1.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct New {
    name: String,
    #[serde(default = "neutral", skip_serializing_if = "is_neutral")]
    size: u32,
}

fn neutral() -> u32 {
    1
}

fn is_neutral(size: &u32) -> bool {
    *size == neutral()
}

impl Stored for Old {
    const NAME: &'static str = "thing";
}

impl Stored for New {
    const NAME: &'static str = "thing";

    fn newest_format() -> u8 {
        2
    }

    fn format(&self) -> u8 {
        if is_neutral(&self.size) { 1 } else { 2 }
    }
}

fn golden<T: Stored + PartialEq + std::fmt::Debug>(name: &str, values: &[T]) {
    let file = |n: usize| format!("{}/src/codec/golden/{name}_v{n}.hex", env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<String> = (1..).map_while(|n| std::fs::read_to_string(file(n)).ok()).collect();
    let written = hex_lines(values);
    if std::env::var_os("KUBEML_BLESS").is_some() && files.last() != Some(&written) {
        std::fs::write(file(files.len() + 1), &written).expect("the source is writable");
        files.push(written.clone());
    }
    for (n, lines) in (1..).zip(&files) {
        let read: Result<Vec<T>, CodecError> = lines.lines().map(|line| decode(&unhex(line))).collect();
        assert_eq!(read.as_deref(), Ok(values), "{}", file(n));
    }
    assert_eq!(files.last(), Some(&written), "{} is not what is written: set KUBEML_BLESS=1", file(files.len()));
}

fn hex_lines<T: Stored>(values: &[T]) -> String {
    let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    values.iter().map(|value| hex(encode(value).expect("it is short")) + "\n").collect()
}

fn unhex(line: &str) -> Vec<u8> {
    let digits = line.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("the file is ASCII"));
    digits.map(|pair| u8::from_str_radix(pair, 16).expect("the file is hexadecimal")).collect()
}

/// Cut as when the golden file was made: in chunks as long as may be.
fn manifest() -> Manifest {
    let raw = samples::dataset("digits", 1);
    let mut manifest = raw.cut().0;
    manifest.train.images = raw.train.images.chunks(CHUNK_BYTES).map(ChunkHash::of).collect();
    manifest
}

/// With something in every field.
fn node_row() -> NodeRow {
    let incarnation = Incarnation { node: "node-1".to_owned(), boot: Uuid::from_u128(0xfeed_face) };
    let actor = ActorReport {
        actor: "trainer_pool".to_owned(),
        alive: true,
        restarts: 3,
        last_error: Some("the store was away".to_owned()),
        mailbox: 12,
    };
    let slot = SlotReport { alive: false, restarts: 4, last_error: None, task: Some(samples::full_record().id) };
    NodeRow {
        incarnation,
        seq: 300,
        version: "0.1.0".to_owned(),
        address: Some("127.0.0.1:5000".to_owned()),
        roles: Roles { api: true, trainer: false },
        started_at: Timestamp(1_700_000_000_000_000),
        at: Timestamp(1_700_000_000_000_001),
        actors: vec![actor],
        slots: vec![slot, SlotReport::default()],
    }
}

/// The same encoding under a good checksum in the frame of another format.
pub(super) fn in_format(name: &str, value: &[u8], format: u8) -> Vec<u8> {
    let encoded = &value[VALUE_HEADER_BYTES..];
    [&[format], checksum(name, format, encoded).as_slice(), encoded].concat()
}

/// One of every kind.
fn events() -> Vec<TaskEvent> {
    let record = samples::full_record();
    let failure = Failure::new(FailureKind::NoProgress, "too often");
    let kinds = vec![
        EventKind::Queued,
        EventKind::Claimed { worker_id: "node-1/0".to_owned() },
        EventKind::Resumed { from_step: 900 },
        EventKind::Progress(Progress { epoch: 1, step: 300, ..*record.progress }),
        EventKind::EpochFinished(EpochMetrics { is_best: false, ..samples::epoch(2) }),
        EventKind::CheckpointSaved { step: 938 },
        EventKind::Log { level: kubeml_actors::event::LogLevel::Warn, message: "take care".to_owned() },
        EventKind::AttemptFailed { failure: failure.clone(), charged: true },
        EventKind::CancelRequested,
        EventKind::Succeeded { result: Box::new(samples::result(record.id)), last: samples::epoch(2) },
        EventKind::Failed { failure },
        EventKind::Cancelled,
    ];
    let event = |(n, kind)| TaskEvent { task: record.id, seq: Seq::new(2, n), at: record.created_at, kind };
    (0..).zip(kinds).map(event).collect()
}
