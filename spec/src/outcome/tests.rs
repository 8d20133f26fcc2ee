//! What is reported survives every encoding.

use super::*;
use crate::Epochs;

fn epoch() -> EpochMetrics {
    EpochMetrics { epoch: 2, step: 938, samples: 60_000, loss: 0.1, val_accuracy: 0.97, ..EpochMetrics::default() }
}

#[test]
fn a_number_that_is_not_finite_is_null_in_json() {
    let diverged = EpochMetrics { loss: f64::NAN, val_loss: f64::INFINITY, ..epoch() };
    let json = serde_json::to_value(diverged).unwrap();
    assert_eq!((&json["loss"], &json["val_loss"], &json["val_accuracy"]), (&Value::Null, &Value::Null, &json!(0.97)));
    let read: EpochMetrics = serde_json::from_value(json).unwrap();
    assert!(read.loss.is_nan() && read.val_loss.is_nan());
}

#[test]
fn the_table_has_every_metric_with_its_value() {
    let values: Vec<(&str, f64)> = epoch().values().map(|(metric, value)| (metric.name, value)).collect();
    let expected =
        [("loss", 0.1), ("accuracy", 0.0), ("val_loss", 0.0), ("val_accuracy", 0.97), ("samples_per_second", 0.0)];
    assert_eq!(values, expected);
}

#[test]
fn a_metric_that_an_older_version_does_not_know_is_kept_by_it() {
    let mut stored = Epochs::default();
    stored.push(epoch());
    let mut newer = serde_json::to_value(&stored).unwrap();
    newer["from_the_future"] = json!([0.99]);
    let mut read: Epochs = serde_json::from_value(newer).unwrap();
    read.push(EpochMetrics { epoch: 3, ..epoch() });
    let written = serde_json::to_value(&read).unwrap();
    assert_eq!((&written["from_the_future"], &written["epoch"]), (&json!([0.99]), &json!([2, 3])));
    // The older version's own epoch has the default.
    newer = written;
    newer.as_object_mut().unwrap().remove("val_loss");
    let read: Epochs = serde_json::from_value(newer).unwrap();
    assert_eq!(read.rows().len(), 2);
}

#[test]
fn stop_reasons_are_read_as_they_are_named() {
    for reason in StopReason::ALL {
        let json = serde_json::to_value(reason).unwrap();
        assert_eq!((json.as_str(), serde_json::from_value(json.clone()).unwrap()), (Some(reason.as_str()), *reason));
    }
    assert!(serde_json::from_value::<StopReason>(json!("bored")).is_err());
}
