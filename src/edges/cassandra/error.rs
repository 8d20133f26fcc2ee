//! What the driver's errors mean to the application.
//!
//! Whatever a person or time can mend is `Unavailable`: tasks wait for it, and the text says what to do. `Rejected` is
//! left for what no repetition and no administrator makes good.

use kubeml_actors::ports::PortError;
use scylla::errors::{BadQuery, DbError, ExecutionError, PrepareError, RequestAttemptError};

/// What there is to do when the keyspace or a table is not there.
pub(super) const INIT: &str = "run `kubeml admin init`";

pub(super) fn of_execution(error: &ExecutionError) -> PortError {
    match error {
        ExecutionError::BadQuery(BadQuery::SerializationError(error)) => PortError::Rejected(error.to_string()),
        ExecutionError::LastAttemptError(attempt) => of_attempt(attempt),
        ExecutionError::PrepareError(error) => of_prepare(error),
        other => PortError::Unavailable(other.to_string()),
    }
}

pub(super) fn of_prepare(error: &PrepareError) -> PortError {
    match error {
        PrepareError::AllAttemptsFailed { first_attempt } => of_attempt(first_attempt),
        other => PortError::Unavailable(other.to_string()),
    }
}

fn of_attempt(error: &RequestAttemptError) -> PortError {
    match error {
        RequestAttemptError::DbError(kind, text) => of_database(kind, text),
        other => PortError::Unavailable(other.to_string()),
    }
}

fn of_database(kind: &DbError, text: &str) -> PortError {
    match kind {
        DbError::Invalid if is_missing(text) => PortError::Unavailable(format!("{text}; {INIT}")),
        DbError::Invalid | DbError::SyntaxError => PortError::Rejected(text.to_owned()),
        kind => PortError::Unavailable(format!("{kind}: {text}")),
    }
}

/// Cassandra's and ScyllaDB's words for a keyspace, table or column that is not there.
fn is_missing(text: &str) -> bool {
    let text = text.to_lowercase();
    ["does not exist", "unconfigured table", "undefined column", "unknown identifier", "find a keyspace"]
        .iter()
        .any(|words| text.contains(words))
}

/// `error` with where it happened in front.
pub(super) fn at(place: &str, error: PortError) -> PortError {
    let located = |text: String| format!("{place}: {text}");
    match error {
        PortError::Unavailable(text) => PortError::Unavailable(located(text)),
        PortError::NotFound(text) => PortError::NotFound(located(text)),
        PortError::Rejected(text) => PortError::Rejected(located(text)),
        PortError::Corrupt(text) => PortError::Corrupt(located(text)),
    }
}

#[cfg(test)]
mod tests {
    use scylla::{
        errors::{OperationType, WriteType},
        statement::Consistency,
    };

    use super::*;

    #[test]
    fn what_time_or_a_person_mends_is_unavailable() {
        let consistency = Consistency::LocalQuorum;
        let write_type = WriteType::Cas;
        for kind in [
            DbError::Overloaded,
            DbError::IsBootstrapping,
            DbError::ServerError,
            DbError::Unauthorized,
            DbError::AuthenticationError,
            DbError::Unavailable { consistency, required: 2, alive: 1 },
            DbError::WriteTimeout { consistency, received: 1, required: 2, write_type },
            DbError::ReadTimeout { consistency, received: 1, required: 2, data_present: false },
            DbError::RateLimitReached { op_type: OperationType::Write, rejected_by_coordinator: true },
        ] {
            let error = of_attempt(&RequestAttemptError::DbError(kind, "why".to_owned()));
            assert!(error.is_transient() && error.to_string().ends_with(": why"), "{error}");
        }
        let timeout = ExecutionError::RequestTimeout(std::time::Duration::from_secs(5));
        assert!(of_execution(&timeout).is_transient());
    }

    #[test]
    fn a_missing_schema_says_what_to_run() {
        for text in ["table task does not exist", "unconfigured table task", "Keyspace 'k' does not exist"] {
            let error = of_attempt(&RequestAttemptError::DbError(DbError::Invalid, text.to_owned()));
            assert_eq!(error, PortError::Unavailable(format!("{text}; run `kubeml admin init`")));
        }
    }

    #[test]
    fn what_can_never_be_taken_is_rejected() {
        let text = "Mutation of 17000000 bytes is too large";
        let error = of_attempt(&RequestAttemptError::DbError(DbError::Invalid, text.to_owned()));
        assert_eq!(error, PortError::Rejected(text.to_owned()));
    }
}
