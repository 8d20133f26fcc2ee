//! Good bodies, and every kind of bad one.

use serde_json::json;

use super::*;

fn problems(body: Value) -> Vec<(String, String)> {
    let problems = read_task_body(&body).unwrap_err();
    problems.into_iter().map(|problem| (problem.pointer, problem.message)).collect()
}

#[test]
fn a_model_is_enough_and_null_is_as_good_as_left_out() {
    let plain = read_task_body(&json!({"model": "mlp"})).unwrap();
    assert_eq!((plain.priority, plain.tags.len(), plain.name.clone()), (0, 0, None));
    let nulls = json!({"model": "mlp", "dataset": null, "name": null, "hyperparameters": {"epochs": null}});
    assert_eq!(read_task_body(&nulls).unwrap(), plain);
}

#[test]
fn every_problem_of_a_body_is_named_at_once() {
    let body = json!({
        "model": 3, "dataset": "../etc", "name": "", "tags": [1], "priority": 5000, "colour": "blue",
        "hyperparameters": {"epochs": 0, "batch_size": "many", "learning_rate": -1, "seed": 1.5, "a/b": 1}
    });
    let found: Vec<String> = problems(body).into_iter().map(|(pointer, _)| pointer).collect();
    for pointer in [
        "/model",
        "/dataset",
        "/name",
        "/tags",
        "/priority",
        "/colour",
        "/hyperparameters/epochs",
        "/hyperparameters/batch_size",
        "/hyperparameters/learning_rate",
        "/hyperparameters/seed",
        "/hyperparameters/a~1b",
    ] {
        assert_eq!(found.iter().filter(|found| *found == pointer).count(), 1, "{pointer} in {found:?}");
    }
}

#[test]
fn what_is_no_object_is_refused_by_its_place() {
    assert_eq!(problems(json!([])), [("".to_owned(), "expected an object, found a list".to_owned())]);
    let hyperparameters = problems(json!({"model": "mlp", "hyperparameters": 7}));
    assert_eq!(hyperparameters, [("/hyperparameters".to_owned(), "expected an object, found 7".to_owned())]);
}

#[test]
fn a_slip_in_a_name_is_recognised() {
    let found = problems(json!({"modle": "mlp", "model": "mlpp", "hyperparameters": {"epoch": 3}}));
    assert_eq!(
        found,
        [
            ("/model", "unknown model \"mlpp\": expected one of mlp, cnn, lstm; did you mean \"mlp\"?"),
            ("/hyperparameters/epoch", "unknown field; did you mean \"epochs\"?"),
            ("/modle", "unknown field; did you mean \"model\"?"),
        ]
        .map(|(pointer, message)| (pointer.to_owned(), message.to_owned()))
    );
}
