//! Tables whose keys a library knows, not we: what is written there is handed on, checked by who knows it.

use std::collections::BTreeMap;

use super::{
    super::{
        entries::Raw,
        value::{Bad, quoted},
    },
    Table,
};

/// What is to be known of the keys of an open table.
pub struct OpenKeys {
    /// Whether `value` may be written for `name`.
    pub check: fn(name: &str, value: &str) -> Result<(), Bad>,
    /// Whether the value must not be shown.
    pub is_secret: fn(name: &str) -> bool,
}

impl Table<'_> {
    /// Everything written below the table `name`, in strings as its library takes them. Names with dots may be written
    /// as TOML nests them or in quotes.
    pub fn open(&mut self, name: &str, keys: &OpenKeys) -> BTreeMap<String, String> {
        let path = self.path_of(name);
        let mut values = BTreeMap::new();
        let below = |key: &str| key.strip_prefix(&path)?.strip_prefix('.').map(|name| name.replace('"', ""));
        for entry in self.reader.entries.clone() {
            let Some(name) = below(&entry.key) else { continue };
            if matches!(entry.raw, Raw::Section) {
                continue;
            }
            match text(&entry.raw).and_then(|value| (keys.check)(&name, &value).map(|()| value)) {
                Ok(value) => drop(values.insert(name, (value, entry.origin))),
                Err(bad) => self.reader.problems.push(bad.problem(&format!("{path}.{name}"), &entry.origin)),
            }
        }
        for (name, (value, origin)) in &values {
            let shown = if (keys.is_secret)(name) { "(hidden)" } else { value };
            self.reader.settings.add(format!("{path}.{name}"), quoted(shown), origin.clone());
        }
        self.reader.open.insert(path);
        values.into_iter().map(|(name, (value, _))| (name, value)).collect()
    }
}

fn text(raw: &Raw) -> Result<String, Bad> {
    match raw {
        Raw::Text(text) | Raw::Toml(toml::Value::String(text)) => Ok(text.clone()),
        Raw::Toml(value @ (toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_))) => {
            Ok(value.to_string())
        }
        Raw::Toml(_) | Raw::TooLarge | Raw::Section => Err(Bad {
            wrong: "this value is not allowed".to_owned(),
            allowed: "a text, a number, true or false".to_owned(),
            meant: None,
        }),
    }
}
