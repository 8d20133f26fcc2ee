//! The summary to the letter, and what counts as good.

use super::*;

fn row(name: &'static str, outcome: Outcome) -> Row {
    Row { name, outcome, took: Duration::from_millis(1_250), budget: Duration::from_secs(60) }
}

fn passed() -> Outcome {
    Outcome::Passed { note: None }
}

fn failed() -> Outcome {
    Outcome::Failed { why: "cargo test: exit status: 101".to_owned() }
}

fn skipped() -> Outcome {
    Outcome::skipped("clippy is missing".to_owned())
}

#[test]
fn the_summary_says_everything_and_counts_last() {
    let noted = Outcome::Passed { note: Some("ADVISORIES NOT CHECKED".to_owned()) };
    let rows = [row("fmt", passed()), row("deps", noted), row("clippy", skipped()), row("rust", failed())];
    let expected = "
suite       result   seconds  budget
fmt         passed       1.2      60
deps        passed       1.2      60  ADVISORIES NOT CHECKED
clippy      skipped      1.2      60  clippy is missing
rust        FAILED       1.2      60  cargo test: exit status: 101

2 passed, 1 failed, 1 skipped
";
    assert_eq!(summary(&rows, false), expected);
    let in_ci = summary(&rows, true);
    assert!(
        in_ci.ends_with("\nCI is set, so a suite that cannot start is a failure.\n\n2 passed, 1 failed, 1 skipped\n")
    );
}

#[test]
fn a_skip_is_good_enough_at_home_and_nowhere_else() {
    let cases = [
        (vec![passed(), passed()], true, true),
        (vec![passed(), skipped()], true, false),
        (vec![passed(), failed()], false, false),
        (vec![failed(), skipped()], false, false),
    ];
    for (outcomes, at_home, in_ci) in cases {
        let text = format!("{outcomes:?}");
        let rows: Vec<_> = outcomes.into_iter().map(|outcome| row("any", outcome)).collect();
        assert_eq!((is_good(&rows, false), is_good(&rows, true)), (at_home, in_ci), "{text}");
    }
}
