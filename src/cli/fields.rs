//! A flag for each field of the tables in `kubeml-spec`.

use std::fmt::Write as _;

use clap::{
    Arg, ArgMatches, Args, Command, Error, FromArgMatches,
    builder::{PossibleValuesParser, TypedValueParser, ValueParser},
};
use kubeml_spec::{
    Draft, Field, Kind,
    catalogue::{all_fields, applies_in_words, default_in_words},
};
use serde_json::Value;

/// The fields that were given, with their values.
#[derive(Clone, Debug, Default)]
pub struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    /// Adds the fields to a draft.
    pub fn apply(&self, draft: Draft) -> Draft {
        self.0.iter().fold(draft, |draft, (name, value)| draft.with(name, value.clone()))
    }
}

impl Args for Fields {
    fn augment_args(command: Command) -> Command {
        all_fields().into_iter().fold(command, |command, field| command.arg(flag(field)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Fields {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let given = |field: &'static Field| Some((field.name, matches.get_one::<Value>(field.name)?.clone()));
        Ok(Self(all_fields().into_iter().filter_map(given).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn flag(field: &'static Field) -> Arg {
    let arg =
        Arg::new(field.name).long(field.name.replace('_', "-")).help(help(field)).value_parser(parser(field.kind));
    match field.kind {
        Kind::Real { .. } => arg.value_name("NUMBER"),
        Kind::Whole { .. } => arg.value_name("N"),
        Kind::List { .. } => arg.value_name("N,N,…"),
        Kind::Choice(_) => arg.value_name("NAME"),
        Kind::Flag => arg.value_name("BOOL"),
    }
}

/// `Samples per step … [1 to 8192, default: 128]`
fn help(field: &Field) -> String {
    let mut help = field.help.trim_end_matches('.').to_owned();
    help.push_str(" [");
    if !matches!(field.kind, Kind::Choice(_)) {
        let _ = write!(help, "{}, ", field.values());
    }
    let _ = write!(help, "default: {}", default_in_words(field));
    let applies = applies_in_words(field);
    if !applies.is_empty() {
        let _ = write!(help, "; with {applies}");
    }
    help + "]"
}

/// Reads what a flag was given as the JSON that a request body would have. Bounds are for the spec to check.
fn parser(kind: Kind) -> ValueParser {
    match kind {
        Kind::Real { .. } => {
            ValueParser::new(|text: &str| text.parse::<f64>().map(Value::from).map_err(|e| e.to_string()))
        }
        Kind::Whole { .. } => {
            ValueParser::new(|text: &str| text.parse::<u64>().map(Value::from).map_err(|e| e.to_string()))
        }
        Kind::Flag => ValueParser::new(|text: &str| text.parse::<bool>().map(Value::from).map_err(|e| e.to_string())),
        Kind::Choice(of) => PossibleValuesParser::new(of).map(Value::from).into(),
        Kind::List { .. } => ValueParser::new(|text: &str| {
            let items = text.split(',').map(|item| item.trim().parse::<u64>().map(Value::from));
            items.collect::<Result<Vec<_>, _>>().map(Value::from).map_err(|error| error.to_string())
        }),
    }
}
