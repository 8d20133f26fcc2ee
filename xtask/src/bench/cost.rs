//! Which processes had the processor while something was measured: on one machine, they share it.

use std::{collections::BTreeMap, fs, time::Duration};

/// Of each group of processes, the processor time they have used.
pub struct Cost(BTreeMap<String, Duration>);

impl Cost {
    /// Of groups like `cassandra` that each pid is said to belong to.
    pub fn now(pids: impl IntoIterator<Item = (String, i32)>) -> Self {
        let mut cost = BTreeMap::new();
        for (group, pid) in pids {
            *cost.entry(group).or_default() += used(pid).unwrap_or_default();
        }
        Self(cost)
    }

    /// What was used since `before`, for each of `count` things, as text: the most expensive first.
    pub fn since(&self, before: &Self, count: usize) -> String {
        let used = |(group, now): (&String, &Duration)| {
            (now.saturating_sub(before.0.get(group).copied().unwrap_or_default()), group.clone())
        };
        let mut each: Vec<(Duration, String)> = self.0.iter().map(used).collect();
        each.sort_by(|a, b| b.cmp(a));
        let text = |(used, group): (Duration, String)| format!("{group} {:.1} ms", millis(used, count));
        each.into_iter().map(text).collect::<Vec<_>>().join(", ")
    }

    /// Of all groups together, for each of `count` things.
    pub fn millis_since(&self, before: &Self, count: usize) -> f64 {
        let all = |cost: &Self| cost.0.values().sum::<Duration>();
        millis(all(self).saturating_sub(all(before)), count)
    }
}

fn millis(used: Duration, count: usize) -> f64 {
    used.as_secs_f64() * 1e3 / count.max(1) as f64
}

/// By all threads of a process since it started.
fn used(pid: i32) -> Option<Duration> {
    used_of(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Fields 14 and 15. The second is the program's name, in parentheses, and may hold anything.
fn used_of(stat: &str) -> Option<Duration> {
    /// Linux has told them in hundredths of a second for as long as there has been `/proc`.
    const TICK: Duration = Duration::from_millis(10);
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11).map(str::parse::<u32>);
    let (user, system) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some(TICK * user + TICK * system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_and_told_by_group() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 1 2 3 4 150 50 7 8 20 0 5 0 987654 1 2 3";
        assert_eq!(used_of(stat), Some(Duration::from_secs(2)));
        assert_eq!(used_of("1 (x) S 1 2"), None);
        let cost = |cassandra, kafka| {
            let of = |name: &str, seconds| (name.to_owned(), Duration::from_secs(seconds));
            Cost(BTreeMap::from([of("cassandra", cassandra), of("kafka", kafka)]))
        };
        let (before, after) = (cost(1, 5), cost(2, 8));
        assert_eq!(after.since(&before, 100), "kafka 30.0 ms, cassandra 10.0 ms");
        assert_eq!(after.millis_since(&before, 100), 40.0);
    }
}
