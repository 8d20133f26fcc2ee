//! The body of `POST /api/v1/tasks`: read leniently in order, strictly in content, every problem named at once.

use kubeml_actors::task::{Submission, TaskId};
use kubeml_spec::{Draft, Problem, TaskSpec, problem::pointer_token, suggest::did_you_mean};
use serde_json::{Map, Value};

#[cfg(test)]
mod tests;

const NAME_LENGTH_MAX: usize = 200;
const TAGS_MAX: usize = 20;
const PRIORITY_MAX: i32 = 1_000;
const FIELDS: [&str; 6] = ["model", "dataset", "hyperparameters", "name", "tags", "priority"];

/// What was asked for, before it has an id.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskBody {
    pub name: Option<String>,
    pub tags: Vec<String>,
    pub priority: i32,
    pub spec: TaskSpec,
}

impl From<TaskSpec> for TaskBody {
    fn from(spec: TaskSpec) -> Self {
        Self { name: None, tags: Vec::new(), priority: 0, spec }
    }
}

impl TaskBody {
    pub fn submission(self, id: TaskId, retry_of: Option<TaskId>) -> Submission {
        let Self { name, tags, priority, spec } = self;
        Submission { id, name, tags, priority, retry_of, spec }
    }
}

/// Reads a body; fails with everything that is wrong with it.
pub fn read_task_body(body: &Value) -> Result<TaskBody, Vec<Problem>> {
    let Some(mut fields) = body.as_object().cloned() else {
        return Err(vec![Problem::wrong_type("", "an object", body)]);
    };
    let spec = Draft::take_from(&mut fields).build();
    let mut reader = Reader { problems: Vec::new() };
    let name = reader.name(fields.remove("name"));
    let tags = reader.tags(fields.remove("tags"));
    let priority = reader.priority(fields.remove("priority"));
    reader.leftovers(&fields);
    match spec {
        Ok(spec) if reader.problems.is_empty() => Ok(TaskBody { name, tags, priority, spec }),
        Ok(_) => Err(reader.problems),
        Err(problems) => Err(problems.into_iter().chain(reader.problems).collect()),
    }
}

struct Reader {
    problems: Vec<Problem>,
}

impl Reader {
    /// `null` is as good as left out.
    fn read<T>(
        &mut self,
        pointer: &str,
        value: Option<Value>,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Option<T> {
        let value = value.filter(|value| !value.is_null())?;
        let found = read(&value);
        if found.is_none() {
            self.problems.push(Problem::wrong_type(pointer, expected, &value));
        }
        found
    }

    fn check_length(&mut self, pointer: &str, text: &str) {
        if text.is_empty() || text.chars().count() > NAME_LENGTH_MAX {
            self.problems.push(Problem::new(pointer, format!("expected 1 to {NAME_LENGTH_MAX} characters")));
        }
    }

    fn name(&mut self, value: Option<Value>) -> Option<String> {
        let name = self.read("/name", value, "a string", |value| value.as_str().map(str::to_owned))?;
        self.check_length("/name", &name);
        Some(name)
    }

    fn tags(&mut self, value: Option<Value>) -> Vec<String> {
        let read = |value: &Value| value.as_array()?.iter().map(|tag| tag.as_str().map(str::to_owned)).collect();
        let tags: Vec<String> = self.read("/tags", value, "a list of strings", read).unwrap_or_default();
        if tags.len() > TAGS_MAX {
            self.problems.push(Problem::new("/tags", format!("{} tags are more than {TAGS_MAX}", tags.len())));
        }
        for (index, tag) in tags.iter().enumerate() {
            self.check_length(&format!("/tags/{index}"), tag);
        }
        tags
    }

    fn priority(&mut self, value: Option<Value>) -> i32 {
        let within = |value: &Value| value.as_i64().and_then(|number| i32::try_from(number).ok());
        let priority = self.read("/priority", value, "a whole number", within).unwrap_or(0);
        if priority.abs() > PRIORITY_MAX {
            let message = format!("{priority} is outside -{PRIORITY_MAX} to {PRIORITY_MAX}");
            self.problems.push(Problem::new("/priority", message));
        }
        priority
    }

    fn leftovers(&mut self, fields: &Map<String, Value>) {
        for field in fields.keys() {
            let hint = did_you_mean(field, FIELDS);
            self.problems.push(Problem::new(format!("/{}", pointer_token(field)), format!("unknown field{hint}")));
        }
    }
}
