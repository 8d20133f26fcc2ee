//! A field that a person may set: its name, kind, bounds, default and meaning, and how a value of it is read.

use serde_json::{Value, json};

use crate::{problem::Problem, suggest::did_you_mean};

/// What a field's values are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Real {
        min: f64,
        max: f64,
    },
    Whole {
        min: u64,
        max: u64,
    },
    Choice(&'static [&'static str]),
    Flag,
    /// 1 to `length_max` whole numbers.
    List {
        length_max: usize,
        min: u64,
        max: u64,
    },
}

/// A value of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Setting {
    /// The field is not set, and what it asks for does not happen.
    Off,
    Real(f64),
    Whole(u64),
    Choice(&'static str),
    Flag(bool),
    List(Vec<u64>),
}

/// A row of a table of fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub name: &'static str,
    pub kind: Kind,
    pub default: Setting,
    /// For a field that came after the first release: the stored format that has it, and the value under which training
    /// behaves as if the field did not exist.
    pub since: Option<(u8, Setting)>,
    /// The field and the choice of it under which this field means something; always if `None`.
    pub applies_when: Option<(&'static str, &'static str)>,
    pub help: &'static str,
}

impl Field {
    fn new(kind: Kind) -> Self {
        Self { name: "", kind, default: Setting::Off, since: None, applies_when: None, help: "" }
    }

    pub fn real(min: f64, max: f64) -> Self {
        Self::new(Kind::Real { min, max })
    }

    pub fn whole(min: u64, max: u64) -> Self {
        Self::new(Kind::Whole { min, max })
    }

    pub fn choice(of: &'static [&'static str]) -> Self {
        Self::new(Kind::Choice(of))
    }

    pub fn flag() -> Self {
        Self::new(Kind::Flag)
    }

    pub fn list(length_max: usize, min: u64, max: u64) -> Self {
        Self::new(Kind::List { length_max, min, max })
    }

    #[must_use]
    pub fn or(self, default: impl Typed) -> Self {
        Self { default: default.setting(), ..self }
    }

    #[must_use]
    pub fn since(self, format: u8, neutral: impl Typed) -> Self {
        Self { since: Some((format, neutral.setting())), ..self }
    }

    #[must_use]
    pub fn when(self, field: &'static str, is: &'static str) -> Self {
        Self { applies_when: Some((field, is)), ..self }
    }

    #[must_use]
    pub fn named(self, name: &'static str, help: &'static str) -> Self {
        Self { name, help: help.trim(), ..self }
    }

    /// Whether the field can be left unset.
    pub fn is_optional(&self) -> bool {
        self.default == Setting::Off
    }

    /// Reads a value; adds every problem with it and gives `None` if there is one.
    pub fn read(&self, value: &Value, problems: &mut Vec<Problem>) -> Option<Setting> {
        let pointer = format!("/hyperparameters/{}", self.name);
        let expected = |expected: &str| Problem::wrong_type(pointer.as_str(), expected, value);
        let read = match self.kind {
            Kind::Real { min, max } => match value.as_f64() {
                Some(real) => within(&real, &min, &max).map(|()| Setting::Real(real)).map_err(|m| problem(&pointer, m)),
                None => Err(vec![expected("a number")]),
            },
            Kind::Whole { min, max } => match value.as_u64() {
                Some(whole) => {
                    within(&whole, &min, &max).map(|()| Setting::Whole(whole)).map_err(|m| problem(&pointer, m))
                }
                None => Err(vec![expected("a whole number from 0")]),
            },
            Kind::Choice(of) => match value.as_str() {
                Some(text) => self.read_choice(text, of).map_err(|m| problem(&pointer, m)),
                None => Err(vec![expected("a string")]),
            },
            Kind::Flag => value.as_bool().map(Setting::Flag).ok_or_else(|| vec![expected("true or false")]),
            Kind::List { length_max, min, max } => {
                match value.as_array().and_then(|items| items.iter().map(Value::as_u64).collect::<Option<Vec<_>>>()) {
                    Some(list) => read_list(&pointer, list, length_max, min, max),
                    None => Err(vec![expected("a list of whole numbers")]),
                }
            }
        };
        read.map_err(|found| problems.extend(found)).ok()
    }

    fn read_choice(&self, text: &str, of: &'static [&'static str]) -> Result<Setting, String> {
        let known = of.iter().copied().find(|known| *known == text);
        let (name, hint) = (self.name, did_you_mean(text, of.iter().copied()));
        known
            .map(Setting::Choice)
            .ok_or_else(|| format!("unknown {name} {text:?}: expected one of {}{hint}", of.join(", ")))
    }

    /// What the field's row says, as data.
    pub fn to_json(&self) -> Value {
        let mut row = match self.kind {
            Kind::Real { min, max } => json!({ "kind": "real", "minimum": min, "maximum": max }),
            Kind::Whole { min, max } => json!({ "kind": "whole", "minimum": min, "maximum": max }),
            Kind::Choice(of) => json!({ "kind": "choice", "choices": of }),
            Kind::Flag => json!({ "kind": "flag" }),
            Kind::List { length_max, min, max } => {
                json!({ "kind": "list", "length_maximum": length_max, "minimum": min, "maximum": max })
            }
        };
        row["name"] = self.name.into();
        row["default"] = self.default.to_json();
        row["applies_when"] = self.applies_when.map_or(Value::Null, |(field, is)| json!({ field: is }));
        row["help"] = self.help.into();
        row
    }

    /// The field as JSON Schema (draft 2020-12).
    pub fn schema(&self) -> Value {
        let mut schema = match self.kind {
            Kind::Real { min, max } => json!({ "type": "number", "minimum": min, "maximum": max }),
            Kind::Whole { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
            Kind::Choice(of) => json!({ "type": "string", "enum": of }),
            Kind::Flag => json!({ "type": "boolean" }),
            Kind::List { length_max, min, max } => json!({
                "type": "array", "minItems": 1, "maxItems": length_max,
                "items": { "type": "integer", "minimum": min, "maximum": max },
            }),
        };
        schema["description"] = self.help.into();
        if !self.is_optional() {
            schema["default"] = self.default.to_json();
        }
        schema
    }

    /// The kind and its bounds in words, for tables and help texts.
    pub fn values(&self) -> String {
        match self.kind {
            Kind::Real { min, max } => format!("{min} to {max}"),
            Kind::Whole { min, max } => format!("{min} to {max}"),
            Kind::Choice(of) => of.join(", "),
            Kind::Flag => "true or false".to_owned(),
            Kind::List { length_max, min, max } => format!("1 to {length_max} numbers of {min} to {max}"),
        }
    }
}

