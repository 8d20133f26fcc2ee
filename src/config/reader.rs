//! Turns entries into typed values: the one mechanism by which every section and every adapter reads its keys.
//!
//! A key exists because a section reads it; there is no second list of keys. What was written for a key that nobody
//! reads is unknown. Every value written is checked, also one that a stronger source overrides.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::entries::{Entry, Raw, collect};
use super::origin::Origin;
use super::problem::{Problem, Problems};
use super::settings::{Setting, Settings};
use super::sources::Sources;
use super::suggest::nearest;
use super::unknown::unknown_entries;
use super::value::{Bad, Value, one_of, quoted};

mod open;

pub use open::OpenKeys;

/// Reads the sources, remembering what was read and what was wrong.
pub struct Reader {
    entries: Vec<Entry>,
    problems: Vec<Problem>,
    settings: Settings,
    /// Keys with an entry that cannot be used.
    bad: BTreeSet<String>,
    /// Tables whose keys a library knows, not we.
    open: BTreeSet<String>,
}

/// A table of the configuration, such as `[http]`.
pub struct Table<'r> {
    reader: &'r mut Reader,
    path: String,
}

/// A key about to be read, and the rule its values must keep.
pub struct Key<'t, T> {
    reader: &'t mut Reader,
    path: String,
    rule: Option<Rule<T>>,
}

struct Rule<T> {
    holds: Box<dyn Fn(&T) -> bool>,
    allowed: String,
}

/// One of the adapters that a role (store, bus, cache) can be given by its key `kind`.
pub struct Kind<T> {
    pub name: &'static str,
    /// The adapter's own table, below the role's: `redis` for `[cache.redis]`.
    pub table: &'static str,
    /// Reads that table.
    pub read: fn(&mut Table<'_>) -> T,
}

impl Reader {
    pub fn new(sources: &Sources) -> Self {
        let (entries, problems) = collect(sources);
        let (bad, open) = (BTreeSet::new(), BTreeSet::new());
        Self { entries, problems, settings: Settings::default(), bad, open }
    }

    pub fn table(&mut self, path: &str) -> Table<'_> {
        Table { reader: self, path: path.to_owned() }
    }

    /// What was read; or everything that was wrong, unknown entries included.
    pub fn finish(mut self) -> Result<Settings, Problems> {
        self.problems.extend(unknown_entries(&self.entries, &self.settings, &self.open));
        Problems::none_of(self.problems)?;
        Ok(self.settings)
    }

    /// The strongest usable value written for the key at `path`. Notes every unusable one.
    fn strongest<T>(&mut self, path: &str, read: impl Fn(&Raw) -> Result<T, Bad>) -> Option<(T, Origin)> {
        let mut strongest = None;
        for Entry { raw, origin, .. } in self.entries.iter().filter(|entry| entry.key == path) {
            match read(raw) {
                Ok(value) => strongest = Some((value, origin.clone())),
                Err(bad) => {
                    self.bad.insert(path.to_owned());
                    self.problems.push(bad.problem(path, origin));
                }
            }
        }
        strongest
    }
}

