//! The body of `POST /api/v1/tasks`: read leniently in order, strictly in content, every problem named at once.

use kubeml_actors::{
    spec::{NAME_LENGTH_MAX, Problem, SpecDraft, TaskSpec},
    task::{Submission, TaskId},
};
use serde_json::{Map, Value, json};

#[cfg(test)]
mod tests;

const TAGS_MAX: usize = 20;
const PRIORITY_MAX: i32 = 1_000;

/// What was asked for, before it has an id.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskBody {
    pub name: Option<String>,
    pub tags: Vec<String>,
    pub priority: i32,
    pub spec: TaskSpec,
}

pub type BodyProblem = Problem;

impl TaskBody {
    pub fn submission(self, id: TaskId, retry_of: Option<TaskId>) -> Submission {
        let Self { name, tags, priority, spec } = self;
        Submission { id, name, tags, priority, retry_of, spec }
    }

    /// The JSON that asks for what a draft says.
    pub fn json_of(draft: &SpecDraft) -> Value {
        let fields = [
            ("epochs", json!(draft.epochs)),
            ("batch_size", json!(draft.batch_size)),
            ("learning_rate", json!(draft.learning_rate)),
            ("optimizer", json!(draft.optimizer)),
            ("weight_decay", json!(draft.weight_decay)),
            ("momentum", json!(draft.momentum)),
            ("schedule", json!(draft.schedule)),
            ("schedule_every", json!(draft.schedule_every)),
            ("schedule_factor", json!(draft.schedule_factor)),
            ("seed", json!(draft.seed)),
            ("dropout", json!(draft.dropout)),
            ("validation_fraction", json!(draft.validation_fraction)),
            ("target_accuracy", json!(draft.target_accuracy)),
            ("patience", json!(draft.patience)),
            ("max_seconds", json!(draft.max_seconds)),
            ("hidden", json!(draft.hidden)),
            ("channels", json!(draft.channels)),
            ("units", json!(draft.units)),
            ("dense", json!(draft.dense)),
        ];
        let given = fields.into_iter().filter(|(_, value)| !value.is_null());
        let hyperparameters: Map<String, Value> = given.map(|(name, value)| (name.to_owned(), value)).collect();
        let mut body = json!({ "model": draft.model, "hyperparameters": hyperparameters });
        if let Some(dataset) = &draft.dataset {
            body["dataset"] = json!(dataset);
        }
        body
    }
}

/// Reads a body; fails with everything that is wrong with it.
pub fn read_task_body(body: &Value) -> Result<TaskBody, Vec<BodyProblem>> {
    let mut reader = Reader::default();
    let Some(mut fields) = reader.object("", body) else { return Err(reader.problems) };
    let hyperparameters = fields.remove("hyperparameters").filter(|value| !value.is_null());
    let mut h = hyperparameters.and_then(|value| reader.object("/hyperparameters", &value)).unwrap_or_default();
    let mut draft = SpecDraft {
        model: reader.text("/model", fields.remove("model")),
        dataset: reader.text("/dataset", fields.remove("dataset")),
        ..SpecDraft::default()
    };
    reader.draft(&mut draft, &mut h);
    let name = reader.text("/name", fields.remove("name"));
    if name.as_ref().is_some_and(|name| name.is_empty() || name.chars().count() > NAME_LENGTH_MAX) {
        reader.problem("/name", format!("expected 1 to {NAME_LENGTH_MAX} characters"));
    }
    let tags = reader.tags(fields.remove("tags"));
    let priority = reader.priority(fields.remove("priority"));
    reader.leftovers("", &fields);
    reader.leftovers("/hyperparameters", &h);
    let spec = TaskSpec::build(&draft);
    if let Err(problems) = &spec {
        let told = |problem: &Problem| reader.problems.iter().any(|other| other.pointer == problem.pointer);
        let new: Vec<Problem> = problems.iter().filter(|problem| !told(problem)).cloned().collect();
        reader.problems.extend(new);
    }
    match spec {
        Ok(spec) if reader.problems.is_empty() => Ok(TaskBody { name, tags, priority, spec }),
        _ => Err(reader.problems),
    }
}

#[derive(Default)]
struct Reader {
    problems: Vec<Problem>,
}

impl Reader {
    fn problem(&mut self, pointer: &str, message: String) {
        self.problems.push(Problem { pointer: pointer.to_owned(), message });
    }

