//! Is every mistake that people make told so that they can mend it? One file of `wrong/` for each, and beside it what is said.
//!
//! To rewrite what is said: `CORELANE_BLESS=1 cargo test -p corelane-config --test wrong_files`. Read every line of the difference.

use std::fs;
use std::path::{Path, PathBuf};

use config::{Severity, load_file};

/// Files of `wrong/`; fewer would mean that they are not found.
const FILES_MIN: usize = 100;

/// Each file with a mistake, in the order of their names.
fn files() -> Vec<PathBuf> {
    let entries =
        fs::read_dir(Path::new("tests/wrong")).expect("cargo runs tests in the package's directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml" || extension == "json"))
        .collect();
    files.sort();
    files
}

fn said_of(path: &Path) -> String {
    let problems = load_file(path).map(|_| ()).expect_err(&path.display().to_string());
    assert!(problems.has_errors(), "{}", path.display());
    format!("{problems}\n\n{}\n", problems.render(false))
}

#[test]
fn every_mistake_is_told_as_it_is_written_beside_it() {
    let files = files();
    assert!(files.len() >= FILES_MIN, "{}", files.len());
    let mut differing = Vec::new();
    for path in files {
        let (said, beside) = (said_of(&path), path.with_extension(beside(&path)));
        if std::env::var_os("CORELANE_BLESS").is_some() {
            fs::write(&beside, &said).expect("it can be written");
        }
        let written = fs::read_to_string(&beside).unwrap_or_default();
        if written != said {
            differing.push(format!("{}:\n{said}\n--- instead of\n{written}", path.display()));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

/// A name of its own for what is said of each of two files that differ in their format only.
fn beside(path: &Path) -> &'static str {
    if path.extension().is_some_and(|extension| extension == "json") { "json.txt" } else { "toml.txt" }
}

/// Messages whose rule is the remedy, as it says what is possible.
const RULES: [&str; 9] = [
    "expected ",
    "must be ",
    "is a number from ",
    "a prefix length of this family is ",
    "is named by its status, ",
    "means nothing with ",
    "is not to be touched",
    "not a regular expression: ",
    // What is not there is named.
    "cannot read ",
];

#[test]
fn every_mistake_is_told_with_what_to_do() {
    for path in files() {
        let problems = load_file(&path).map(|_| ()).expect_err("it is wrong");
        for problem in problems.iter().filter(|problem| problem.severity == Severity::Error) {
            let is_rule = RULES.iter().any(|words| problem.cause.contains(words));
            assert!(problem.suggestion.is_some() || is_rule, "{problem}");
        }
    }
}
