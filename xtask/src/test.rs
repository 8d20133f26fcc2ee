//! `cargo xtask test`: every suite in order, each within its budget, and a summary whose last line counts them.

use std::{
    env,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::builder::PossibleValuesParser;

use self::{
    report::{Outcome, Row},
    suites::{SUITES, Suite},
};
use crate::runner::{self, Runner};

mod report;
mod suites;

#[derive(clap::Args)]
pub struct Args {
    /// Run this suite only; may be given several times, and some suites run only so
    #[arg(long = "suite", value_name = "NAME", value_parser = PossibleValuesParser::new(SUITES.iter().map(|s| s.name)))]
    suites: Vec<String>,
    /// List the suites and run none
    #[arg(long)]
    list: bool,
    /// Run nothing after the first failure
    #[arg(long)]
    fail_fast: bool,
}

/// Where suites run.
struct Place<'a> {
    root: &'a Path,
    /// Elsewhere a suite that cannot start is skipped; here that is a failure, and missing tools are installed.
    in_ci: bool,
}

pub fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    if args.list {
        print!("{}", report::list(SUITES));
        return Ok(ExitCode::SUCCESS);
    }
    let chosen: Vec<_> = SUITES.iter().filter(|suite| args.wants(suite)).collect();
    runner::listen_for_interrupts()?;
    let place = Place { root, in_ci: env::var_os("CI").is_some_and(|ci| !ci.is_empty()) };
    let mut rows: Vec<Row> = Vec::new();
    for suite in chosen {
        let failed = rows.iter().find(|row| matches!(row.outcome, Outcome::Failed { .. }));
        let row = match failed {
            Some(failed) if args.fail_fast => Row::of(suite, Outcome::skipped(format!("after {} failed", failed.name))),
            _ => place.try_suite(suite),
        };
        rows.push(row);
        if runner::is_interrupted() {
            break;
        }
    }
    print!("{}", report::summary(&rows, place.in_ci));
    let is_good = report::is_good(&rows, place.in_ci);
    Ok(runner::exit_code(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }))
}

impl Args {
    fn wants(&self, suite: &Suite) -> bool {
        let is_named = self.suites.iter().any(|name| name == suite.name);
        is_named || self.suites.is_empty() && suite.by_default
    }
}

impl Place<'_> {
    fn try_suite(&self, suite: &Suite) -> Row {
        eprintln!("\n==> {}: {}", suite.name, suite.about);
        let started = Instant::now();
        let runner = Runner::new(self.root, suite.budget);
        let outcome = match suite.tools.iter().try_for_each(|tool| tool.provide(&runner, self.in_ci)) {
            Err(reason) => Outcome::skipped(reason),
            Ok(()) => match (suite.run)(&runner) {
                Ok(note) => Outcome::Passed { note },
                Err(error) => Outcome::Failed { why: format!("{error:#}") },
            },
        };
        Row { took: started.elapsed(), ..Row::of(suite, outcome) }
    }
}

impl Row {
    fn of(suite: &Suite, outcome: Outcome) -> Self {
        Self { name: suite.name, budget: suite.budget, outcome, took: Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_that_is_not_run_by_default_runs_by_its_name_only() {
        let suite = |name, by_default| Suite {
            name,
            about: "",
            budget: Duration::ZERO,
            tools: &[],
            by_default,
            run: |_| Ok(None),
        };
        let (usual, special) = (suite("usual", true), suite("special", false));
        let wanted = |names: &[&str]| {
            let suites = names.iter().map(ToString::to_string).collect();
            let args = Args { suites, list: false, fail_fast: false };
            (args.wants(&usual), args.wants(&special))
        };
        assert_eq!(wanted(&[]), (true, false));
        assert_eq!(wanted(&["special"]), (false, true));
        assert_eq!(wanted(&["usual", "special"]), (true, true));
    }
}
