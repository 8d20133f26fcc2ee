//! One thing wrong with a request: where, and what would be right.

use std::fmt;

use serde_json::Value;

/// One thing wrong with a task's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// JSON pointer (RFC 6901) into the body.
    pub pointer: String,
    pub message: String,
}

impl Problem {
    pub fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into() }
    }

    /// A value of another type than the one that is expected.
    pub fn wrong_type(pointer: impl Into<String>, expected: &str, found: &Value) -> Self {
        Self::new(pointer, format!("expected {expected}, found {}", shown(found)))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.pointer, self.message)
    }
}

/// Problems on one line, for messages.
pub fn on_one_line(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; ")
}

/// A field's name as a token of a JSON pointer.
pub fn pointer_token(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// The longest part of a value that a message repeats.
const SHOWN_MAX: usize = 80;

/// A value as an error message can carry it.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Object(_) => "an object".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        other => other.to_string().chars().take(SHOWN_MAX).collect(),
    }
}
