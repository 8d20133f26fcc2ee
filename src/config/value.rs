//! The types a key can have: how each is written in TOML and in plain text (environment, flags).

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::entries::Raw;
use super::origin::Origin;
use super::problem::Problem;
use super::suggest::nearest;

/// A type that a key can have.
pub trait Value: Sized {
    /// What may be written, to complete "it must be …".
    fn allowed() -> String;

    /// Reads the text of an environment variable or a flag.
    fn from_text(text: &str) -> Result<Self, Bad>;

    /// Reads a TOML value: by default a string that holds what `from_text` reads.
    fn from_toml(value: &toml::Value) -> Result<Self, Bad> {
        value.as_str().ok_or_else(|| Bad::new::<Self>(value)).and_then(Self::from_text)
    }

    /// The TOML value that reads as this one.
    fn to_toml(&self) -> toml::Value;

    fn read(raw: &Raw) -> Result<Self, Bad> {
        match raw {
            Raw::Toml(value) => Self::from_toml(value),
            Raw::Text(text) => Self::from_text(text),
            Raw::TooLarge => Err(Bad::new::<Self>("so large a number")),
            Raw::Section => Err(Bad::new::<Self>("a table")),
        }
    }
}

/// Why a value cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub struct Bad {
    /// What is wrong with it.
    pub wrong: String,
    /// What may be written instead, to complete "it must be …".
    pub allowed: String,
    /// What was probably meant.
    pub meant: Option<String>,
}

impl Bad {
    /// `found`, as TOML writes it, is nothing that may be written for a `T`.
    fn new<T: Value>(found: impl Display) -> Self {
        Self { wrong: format!("{found} is not allowed"), allowed: T::allowed(), meant: None }
    }

    fn text<T: Value>(found: &str) -> Self {
        Self::new::<T>(quoted(found))
    }

    pub fn problem(self, key: &str, origin: &Origin) -> Problem {
        let meant = self.meant.map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
        let help = format!("it must be {}{meant}", self.allowed);
        Problem { origin: origin.clone(), key: key.to_owned(), wrong: self.wrong, help }
    }
}

/// `text` as TOML writes it.
pub fn quoted(text: &str) -> toml::Value {
    toml::Value::String(text.to_owned())
}

impl Value for bool {
    fn allowed() -> String {
        "true or false".to_owned()
    }

    fn from_text(text: &str) -> Result<Self, Bad> {
        text.parse().map_err(|_| Bad::text::<Self>(text))
    }

    fn from_toml(value: &toml::Value) -> Result<Self, Bad> {
        value.as_bool().ok_or_else(|| Bad::new::<Self>(value))
    }

    fn to_toml(&self) -> toml::Value {
        toml::Value::Boolean(*self)
    }
}

impl Value for usize {
    fn allowed() -> String {
        "a whole number".to_owned()
    }

    fn from_text(text: &str) -> Result<Self, Bad> {
        text.parse().map_err(|_| Bad::text::<Self>(text))
    }

    fn from_toml(value: &toml::Value) -> Result<Self, Bad> {
        value.as_integer().and_then(|number| number.try_into().ok()).ok_or_else(|| Bad::new::<Self>(value))
    }

    fn to_toml(&self) -> toml::Value {
        // Bounded far below by every key's range; a number that TOML cannot hold would not read back, so it is clamped.
        toml::Value::Integer(i64::try_from(*self).unwrap_or(i64::MAX))
    }
}

impl Value for Duration {
    fn allowed() -> String {
        "a number with a unit, such as \"30s\", \"500ms\" or \"7days\"".to_owned()
    }

    fn from_text(text: &str) -> Result<Self, Bad> {
        humantime::parse_duration(text).map_err(|_| Bad::text::<Self>(text))
    }

    fn to_toml(&self) -> toml::Value {
        // Whole seconds in the largest unit that leaves no rest: "90days", not "2months 29days 2h 52m 48s".
        const UNITS: [(u64, &str); 4] = [(86_400, "days"), (3_600, "h"), (60, "m"), (1, "s")];
        let seconds = self.as_secs();
        let whole = UNITS.iter().find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit));
        match whole {
            Some((unit, name)) if self.subsec_nanos() == 0 => quoted(&format!("{}{name}", seconds / unit)),
            _ => quoted(&humantime::format_duration(*self).to_string()),
        }
    }
}

impl Value for String {
    fn allowed() -> String {
        "a text".to_owned()
    }

    fn from_text(text: &str) -> Result<Self, Bad> {
        Ok(text.to_owned())
    }

