//! What people and programs see as JSON: tasks, their bodies, their events. The only copy of these shapes.
//!
//! The domain's types change when the domain does; these only grow.

pub mod older;
pub mod python_json;

mod body;
mod event;
mod view;

use std::time::{Duration, UNIX_EPOCH};

use kubeml_actors::timestamp::Timestamp;

pub use body::{TaskBody, read_task_body};
pub use event::{Body, Event};
pub use view::{DatasetView, FailureView, MetricsView, ProgressView, SpecView, TaskView};

/// The older workers' test line.
pub const TEST_LINE: &str = "Test training_log message sent";

/// The last microsecond of the year 9999, the last that RFC 3339 can write.
const LAST_MICROSECOND: u64 = 253_402_300_799_999_999;

/// RFC 3339, UTC, to the microsecond.
pub fn time(at: Timestamp) -> String {
    let at = UNIX_EPOCH + Duration::from_micros(at.0.min(LAST_MICROSECOND));
    humantime::format_rfc3339_micros(at).to_string()
}

/// The time of day, UTC: for sentences beside a date.
fn time_of_day(at: Timestamp) -> String {
    time(at)["0000-00-00T".len()..].chars().take("00:00:00".len()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_up_to_its_last_year() {
        for (micros, expected) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (1_700_000_000_123_456, "2023-11-14T22:13:20.123456Z"),
            (u64::MAX, "9999-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(time(Timestamp(micros)), expected);
        }
        assert_eq!(time_of_day(Timestamp(1_700_000_000_123_456)), "22:13:20");
    }
}
