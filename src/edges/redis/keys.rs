//! The names under which things lie in Redis. Chunks and values never meet: what follows the prefix differs.

use kubeml_actors::dataset::ChunkHash;

use crate::codec::cached_chunk::FORMAT;

#[derive(Clone, Debug)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    /// `prefix` has no character that a pattern of Redis gives a meaning to: the configuration sees to that.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// The format is part of the name: nodes of different versions do not overwrite each other's chunks.
    pub fn chunk(&self, hash: ChunkHash) -> String {
        format!("{}:chunk:{}:{hash}", self.prefix, FORMAT)
    }

    /// Of the chunks that this version reads.
    pub fn chunk_pattern(&self) -> String {
        format!("{}:chunk:{}:*", self.prefix, FORMAT)
    }

    /// Of the chunks of every version.
    pub fn any_chunk_pattern(&self) -> String {
        format!("{}:chunk:*", self.prefix)
    }

    pub fn value(&self, key: &str) -> String {
        format!("{}:kv:{key}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_what_the_documentation_says() {
        let keys = Keys::new("kubeml");
        let hash = ChunkHash([0xab; 32]);
        assert_eq!(keys.chunk(hash), format!("kubeml:chunk:1:{}", "ab".repeat(32)));
        assert_eq!(keys.chunk_pattern(), "kubeml:chunk:1:*");
        assert_eq!(keys.any_chunk_pattern(), "kubeml:chunk:*");
        assert_eq!(keys.value("k1"), "kubeml:kv:k1");
    }

    #[test]
    fn no_value_lies_where_a_chunk_could() {
        let keys = Keys::new("kubeml");
        let chunk = keys.chunk(ChunkHash([0; 32]));
        for key in [chunk.as_str(), &chunk["kubeml:".len()..], "", ":", "../chunk:1:", "\n", "*"] {
            assert!(keys.value(key).starts_with("kubeml:kv:"), "{key:?}");
        }
    }
}