impl Table<'_> {
    pub fn key<T: Value>(&mut self, name: &str) -> Key<'_, T> {
        Key { path: self.path_of(name), reader: self.reader, rule: None }
    }

    pub fn table(&mut self, name: &str) -> Table<'_> {
        Table { path: self.path_of(name), reader: self.reader }
    }

    /// Notes a problem unless `holds`: `wrong` is what is wrong with the keys `names`, which have been read. Nothing is
    /// said of keys that could not be read.
    pub fn require(&mut self, names: &[&str], holds: bool, wrong: &str) {
        let paths: Vec<String> = names.iter().map(|name| self.path_of(name)).collect();
        if holds || paths.iter().any(|path| self.reader.bad.contains(path)) {
            return;
        }
        let settings: Vec<&Setting> = paths.iter().filter_map(|path| self.reader.settings.get(path)).collect();
        let is_set = |setting: &&Setting| format!("{} is {} ({})", setting.key, setting.value, setting.origin);
        let help = match names {
            [_] => String::new(),
            _ => settings.iter().map(is_set).collect::<Vec<_>>().join(", "),
        };
        // The strongest source is to blame: without it the keys agreed.
        if let Some(Setting { key, origin, .. }) = settings.into_iter().max_by_key(|setting| &setting.origin) {
            let problem = Problem { origin: origin.clone(), key: key.clone(), wrong: wrong.to_owned(), help };
            self.reader.problems.push(problem);
        }
    }

    /// The adapter that the key `kind` chooses, read from its own table. The other adapters' tables are checked too.
    pub fn kind<T>(&mut self, kinds: &[Kind<T>]) -> T {
        let path = self.path_of("kind");
        let chosen = self.reader.strongest(&path, |raw| choose(kinds, raw));
        let ((name, table, read), origin) = chosen.unwrap_or_else(|| no_default(&path));
        self.reader.settings.add(path, quoted(name), origin);
        for kind in kinds {
            drop((kind.read)(&mut self.table(kind.table)));
        }
        read(&mut self.table(table))
    }

    fn path_of(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }
}

impl<T: Value> Key<'_, T> {
    /// Every value must keep this rule; `allowed` completes "it must be …".
    #[must_use]
    pub fn only(mut self, allowed: &str, holds: impl Fn(&T) -> bool + 'static) -> Self {
        self.rule = Some(Rule { holds: Box::new(holds), allowed: allowed.to_owned() });
        self
    }

    /// Every value must lie in this range.
    #[must_use]
    pub fn within(self, range: RangeInclusive<T>) -> Self
    where
        T: PartialOrd + 'static,
    {
        let allowed = format!("{} to {}", range.start().to_toml(), range.end().to_toml());
        self.only(&allowed, move |value| range.contains(value))
    }

    /// The value; its default is the one in `config/embedded.toml`.
    pub fn get(self) -> T {
        self.strongest_or(no_default)
    }

    /// The value; its default is computed.
    pub fn or(self, default: T) -> T {
        self.strongest_or(|_| (default, Origin::Default))
    }

    fn strongest_or(self, default: impl FnOnce(&str) -> (T, Origin)) -> T {
        let Self { reader, path, rule } = self;
        let strongest = reader.strongest(&path, |raw| T::read(raw).and_then(|value| keeps(rule.as_ref(), value)));
        let (value, origin) = strongest.unwrap_or_else(|| default(&path));
        reader.settings.add(path, value.to_toml(), origin);
        value
    }
}

fn keeps<T: Value>(rule: Option<&Rule<T>>, value: T) -> Result<T, Bad> {
    match rule {
        Some(rule) if !(rule.holds)(&value) => Err(Bad {
            wrong: format!("{} is not allowed", value.to_toml()),
            allowed: rule.allowed.clone(),
            meant: None,
        }),
        _ => Ok(value),
    }
}

type Chosen<T> = (&'static str, &'static str, fn(&mut Table<'_>) -> T);

/// The name, table and reader of the kind that `raw` names.
fn choose<T>(kinds: &[Kind<T>], raw: &Raw) -> Result<Chosen<T>, Bad> {
    let name = String::read(raw)?;
    let names = || kinds.iter().map(|kind| kind.name);
    match kinds.iter().find(|kind| kind.name == name) {
        Some(Kind { name, table, read }) => Ok((name, table, *read)),
        None => {
            let meant = nearest(&name, names()).map(|name| quoted(name).to_string());
            Err(Bad { wrong: format!("{} is not allowed", quoted(&name)), allowed: one_of(names()), meant })
        }
    }
}

/// Never reached: `config/embedded.toml` is compiled in, and the tests load it.
fn no_default<T>(path: &str) -> T {
    panic!("config/embedded.toml has no usable default for {path}")
}
