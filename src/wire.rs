//! What people and programs see as JSON: tasks, their bodies, their events. The only copy of these shapes.
//!
//! The domain's types change when the domain does; these only grow.

pub mod older;
pub mod python_json;

mod body;
mod event;
mod view;

pub use body::{TaskBody, read_task_body};
pub use event::{Body, Event};
pub use view::{DatasetView, FailureView, MetricsView, ProgressView, SpecView, TaskView};

use kubeml_actors::timestamp::Timestamp;

/// The older workers' test line.
pub const TEST_LINE: &str = "Test training_log message sent";

/// RFC 3339, UTC, to the microsecond.
pub fn time(at: Timestamp) -> String {
    let micros = i64::try_from(at.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_microsecond(micros).map_or_else(|_| at.to_string(), |at| format!("{at:.6}"))
}

/// The time of day, UTC: for sentences, where the date is told elsewhere.
fn time_of_day(at: Timestamp) -> String {
    let micros = i64::try_from(at.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_microsecond(micros).map_or_else(|_| at.to_string(), |at| at.strftime("%H:%M:%S").to_string())
}
