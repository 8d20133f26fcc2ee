//! What holds after any sequence of inputs, likely and unlikely ones.
//!
//! 256 sequences; 100,000 in CI; as many as `PROPTEST_CASES` says. The seed is fixed unless `PROPTEST_RNG_SEED` is set.

use std::{collections::HashMap, time::Duration};

use proptest::{
    collection::vec,
    prelude::{ProptestConfig, any, proptest},
    test_runner::RngSeed,
};
use uuid::Uuid;

use super::life::{Life, STEPS, STEPS_PER_EPOCH, claim, close_epoch, end, finish, lose, reap, save, start, submission};
use crate::{
    event::{EventKind, TaskEvent},
    task::{FailureKind, Fence, TaskId, TaskRecord, TaskState},
    timestamp::Timestamp,
    transition::{Input, Next},
};

/// How attempts end; likelier than the rest is what lets the task go on.
const KINDS: [FailureKind; 16] = {
    let mut kinds = [FailureKind::Crashed; 16];
    kinds[0] = FailureKind::Permanent;
    kinds[1] = FailureKind::NoProgress;
    kinds[2] = FailureKind::Diverged;
    kinds[3] = FailureKind::Diverged;
    kinds[4] = FailureKind::Infrastructure;
    kinds[5] = FailureKind::Infrastructure;
    kinds[6] = FailureKind::Drained;
    kinds[7] = FailureKind::Drained;
    kinds
};

fn config() -> ProptestConfig {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("CI").is_some() && std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 100_000;
    }
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(7);
    }
    config
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_sequence_of_inputs_breaks_a_promise(no_progress_max in 0_u32..=5, script in vec(any::<(u8, u8)>(), 1..48)) {
        let mut walk = Walk::begin(no_progress_max);
        for (choice, detail) in script {
            walk.take(choice, detail);
        }
        walk.end_without_faults();
    }

    #[test]
    fn one_key_makes_one_task(keys in vec((0_u8..6, 0_u8..2), 1..32)) {
        let mut store: HashMap<TaskId, TaskRecord> = HashMap::new();
        for (key, tag) in &keys {
            let id = TaskId::from_idempotency_key(&key.to_string());
            let mut asked = submission(id);
            asked.tags = vec![tag.to_string()];
            let record = TaskRecord::submitted(asked, Uuid::nil(), Timestamp(0));
            let first_tag = keys.iter().find(|(first, _)| first == key).map(|(_, tag)| *tag);
            let stored = store.entry(id).or_insert_with(|| record.clone());
            assert_eq!(stored.asks_the_same_as(&record), first_tag == Some(*tag));
        }
        let mut distinct: Vec<u8> = keys.iter().map(|(key, _)| *key).collect();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(store.len(), distinct.len());
    }
}

/// A life under random inputs, with what is needed to judge it.
struct Walk {
    life: Life,
    /// Every fence that was ever given out, oldest first.
    fences: Vec<Fence>,
    /// Charged attempts in a row without a checkpoint.
    tries: u32,
    results: u32,
}

impl Walk {
    fn begin(no_progress_max: u32) -> Self {
        let mut life = Life::submitted();
        life.limits.no_progress_max = no_progress_max;
        Self { life, fences: Vec::new(), tries: 0, results: 0 }
    }

    fn take(&mut self, choice: u8, detail: u8) {
        if choice.is_multiple_of(16) {
            self.life.pass(Duration::from_secs(detail.into()));
            return;
        }
        let input = self.input(choice, detail);
        if let Ok(next) = self.life.decide(&input) {
            self.judge(&input, &next);
            self.book(&input, &next);
        }
    }

    fn input(&self, choice: u8, detail: u8) -> Input {
        let fence = self.fence(detail);
        let n = self.life.next_n();
        let newest = self.life.record.resume_step();
        let step = (newest + u64::from(detail % 8)).saturating_sub(2);
        match choice % 16 {
            1..=3 => claim(u128::from(self.life.record.version) << 8 | u128::from(detail)),
            4 => start(fence, n),
            5..=6 => save(fence, step.min(STEPS), n),
            7 => close_epoch(fence, ((newest / STEPS_PER_EPOCH) as u32 + u32::from(detail % 2)).clamp(1, 3), n),
            8 => match self.life.record.checkpoints.get(usize::from(detail.is_multiple_of(8))) {
                Some(checkpoint) => lose(fence, checkpoint.artifact, n),
                None => Input::Announce,
            },
            9 if detail.is_multiple_of(2) => finish(fence),
            9..=12 => {
                let retry_after = Duration::from_secs(u64::from(detail % 4));
                end(fence, KINDS[usize::from(detail / 16)], retry_after)
            }
            13 => reap(fence),
            14 if detail.is_multiple_of(4) => Input::RequestCancel,
            14 => Input::ConfirmCancel { fence },
            _ => Input::Announce,
        }
    }

