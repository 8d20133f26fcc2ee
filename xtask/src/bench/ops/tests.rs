//! What Criterion writes becomes shares of a peak.

use super::*;

fn measured(group: &str, name: &str, work: Throughput, nanoseconds: f64) -> Measured {
    Measured { group: group.to_owned(), name: name.to_owned(), work, nanoseconds }
}

#[test]
fn each_op_is_set_beside_the_peak_of_its_group() {
    let all = [
        measured("linear", "784 to 128, forward", Throughput::Elements(6_422_528), 128_450.56),
        measured("linear", PEAK, Throughput::Elements(2_000_000), 20_000.0),
        measured("pass", PEAK, Throughput::Bytes(64_000), 8_000.0),
        measured("pass", "dropout", Throughput::Bytes(4_000), 250.0),
    ];
    let mut table = Table::default();
    rows(&all).unwrap().into_iter().for_each(|row| table.add(row));
    let lines: Vec<String> =
        table.text().lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let expected = [
        "linear: 784 to 128, forward 50.0 GFLOP/s 50 % of the peak; 128.5 us",
        "linear: peak 100.0 GFLOP/s 20.0 us",
        "pass: peak 8.0 GB/s 8.0 us",
        "pass: dropout 16.0 GB/s 200 % of the peak; 0.2 us",
    ];
    assert_eq!(lines, expected);
    assert_eq!(rows(&all[..1]).err().map(|error| error.to_string()).as_deref(), Some("linear has no peak"));
}

#[test]
fn results_are_read_as_criterion_writes_them() {
    let results = tempfile::tempdir().unwrap();
    let folder = results.path().join("linear/784 to 128/new");
    fs::create_dir_all(&folder).unwrap();
    fs::create_dir_all(results.path().join("report")).unwrap();
    let benchmark = r#"{"group_id":"linear","function_id":"784 to 128","value_str":null,"throughput":{"Elements":7},"full_id":"linear/784 to 128"}"#;
    fs::write(folder.join("benchmark.json"), benchmark).unwrap();
    assert!(read(results.path()).is_err(), "half of it is missing");
    let estimates = r#"{"mean":{"point_estimate":3.0},"median":{"point_estimate":2.5,"standard_error":0.1}}"#;
    fs::write(folder.join("estimates.json"), estimates).unwrap();
    let all = read(results.path()).unwrap();
    let [Measured { group, name, work, nanoseconds }] = &all[..] else { panic!("there is one") };
    assert_eq!((group.as_str(), name.as_str(), *work), ("linear", "784 to 128", Throughput::Elements(7)));
    assert!((nanoseconds - 2.5).abs() < 1e-9);
}
