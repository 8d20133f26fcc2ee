//! Fields that a newer version has written: kept as they are, and written back.
//!
//! A stored struct has one field `#[serde(flatten)] unknown: Unknown`, so that a node that does not know a field cannot
//! lose it.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_bytes::ByteBuf;

/// Fields by name; empty where the struct holds nothing that this version does not know.
pub type Unknown = BTreeMap<String, Any>;

/// Any value of a self-describing encoding. Floats keep their bits.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Any {
    Null(()),
    Bool(bool),
    Whole(u64),
    Signed(i64),
    Real(f64),
    Text(String),
    Bytes(ByteBuf),
    List(Vec<Any>),
    Map(BTreeMap<String, Any>),
}

/// By what the encoding says, since bytes that are UTF-8 must not become text.
impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyVisitor)
    }
}

struct AnyVisitor;

impl<'de> Visitor<'de> for AnyVisitor {
    type Value = Any;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value with text for keys")
    }

    fn visit_unit<E>(self) -> Result<Any, E> {
        Ok(Any::Null(()))
    }

    fn visit_none<E>(self) -> Result<Any, E> {
        Ok(Any::Null(()))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Any, D::Error> {
        Any::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Any, E> {
        Ok(Any::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Any, E> {
        Ok(Any::Whole(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Any, E> {
        Ok(u64::try_from(value).map_or(Any::Signed(value), Any::Whole))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Any, E> {
        Ok(Any::Real(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Any, E> {
        Ok(Any::Text(value.to_owned()))
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Any, E> {
        Ok(Any::Bytes(ByteBuf::from(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Any, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Any::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Any, A::Error> {
        let mut map = BTreeMap::new();
        while let Some((name, value)) = entries.next_entry()? {
            map.insert(name, value);
        }
        Ok(Any::Map(map))
    }
}

/// A part of a stored record together with what a newer version has written beside it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Kept<T> {
    #[serde(flatten)]
    pub known: T,
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl<T> From<T> for Kept<T> {
    fn from(known: T) -> Self {
        Self { known, unknown: Unknown::new() }
    }
}

impl<T> std::ops::Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.known
    }
}