    fn wrong(&mut self, pointer: &str, expected: &str, found: &Value) {
        self.problem(pointer, format!("expected {expected}, found {}", shown(found)));
    }

    fn object(&mut self, pointer: &str, value: &Value) -> Option<Map<String, Value>> {
        let fields = value.as_object().cloned();
        if fields.is_none() {
            self.wrong(pointer, "an object", value);
        }
        fields
    }

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
            self.wrong(pointer, expected, &value);
        }
        found
    }

    fn text(&mut self, pointer: &str, value: Option<Value>) -> Option<String> {
        self.read(pointer, value, "a string", |value| value.as_str().map(str::to_owned))
    }

    fn draft(&mut self, draft: &mut SpecDraft, h: &mut Map<String, Value>) {
        draft.epochs = self.whole(h, "epochs");
        draft.batch_size = self.whole(h, "batch_size");
        draft.learning_rate = self.number(h, "learning_rate");
        draft.optimizer = self.text("/hyperparameters/optimizer", h.remove("optimizer"));
        draft.weight_decay = self.number(h, "weight_decay");
        draft.momentum = self.number(h, "momentum");
        draft.schedule = self.text("/hyperparameters/schedule", h.remove("schedule"));
        draft.schedule_every = self.whole(h, "schedule_every");
        draft.schedule_factor = self.number(h, "schedule_factor");
        draft.seed = self.read("/hyperparameters/seed", h.remove("seed"), "a whole number from 0", Value::as_u64);
        draft.dropout = self.number(h, "dropout");
        draft.validation_fraction = self.number(h, "validation_fraction");
        draft.target_accuracy = self.number(h, "target_accuracy");
        draft.patience = self.whole(h, "patience");
        draft.max_seconds = self.whole(h, "max_seconds");
        draft.hidden = self.widths(h, "hidden");
        draft.channels = self.widths(h, "channels");
        draft.units = self.whole(h, "units");
        draft.dense = self.whole(h, "dense");
    }

    fn whole(&mut self, h: &mut Map<String, Value>, field: &str) -> Option<u32> {
        self.read(&format!("/hyperparameters/{field}"), h.remove(field), "a whole number from 0", whole)
    }

    fn number(&mut self, h: &mut Map<String, Value>, field: &str) -> Option<f64> {
        self.read(&format!("/hyperparameters/{field}"), h.remove(field), "a number", Value::as_f64)
    }

    fn widths(&mut self, h: &mut Map<String, Value>, field: &str) -> Option<Vec<u32>> {
        let widths = |value: &Value| value.as_array()?.iter().map(whole).collect();
        self.read(&format!("/hyperparameters/{field}"), h.remove(field), "a list of whole numbers", widths)
    }

    fn tags(&mut self, value: Option<Value>) -> Vec<String> {
        let read = |value: &Value| value.as_array()?.iter().map(|tag| tag.as_str().map(str::to_owned)).collect();
        let tags: Vec<String> = self.read("/tags", value, "a list of strings", read).unwrap_or_default();
        if tags.len() > TAGS_MAX {
            self.problem("/tags", format!("{} tags are more than {TAGS_MAX}", tags.len()));
        }
        for (index, tag) in tags.iter().enumerate() {
            if tag.is_empty() || tag.chars().count() > NAME_LENGTH_MAX {
                self.problem(&format!("/tags/{index}"), format!("expected 1 to {NAME_LENGTH_MAX} characters"));
            }
        }
        tags
    }

    fn priority(&mut self, value: Option<Value>) -> i32 {
        let within = |value: &Value| value.as_i64().and_then(|number| i32::try_from(number).ok());
        let priority = self.read("/priority", value, "a whole number", within).unwrap_or(0);
        if priority.abs() > PRIORITY_MAX {
            self.problem("/priority", format!("{priority} is outside -{PRIORITY_MAX} to {PRIORITY_MAX}"));
        }
        priority
    }

    fn leftovers(&mut self, pointer: &str, fields: &Map<String, Value>) {
        for field in fields.keys() {
            let field = field.replace('~', "~0").replace('/', "~1");
            self.problem(&format!("{pointer}/{field}"), "unknown field".to_owned());
        }
    }
}

fn whole(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| u32::try_from(number).ok())
}

/// A value as an error message can carry it.
fn shown(value: &Value) -> String {
    match value {
        Value::Object(_) => "an object".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        other => other.to_string().chars().take(80).collect(),
    }
}
