//! The words of a training are written once: what the tables of `spec/` have is not repeated elsewhere.

use std::path::Path;

use super::{assert_none, files_below, read, root};

/// A field or metric, and in how many files of the packages it may stand: its row, and the places where training uses it.
const FILES_MAX: [(&str, usize); 3] = [("weight_decay", 4), ("validation_fraction", 4), ("val_accuracy", 8)];
const PACKAGES: [&str; 4] = ["spec/src", "actors/src", "train/src", "src"];
const CATALOGUE: &str = "docs/models.md";

fn is_of_tests(path: &str) -> bool {
    path.contains("/tests") || path.ends_with("tests.rs") || path.contains("/testing")
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|character: char| !character.is_alphanumeric() && character != '_').any(|found| found == word)
}

#[test]
fn a_word_of_the_tables_stands_in_few_files() {
    let mut offences = Vec::new();
    for (word, files_max) in FILES_MAX {
        let files = PACKAGES.iter().flat_map(|package| files_below(Path::new(package)));
        let paths = files.map(|path| path.display().to_string()).filter(|path| !is_of_tests(path));
        let found: Vec<String> = paths.filter(|path| !path.ends_with(".gz") && has_word(&read(path), word)).collect();
        if found.len() > files_max {
            offences.push(format!(
                "{word} stands in {} files of at most {files_max}: {}",
                found.len(),
                found.join(", ")
            ));
        }
    }
    assert_none(&offences);
}

/// With `KUBEML_BLESS` set, the file is written.
#[test]
fn the_documented_tables_are_those_of_the_code() {
    let head = "# Models, hyperparameters and metrics\n\nMade from the tables in `spec/`, which `kubeml catalogue` prints \
                and `GET /api/v1/catalogue` answers.\n\n";
    let expected = head.to_owned() + &kubeml_spec::catalogue::markdown();
    if std::env::var_os("KUBEML_BLESS").is_some() {
        std::fs::write(root().join(CATALOGUE), &expected).expect("the checkout is writable");
    }
    assert_eq!(read(CATALOGUE), expected, "{CATALOGUE} is stale: run this test with KUBEML_BLESS=1");
}
