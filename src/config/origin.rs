//! Where a value was written.

use std::fmt;

/// Where a value was written. Ordered as the sources are: a greater origin wins over a smaller one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// `config/embedded.toml`, or computed from the machine.
    Default,
    /// The `nth` file given; `line` counts from 1, and is 0 when the file as a whole is meant.
    File { nth: usize, line: usize, path: String },
    /// An environment variable.
    Environment { variable: String },
    /// The `nth` flag of the command line.
    Flag { nth: usize, flag: String },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: 0, .. } => f.write_str(path),
            Self::File { path, line, .. } => write!(f, "{path}:{line}"),
            Self::Environment { variable } => f.write_str(variable),
            Self::Flag { flag, .. } => f.write_str(flag),
        }
    }
}

/// What the names of our environment variables begin with. The double underscore keeps them apart from what Kubernetes
/// puts into every container beside a service named `kubeml` (`KUBEML_PORT`, `KUBEML_SERVICE_HOST`).
pub const ENVIRONMENT_PREFIX: &str = "KUBEML__";

/// The environment variable of a key: `http.listen` -> `KUBEML__HTTP__LISTEN`.
pub fn variable_of(key: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", key.replace('.', "__").to_uppercase())
}

/// The key of an environment variable, if it is one of ours; whether there is such a key is not looked at.
pub fn key_of(variable: &str) -> Option<String> {
    let path = variable.strip_prefix(ENVIRONMENT_PREFIX)?.replace("__", ".");
    let key = path.to_lowercase();
    // A name that is not spelled as a key's (`KUBEML__http__listen`) becomes capitals: no key has such a path, and the
    // one that was meant is still near.
    Some(if variable_of(&key) == variable { key } else { path.to_uppercase() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_and_its_variable_name_each_other() {
        for key in ["http.listen", "datasets.mnist.dir", "tasks.no_progress_max"] {
            assert_eq!(key_of(&variable_of(key)).as_deref(), Some(key));
        }
        assert_eq!(variable_of("http.body_bytes_max"), "KUBEML__HTTP__BODY_BYTES_MAX");
    }

    #[test]
    fn other_programs_variables_are_left_alone() {
        for variable in ["HOME", "KUBEML_PORT", "KUBEML_SERVICE_HOST", "kubeml__http__listen"] {
            assert_eq!(key_of(variable), None, "{variable}");
        }
    }

    #[test]
    fn later_sources_are_greater() {
        let file = |nth, line| Origin::File { nth, line, path: "a.toml".to_owned() };
        let variable = Origin::Environment { variable: "A".to_owned() };
        let flag = Origin::Flag { nth: 0, flag: "--a".to_owned() };
        let weakest_first = [Origin::Default, file(0, 3), file(0, 20), file(1, 1), variable, flag];
        assert!(weakest_first.is_sorted());
    }
}