impl Setting {
    pub fn to_json(&self) -> Value {
        match self {
            Self::Off => Value::Null,
            Self::Real(real) => json!(real),
            Self::Whole(whole) => json!(whole),
            Self::Choice(choice) => json!(choice),
            Self::Flag(flag) => json!(flag),
            Self::List(list) => json!(list),
        }
    }
}

/// A Rust type that holds a field's value.
pub trait Typed: Sized {
    fn setting(&self) -> Setting;

    /// `None` if the setting is of another kind.
    fn of(setting: &Setting) -> Option<Self>;
}

macro_rules! typed {
    ($($type:ty => $variant:ident($held:ty);)+) => {
        $(impl Typed for $type {
            fn setting(&self) -> Setting {
                Setting::$variant(<$held>::from(self.clone()))
            }

            fn of(setting: &Setting) -> Option<Self> {
                match setting {
                    Setting::$variant(held) => Self::try_from(held.clone()).ok(),
                    _ => None,
                }
            }
        })+
    };
}

typed! {
    f64 => Real(f64);
    u32 => Whole(u64);
    u64 => Whole(u64);
    bool => Flag(bool);
    Vec<u64> => List(Vec<u64>);
}

impl<T: Typed> Typed for Option<T> {
    fn setting(&self) -> Setting {
        self.as_ref().map_or(Setting::Off, T::setting)
    }

    fn of(setting: &Setting) -> Option<Self> {
        if *setting == Setting::Off { Some(None) } else { T::of(setting).map(Some) }
    }
}

/// `choices! { pub enum Optimizer { /// Help. Adam = "adam", … } }` makes an enum whose values have names.
macro_rules! choices {
    ($(#[$meta:meta])* pub enum $type:ident { $($(#[$doc:meta])* $variant:ident = $name:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $type { $($(#[$doc])* $variant,)+ }

        impl $type {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            pub const NAMES: &'static [&'static str] = &[$($name),+];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            pub fn parse(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.as_str() == name)
            }
        }

        impl $crate::field::Typed for $type {
            fn setting(&self) -> $crate::field::Setting {
                $crate::field::Setting::Choice(self.as_str())
            }

            fn of(setting: &$crate::field::Setting) -> Option<Self> {
                match setting {
                    $crate::field::Setting::Choice(name) => Self::parse(name),
                    _ => None,
                }
            }
        }
    };
}
pub(crate) use choices;

fn within<T: PartialOrd + std::fmt::Display>(value: &T, min: &T, max: &T) -> Result<(), String> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(format!("{value} is outside {min} to {max}")) }
}

fn problem(pointer: &str, message: String) -> Vec<Problem> {
    vec![Problem::new(pointer, message)]
}

fn read_list(pointer: &str, list: Vec<u64>, length_max: usize, min: u64, max: u64) -> Result<Setting, Vec<Problem>> {
    let mut problems = Vec::new();
    if list.is_empty() || list.len() > length_max {
        problems.push(Problem::new(pointer, format!("{} values are outside 1 to {length_max}", list.len())));
    }
    for (index, item) in list.iter().enumerate() {
        problems
            .extend(within(item, &min, &max).err().map(|message| Problem::new(format!("{pointer}/{index}"), message)));
    }
    if problems.is_empty() { Ok(Setting::List(list)) } else { Err(problems) }
}
