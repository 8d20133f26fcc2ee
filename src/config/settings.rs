//! Every key with its effective value and where that comes from, for `kubeml config show`.

use std::fmt::Write as _;

use super::origin::Origin;

/// What a key is set to.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Dotted: `http.listen`.
    pub key: String,
    pub value: toml::Value,
    pub origin: Origin,
}

/// What every key is set to, in the order in which the sections are read. Holds no secret: keys name the files in which
/// secrets are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings(Vec<Setting>);

impl Settings {
    pub fn get(&self, key: &str) -> Option<&Setting> {
        self.0.iter().find(|setting| setting.key == key)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.0.iter()
    }

    /// A key may be read twice (a table shared by two adapters); it is one setting.
    pub(super) fn add(&mut self, key: String, value: toml::Value, origin: Origin) {
        if self.get(&key).is_none() {
            self.0.push(Setting { key, value, origin });
        }
    }

    /// The settings as a TOML file that configures the same; `with_origin` adds to each where its value comes from.
    pub fn to_toml(&self, with_origin: bool) -> String {
        let mut text = String::new();
        for section in self.sections() {
            let gap = if text.is_empty() { "" } else { "\n" };
            let _ = writeln!(text, "{gap}[{section}]");
            for Setting { key, value, origin } in self.0.iter().filter(|setting| setting.section() == section) {
                let name = &key[section.len() + 1..];
                let origin = if with_origin { format!("  # {origin}") } else { String::new() };
                let _ = writeln!(text, "{name} = {value}{origin}");
            }
        }
        text
    }

    /// Each section once, where it is first met.
    fn sections(&self) -> Vec<&str> {
        let mut sections: Vec<&str> = Vec::new();
        for setting in &self.0 {
            if !sections.contains(&setting.section()) {
                sections.push(setting.section());
            }
        }
        sections
    }
}

impl Setting {
    fn section(&self) -> &str {
        self.key.rsplit_once('.').map_or("", |(section, _)| section)
    }
}