    fn to_toml(&self) -> toml::Value {
        quoted(self)
    }
}

impl Value for SocketAddr {
    fn allowed() -> String {
        "an IP address and a port, such as \"127.0.0.1:5000\" or \"[::]:5000\"".to_owned()
    }

    fn from_text(text: &str) -> Result<Self, Bad> {
        text.parse().map_err(|_| Bad::text::<Self>(text))
    }

    fn to_toml(&self) -> toml::Value {
        quoted(&self.to_string())
    }
}

/// A path; a relative one is relative to the working directory. `~` is refused: nobody expands it in a file or in a
/// service's environment, and a directory of that name is never what was meant.
impl Value for PathBuf {
    fn allowed() -> String {
        "a path, written out (`~` is not expanded)".to_owned()
    }

    fn from_text(text: &str) -> Result<Self, Bad> {
        let usable = !text.is_empty() && text != "~" && !text.starts_with("~/");
        if usable { Ok(Self::from(text)) } else { Err(Bad::text::<Self>(text)) }
    }

    fn to_toml(&self) -> toml::Value {
        quoted(&self.to_string_lossy())
    }
}

/// A value that may be left unset, which is written as the empty text.
impl<T: Value> Value for Option<T> {
    fn allowed() -> String {
        format!("{}, or \"\" for none", T::allowed())
    }

    fn from_text(text: &str) -> Result<Self, Bad> {
        if text.is_empty() { Ok(None) } else { T::from_text(text).map(Some) }
    }

    fn from_toml(value: &toml::Value) -> Result<Self, Bad> {
        if value.as_str() == Some("") { Ok(None) } else { T::from_toml(value).map(Some) }
    }

    fn to_toml(&self) -> toml::Value {
        self.as_ref().map_or_else(|| quoted(""), T::to_toml)
    }
}

/// A list: a TOML array, or comma-separated text (empty text is the empty list).
impl<T: Value> Value for Vec<T> {
    fn allowed() -> String {
        format!("a list, each {}", T::allowed())
    }

    fn from_text(text: &str) -> Result<Self, Bad> {
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(T::from_text).collect()
    }

    fn from_toml(value: &toml::Value) -> Result<Self, Bad> {
        value.as_array().ok_or_else(|| Bad::new::<Self>(value))?.iter().map(T::from_toml).collect()
    }

    fn to_toml(&self) -> toml::Value {
        toml::Value::Array(self.iter().map(T::to_toml).collect())
    }
}

/// A type with a name for each of its few values.
pub trait Choice: Copy + PartialEq + 'static {
    const CHOICES: &'static [(&'static str, Self)];
}

impl<T: Choice> Value for T {
    fn allowed() -> String {
        one_of(T::CHOICES.iter().map(|(name, _)| *name))
    }

    fn from_text(text: &str) -> Result<Self, Bad> {
        let found = T::CHOICES.iter().find(|(name, _)| *name == text);
        found.map(|(_, choice)| *choice).ok_or_else(|| {
            let meant = nearest(text, T::CHOICES.iter().map(|(name, _)| *name));
            Bad { meant: meant.map(|name| quoted(name).to_string()), ..Bad::text::<Self>(text) }
        })
    }

    fn to_toml(&self) -> toml::Value {
        let name = T::CHOICES.iter().find(|(_, choice)| choice == self).map_or("", |(name, _)| *name);
        quoted(name)
    }
}

/// `"auto", "human" or "json"`.
pub fn one_of<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let mut names: Vec<String> = names.into_iter().map(|name| quoted(name).to_string()).collect();
    match names.pop() {
        Some(last) if names.is_empty() => last,
        Some(last) => format!("{} or {last}", names.join(", ")),
        None => String::new(),
    }
}

/// How long something is kept: a duration, or `"forever"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    For(Duration),
    Forever,
}

impl Value for Retention {
    fn allowed() -> String {
        "a duration of at least 1s, such as \"30days\", or \"forever\"".to_owned()
    }

    fn from_text(text: &str) -> Result<Self, Bad> {
        match humantime::parse_duration(text) {
            _ if text == "forever" => Ok(Self::Forever),
            Ok(duration) if duration >= Duration::from_secs(1) => Ok(Self::For(duration)),
            _ => Err(Bad::text::<Self>(text)),
        }
    }

    fn to_toml(&self) -> toml::Value {
        match self {
            Self::For(duration) => duration.to_toml(),
            Self::Forever => quoted("forever"),
        }
    }
}

#[cfg(test)]
mod tests;
