//! Whatever is done to it, the file answers what the in-memory reference answers.

use kubeml_actors::{
    in_memory::InMemoryState,
    ports::{PortError, TaskFilter},
    task::{TaskRecord, TaskState},
    timestamp::Timestamp,
};
use proptest::prelude::*;

use super::*;

/// Something done to one of a few tasks.
#[derive(Clone, Debug)]
enum Deed {
    Insert { task: usize, priority: i32 },
    Write { task: usize, ahead: u64, state: usize, announced: bool, fact: (u32, u64) },
    Append { task: usize, attempt: u32, n: u64, at: u64 },
    Delete { task: usize },
    Trim { horizon: u64 },
    Reopen,
}

const TASKS: usize = 4;

fn deed() -> impl Strategy<Value = Deed> {
    let fact = (0..3u32, 0..4u64);
    prop_oneof![
        3 => (0..TASKS, -1..2).prop_map(|(task, priority)| Deed::Insert { task, priority }),
        6 => (0..TASKS, 0..3u64, 0..5usize, any::<bool>(), fact)
            .prop_map(|(task, ahead, state, announced, fact)| Deed::Write { task, ahead, state, announced, fact }),
        4 => (0..TASKS, 0..3u32, 0..4u64, 0..10u64)
            .prop_map(|(task, attempt, n, at)| Deed::Append { task, attempt, n, at }),
        1 => (0..TASKS).prop_map(|task| Deed::Delete { task }),
        1 => (0..10u64).prop_map(|horizon| Deed::Trim { horizon }),
        1 => Just(Deed::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn the_file_answers_what_the_reference_answers(deeds in prop::collection::vec(deed(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime starts");
        runtime.block_on(play(&deeds))?;
    }
}

async fn play(deeds: &[Deed]) -> Result<(), TestCaseError> {
    let directory = directory();
    let mut state = open_state(directory.path());
    let reference = InMemoryState::new();
    let tasks: Vec<TaskRecord> = (0..TASKS).map(|age| samples::record(age as u64 / 2)).collect();
    for deed in deeds {
        if let Deed::Reopen = deed {
            drop(state);
            state = open_state(directory.path());
        }
        let answers = (act(&state, deed, &tasks).await, act(&reference, deed, &tasks).await);
        prop_assert_eq!(answers.0, answers.1);
        let read = (everything(&state, &tasks).await, everything(&reference, &tasks).await);
        prop_assert_eq!(read.0, read.1);
    }
    Ok(())
}

/// What the store answered, as text; errors by their kind only.
async fn act(state: &(impl TaskStore + EventLog), deed: &Deed, tasks: &[TaskRecord]) -> String {
    match *deed {
        Deed::Insert { task, priority } => {
            let record = TaskRecord { priority, ..tasks[task].clone() };
            told(state.insert(&record, &[samples::fact(record.id, 0, 0)]).await)
        }
        Deed::Write { task, ahead, state: code, announced, fact: (attempt, n) } => {
            let stored = state.get(tasks[task].id).await.ok().flatten();
            let current = stored.unwrap_or_else(|| tasks[task].clone());
            let next = TaskRecord {
                version: current.version + ahead,
                state: TaskState::ALL[code],
                announced: announced && TaskState::ALL[code].is_terminal(),
                ..current
            };
            told(state.compare_and_set(&next, &[samples::fact(next.id, attempt, n)]).await)
        }
        Deed::Append { task, attempt, n, at } => {
            told(state.append(&[samples::fact_at(tasks[task].id, Seq::new(attempt, n), at)]).await)
        }
        Deed::Delete { task } => told(state.delete(tasks[task].id).await),
        Deed::Trim { horizon } => told(state.trim(Timestamp(horizon)).await),
        Deed::Reopen => String::new(),
    }
}

async fn everything(state: &(impl TaskStore + EventLog), tasks: &[TaskRecord]) -> String {
    let mut read = vec![
        told(state.list(&TaskFilter::default(), None, 3).await),
        told(state.queue(&[TaskState::Pending, TaskState::Running], 10).await),
        told(state.read_all(&Position::default(), 100).await),
        told(state.counts().await.map(|counts| TaskState::ALL.map(|state| counts.get(&state).copied().unwrap_or(0)))),
        state.head().borrow().to_string(),
    ];
    for task in tasks {
        read.push(told(state.get(task.id).await));
        read.push(told(state.read_task(task.id, None, 100).await));
    }
    read.join("\n")
}

fn told<T: std::fmt::Debug>(answer: Result<T, PortError>) -> String {
    match answer {
        Ok(answer) => format!("{answer:?}"),
        Err(PortError::NotFound(_)) => "not found".to_owned(),
        Err(PortError::Rejected(_)) => "rejected".to_owned(),
        Err(error) => format!("{error:?}"),
    }
}
