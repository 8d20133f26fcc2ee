//! `kubeml config show|check`: what is in force and where it comes from, or everything that is wrong with it.

use clap::Subcommand;

use crate::config::{Problems, Sources, load};

/// `kubeml config …`
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Print the configuration in force, as TOML that configures the same
    Show {
        /// Add where each value comes from: default, file and line, environment variable or flag
        #[arg(long)]
        origin: bool,
    },
    /// Say whether the configuration is good, or name everything that is wrong (exit code 78)
    Check,
}

impl Command {
    /// What to print on stdout.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration: for stderr, and exit code `Problems::EXIT_CODE`.
    pub fn run(&self, sources: &Sources) -> Result<String, Problems> {
        let config = load(sources)?;
        Ok(match self {
            Self::Show { origin } => config.settings.to_toml(*origin),
            Self::Check => format!("ok: {}\n", sources.names().join(", ")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources() -> Sources {
        let file = "[http]\n\nlisten = \"127.0.0.1:7000\"\n";
        let sources = Sources::default().file("config/x.toml", file).variable("HOME", "/home/ada");
        sources.variable("KUBEML__TASKS__LEASE", "3s").set("trainer.threads_per_slot", 2, "--threads")
    }

    #[test]
    fn show_prints_toml_and_with_origin_where_each_value_comes_from() {
        let shown = Command::Show { origin: true }.run(&sources()).unwrap();
        for line in [
            "[http]",
            "listen = \"127.0.0.1:7000\"  # config/x.toml:3",
            "lease = \"3s\"  # KUBEML__TASKS__LEASE",
            "threads_per_slot = 2  # --threads",
            "heartbeat = \"500ms\"  # default",
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{line} is not in\n{shown}");
        }
        assert!(!Command::Show { origin: false }.run(&sources()).unwrap().contains('#'));
    }

    #[test]
    fn check_names_the_sources_in_the_order_in_which_they_win() {
        let checked = Command::Check.run(&sources()).unwrap();
        assert_eq!(checked, "ok: defaults, config/x.toml, KUBEML__TASKS__LEASE, --threads\n");
    }

    #[test]
    fn every_command_refuses_a_bad_configuration() {
        let bad = sources().variable("KUBEML__TASKS__LEESE", "3s");
        for command in [Command::Check, Command::Show { origin: false }] {
            let problems = command.run(&bad).unwrap_err();
            let expected = "1 problem in the configuration:\n  KUBEML__TASKS__LEESE: unknown variable; \
             did you mean KUBEML__TASKS__LEASE?";
            assert_eq!(problems.to_string(), expected);
        }
    }
}