    /// Mostly the current one; else an older one, or one that nobody was given.
    fn fence(&self, detail: u8) -> Fence {
        let current = self.fences.last().copied().unwrap_or(Fence { attempt: 0, nonce: Uuid::nil() });
        let older = self.fences.get(usize::from(detail) % self.fences.len().max(1)).copied();
        match detail % 16 {
            0 | 1 => older.unwrap_or(current),
            2 => Fence { nonce: Uuid::from_u128(detail.into()), ..current },
            3 => Fence { attempt: current.attempt + 1, ..current },
            _ => current,
        }
    }

    fn judge(&self, input: &Input, next: &Next) {
        let (old, new) = (&self.life.record, &next.record);
        if old.state.is_terminal() {
            let announced = TaskRecord { announced: true, ..old.clone() };
            let stamped = (new.version, new.op_id, new.updated_at);
            let (version, op_id, updated_at) = stamped;
            assert_eq!(*new, TaskRecord { version, op_id, updated_at, ..announced }, "I2: terminal states absorb");
        }
        assert_eq!(new.version, old.version + 1);
        assert!(new.attempt >= old.attempt, "I3: attempts never decrease");
        if let Some(fence) = fence_of(input) {
            assert_eq!(old.fence(), Some(fence), "I3, I16: only the holder's writes change the task");
        }
        let claims = u32::from(matches!(input, Input::Claim { .. }) && new.state == TaskState::Running);
        assert_eq!(new.attempt, old.attempt + claims);
        assert!(
            self.tries + claims <= self.life.limits.no_progress_max + 1,
            "I6: tried once more than the budget at most"
        );
        assert!(self.results == 0 || new.result == old.result, "I4: one result");
        if !matches!(input, Input::LoseCheckpoint { .. }) {
            assert!(new.resume_step() >= old.resume_step(), "I7: checkpoints only go forward");
        }
        assert!(new.checkpoints.len() <= 2);
        assert_eq!(new.owner.is_some(), new.state == TaskState::Running);
        assert_eq!(new.is_queued(), !(new.state.is_terminal() && new.announced), "I5: the queue covers the rest");
        self.judge_facts(next);
        judge_the_end(new);
    }

    /// The facts of an attempt are numbered without holes, and none takes the place of another.
    fn judge_facts(&self, next: &Next) {
        let new_attempt = next.record.attempt > self.life.record.attempt;
        let mut expected = if new_attempt { 0 } else { self.life.next_n() };
        for fact in &next.facts {
            assert_eq!(fact.seq.attempt(), next.record.attempt);
            let taken = |known: &TaskEvent| known.seq == fact.seq && known.kind != fact.kind;
            assert!(!self.life.facts.iter().any(taken), "{} is taken by another fact", fact.seq);
            if !matches!(fact.kind, EventKind::AttemptFailed { .. }) {
                assert_eq!(fact.seq.n(), expected, "a hole before {}", fact.seq);
                expected += 1;
            }
        }
    }

    fn book(&mut self, input: &Input, next: &Next) {
        self.tries = match input {
            Input::Claim { .. } if next.record.state == TaskState::Running => self.tries + 1,
            Input::SaveCheckpoint { .. } => 0,
            Input::EndAttempt { failure, .. }
                if matches!(failure.kind, FailureKind::Drained | FailureKind::Infrastructure) =>
            {
                self.tries.saturating_sub(1)
            }
            _ => self.tries,
        };
        self.results += u32::from(matches!(input, Input::Finish { .. }));
        self.life.record = next.record.clone();
        self.life.facts.extend(next.facts.iter().cloned());
        if matches!(input, Input::Claim { .. }) {
            self.fences.extend(self.life.record.fence());
        }
    }

    /// I5: from here a few steps without faults end the task and announce its end.
    fn end_without_faults(mut self) {
        for _ in 0..4 {
            let input = match (self.life.record.state, self.life.record.fence()) {
                (_, Some(fence)) if self.life.record.cancel_requested => Input::ConfirmCancel { fence },
                (_, Some(fence)) => finish(fence),
                (TaskState::Pending, None) => {
                    self.life.now = self.life.now.max(self.life.record.not_before.unwrap_or_default());
                    claim(0xfff)
                }
                _ if self.life.record.announced => return,
                _ => Input::Announce,
            };
            let next = self.life.decide(&input).expect("nothing is in the way");
            self.judge(&input, &next);
            self.book(&input, &next);
        }
        assert!(self.life.record.announced, "I5: the task does not end: {:?}", self.life.record);
    }
}

/// I10: the log's last fact says what the record does.
fn judge_the_end(record: &TaskRecord) {
    let told = record.terminal_fact().map(|fact| {
        assert!(fact.kind.is_terminal());
        assert_eq!(fact.seq.attempt(), record.attempt);
        fact.kind.as_str()
    });
    assert_eq!(told, record.state.is_terminal().then_some(record.state.as_str()), "I10");
}

fn fence_of(input: &Input) -> Option<Fence> {
    match input {
        Input::Start { fence, .. }
        | Input::SaveCheckpoint { fence, .. }
        | Input::LoseCheckpoint { fence, .. }
        | Input::Finish { fence, .. }
        | Input::EndAttempt { fence, .. }
        | Input::Reap { fence, .. }
        | Input::ConfirmCancel { fence } => Some(*fence),
        Input::Claim { .. } | Input::RequestCancel | Input::Announce => None,
    }
}
