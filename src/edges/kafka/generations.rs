//! A bounded memory that forgets what has not been asked for longest.

use std::{collections::HashMap, hash::Hash, mem};

/// Holds at least the `half` entries used last, and at most twice as many.
pub struct Generations<K, V> {
    half: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Eq + Hash + Clone, V> Generations<K, V> {
    pub fn new(half: usize) -> Self {
        Self { half: half.max(1), young: HashMap::new(), old: HashMap::new() }
    }

    pub fn get(&mut self, key: &K) -> Option<&V> {
        if !self.young.contains_key(key) {
            let value = self.old.remove(key)?;
            self.insert(key.clone(), value);
        }
        self.young.get(key)
    }

    pub fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::Generations;

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let mut memory = Generations::new(2);
        memory.insert("used", 1);
        for n in 0..100 {
            memory.insert("other", n);
            memory.insert(["a", "b", "c"][n as usize % 3], n);
            assert_eq!(memory.get(&"used"), Some(&1), "{n}");
            assert!(memory.young.len() + memory.old.len() <= 4);
        }
        assert_eq!(memory.get(&"other"), Some(&99));
    }

    #[test]
    fn the_newest_value_counts() {
        let mut memory = Generations::new(1);
        memory.insert('a', 1);
        memory.insert('b', 1);
        memory.insert('a', 2);
        assert_eq!(memory.get(&'a'), Some(&2));
        assert_eq!(memory.get(&'z'), None);
    }
}
