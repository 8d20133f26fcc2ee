//! Walks through every world that can be reached, breadth first, and then back from the good ends.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    fmt,
};

use kubeml_actors::task::TaskState;

use crate::{
    invariants::Broken,
    key::{Key, key},
    moves::{Move, moves},
    mutants::Rules,
    world::{Budget, World},
};

/// What the walk has found.
pub struct Explored {
    pub states: usize,
    /// The shortest way to each broken promise.
    pub violations: Vec<Violation>,
    /// Worlds from which no way without further faults leads to an announced end.
    pub stuck: usize,
    pub first_stuck: Option<Violation>,
    /// The terminal states that were reached.
    pub ends: BTreeSet<TaskState>,
}

pub struct Violation {
    pub broken: Broken,
    pub trace: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.broken)?;
        self.trace.iter().try_for_each(|line| writeln!(f, "    {line}"))
    }
}

/// Walks through all worlds, or until the first broken promise.
pub fn explore(rules: &Rules, budget: Budget, until_broken: bool) -> Explored {
    let mut walk = Walk::new(rules, budget);
    while let Some((from, world)) = walk.ahead.pop_front() {
        for (index, next) in moves(&world, rules).into_iter().enumerate() {
            walk.step(from, index, next);
        }
        if until_broken && !walk.violations.is_empty() {
            break;
        }
    }
    walk.explored()
}

struct Walk<'a> {
    rules: &'a Rules,
    start: World,
    seen: HashMap<Key, u32>,
    ahead: VecDeque<(u32, World)>,
    /// Where each world was first reached from, and by which of the moves there.
    reached_by: Vec<(u32, u16)>,
    /// From, to.
    free_moves: Vec<(u32, u32)>,
    good: Vec<u32>,
    ends: BTreeSet<TaskState>,
    violations: Vec<Violation>,
}

impl<'a> Walk<'a> {
    fn new(rules: &'a Rules, budget: Budget) -> Self {
        let start = World::new(budget);
        Self {
            rules,
            seen: HashMap::from([(key(&start), 0)]),
            ahead: VecDeque::from([(0, start.clone())]),
            reached_by: vec![(0, 0)],
            free_moves: Vec::new(),
            good: Vec::new(),
            ends: BTreeSet::new(),
            violations: Vec::new(),
            start,
        }
    }

    fn step(&mut self, from: u32, index: usize, next: Move) {
        let Move { is_free, mut world, .. } = next;
        if let Some(broken) = world.broken.take()
            && self.violations.iter().all(|known| known.broken != broken)
        {
            let trace = self.trace(from, Some(index));
            self.violations.push(Violation { broken, trace });
        }
        let fresh = self.reached_by.len() as u32;
        let to = *self.seen.entry(key(&world)).or_insert(fresh);
        if is_free {
            self.free_moves.push((from, to));
        }
        if to == fresh {
            self.reached_by.push((from, index as u16));
            if world.record.state.is_terminal() {
                self.ends.insert(world.record.state);
            }
            if world.is_settled() {
                self.good.push(to);
            }
            self.ahead.push_back((to, world));
        }
    }

    /// The way to a world, and one move further, told by going it again.
    fn trace(&self, mut to: u32, last: Option<usize>) -> Vec<String> {
        let mut indices: Vec<usize> = last.into_iter().collect();
        while to != 0 {
            let (from, index) = self.reached_by[to as usize];
            indices.push(index.into());
            to = from;
        }
        let mut world = self.start.clone();
        let mut lines = Vec::new();
        for index in indices.into_iter().rev() {
            let next = moves(&world, self.rules).swap_remove(index);
            let who = next.who.map_or(String::new(), |who| format!("{} ", ["a", "b"][who]));
            lines.push(format!("{who}{} -> {}", next.what, next.world.summary()));
            world = next.world;
            world.broken = None;
        }
        lines
    }

    fn explored(mut self) -> Explored {
        let is_whole = self.ahead.is_empty();
        let stuck = if is_whole { self.stuck() } else { Vec::new() };
        let first_stuck = stuck.first().map(|first| Violation {
            broken: "I5: the task never ends, though nothing fails any more",
            trace: self.trace(*first, None),
        });
        Explored {
            states: self.reached_by.len(),
            violations: self.violations,
            stuck: stuck.len(),
            first_stuck,
            ends: self.ends,
        }
    }

    /// The worlds that no free way leads out of to an announced end, in the order in which they were found.
    fn stuck(&mut self) -> Vec<u32> {
        self.free_moves.sort_unstable_by_key(|(_, to)| *to);
        let mut can_end = vec![false; self.reached_by.len()];
        let mut ahead = std::mem::take(&mut self.good);
        ahead.iter().for_each(|good| can_end[*good as usize] = true);
        while let Some(to) = ahead.pop() {
            let first = self.free_moves.partition_point(|(_, other)| *other < to);
            for (from, _) in self.free_moves[first..].iter().take_while(|(_, other)| *other == to) {
                if !std::mem::replace(&mut can_end[*from as usize], true) {
                    ahead.push(*from);
                }
            }
        }
        (0..).zip(can_end).filter(|(_, can_end)| !can_end).map(|(world, _)| world).collect()
    }
}
