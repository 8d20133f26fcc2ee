//! Which nodes are dead, told from how their heartbeats go on. Pure: the caller reads the registry and brings the time.
//!
//! A node is taken for dead when the same heartbeat has been read for a whole lease, by the observer's own monotonic
//! clock. Only reads close together count: after an outage, or a pause of the observer itself, watching begins again. A
//! wrong verdict wastes work and breaks nothing: every write of an owner carries its fence.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use crate::{ports::NodeRow, task::Incarnation};

#[cfg(test)]
mod tests;

/// Reads further apart than this, or than three heartbeats, say nothing about what was between them.
const READ_GAP_MAX: Duration = Duration::from_secs(1);
/// Between the turns of several observers at the same dead node.
const TURN: Duration = Duration::from_millis(500);

pub struct Observer {
    me: Incarnation,
    lease: Duration,
    read_gap_max: Duration,
    /// When the registry was last read.
    read_at: Option<Duration>,
    watched: HashMap<Incarnation, Watched>,
}

struct Watched {
    /// The heartbeat read last; `None` for an owner whose heartbeat is in no row.
    seq: Option<u64>,
    /// Since when nothing else was read.
    since: Duration,
    /// It was there, and is gone: it has left, or its row has expired.
    gone: bool,
    /// It has been seen to live.
    moved: bool,
}

impl Observer {
    pub fn new(me: Incarnation, lease: Duration, heartbeat: Duration) -> Self {
        let read_gap_max = READ_GAP_MAX.max(3 * heartbeat);
        Self { me, lease, read_gap_max, read_at: None, watched: HashMap::new() }
    }

    /// The registry was read at `now`, on a clock of the caller's own that never goes back.
    pub fn read(&mut self, rows: &[NodeRow], now: Duration) {
        if self.read_at.is_some_and(|last| now.saturating_sub(last) > self.read_gap_max) {
            self.begin_again(now);
        }
        self.read_at = Some(now);
        for row in rows {
            let watched = self.watched.entry(row.incarnation.clone());
            let watched = watched.or_insert(Watched { seq: None, since: now, gone: false, moved: false });
            if watched.seq != Some(row.seq) {
                let moved = watched.moved || watched.seq.is_some();
                *watched = Watched { seq: Some(row.seq), since: now, gone: false, moved };
            }
        }
        for (incarnation, watched) in &mut self.watched {
            let is_listed = rows.iter().any(|row| row.incarnation == *incarnation);
            watched.gone = !is_listed && watched.seq.is_some();
        }
    }

    /// The registry could not be read: what was seen before says nothing about now.
    pub fn read_failed(&mut self) {
        self.read_at = None;
        self.watched.clear();
    }

    /// Whether `owner` is dead and it is this observer's turn to say so.
    pub fn is_dead(&mut self, owner: &Incarnation) -> bool {
        if *owner == self.me {
            return false;
        }
        let Some(now) = self.read_at else { return false };
        let fresh = Watched { seq: None, since: now, gone: false, moved: false };
        let watched = self.watched.entry(owner.clone()).or_insert(fresh);
        let (gone, silent) = (watched.gone, now.saturating_sub(watched.since));
        // Node ids are unique, so a namesake is an earlier life of this node, unless somebody gave an id twice.
        if owner.node == self.me.node && !watched.moved {
            return gone || silent >= self.lease / 2;
        }
        let turn = self.turn(owner, now);
        if gone { silent >= turn } else { silent >= self.lease + turn }
    }

    /// Whether another live node has this one's id.
    pub fn has_double(&self) -> bool {
        let now = self.read_at.unwrap_or_default();
        let is_double = |other: &Incarnation| *other != self.me && other.node == self.me.node;
        self.watched.iter().any(|(other, watched)| is_double(other) && watched.moved && watched.lives(now, self.lease))
    }

    /// What is known only by hearsay is forgotten when nobody owns anything by that name.
    pub fn retain(&mut self, owners: &[Incarnation]) {
        self.watched
            .retain(|incarnation, watched| (watched.seq.is_some() && !watched.gone) || owners.contains(incarnation));
    }

    /// When each incarnation's heartbeat was last seen to move.
    pub fn moved(&self) -> impl Iterator<Item = (Incarnation, Duration)> + '_ {
        self.watched.iter().map(|(incarnation, watched)| (incarnation.clone(), watched.since))
    }

    /// Whether somebody has been silent for long enough to be found dead soon.
    pub fn is_suspicious(&self) -> bool {
        let now = self.read_at.unwrap_or_default();
        let silent = |watched: &Watched| now.saturating_sub(watched.since);
        self.watched.values().any(|watched| (self.lease / 2..2 * self.lease).contains(&silent(watched)))
    }

    /// Whether a node has been heard of within a lease.
    pub fn is_alive(&self, node: &Incarnation) -> bool {
        let now = self.read_at.unwrap_or_default();
        self.watched.get(node).is_some_and(|watched| watched.lives(now, self.lease))
    }

    /// How long this observer leaves a dead node to others: live ones take turns in an order that differs from one dead
    /// node to the next.
    fn turn(&self, dead: &Incarnation, now: Duration) -> Duration {
        let rank = |observer: &Incarnation| {
            let mut hasher = DefaultHasher::new();
            (dead, observer).hash(&mut hasher);
            hasher.finish()
        };
        let mine = rank(&self.me);
        let live = self.watched.iter().filter(|(_, watched)| watched.lives(now, self.lease));
        let others = live.filter(|(other, _)| **other != self.me);
        let before_me = others.filter(|(other, _)| rank(other) < mine).count();
        TURN * u32::try_from(before_me).unwrap_or(u32::MAX)
    }

    fn begin_again(&mut self, now: Duration) {
        for watched in self.watched.values_mut() {
            watched.since = now;
        }
    }
}

impl Watched {
    fn lives(&self, now: Duration, lease: Duration) -> bool {
        self.seq.is_some() && !self.gone && now.saturating_sub(self.since) < lease
    }
}
