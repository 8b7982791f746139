//! Which problems were found so far?
//!
//! Never stops the search: whoever reports goes on with a stand-in, so that one run names every mistake.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::Read as _;
use std::ops::Range;
use std::path::PathBuf;

use crate::document::key::Key;
use crate::document::{Document, Files};
use crate::problem::{Problem, Problems};
use crate::value::Refusal;

/// Collects what is wrong with one document.
pub(crate) struct Report<'d> {
    document: &'d Document,
    problems: RefCell<Vec<Problem>>,
    /// Files that the document names.
    named: RefCell<BTreeSet<PathBuf>>,
}

impl<'d> Report<'d> {
    pub(crate) fn new(document: &'d Document) -> Self {
        Self { document, problems: RefCell::new(document.problems.clone()), named: RefCell::default() }
    }

    /// Something is wrong with this key, which may also be one that was left out.
    pub(crate) fn error(&self, key: &Key, cause: impl Display, suggestion: Option<String>) {
        self.error_at(self.document.find(key), key, cause, suggestion);
    }

    /// Something is wrong with this part of the text.
    pub(crate) fn error_at(
        &self,
        span: Range<usize>,
        key: &Key,
        cause: impl Display,
        suggestion: Option<String>,
    ) {
        let problem = Problem::new(&self.document.source, span, key, cause.to_string(), suggestion);
        self.problems.borrow_mut().push(problem);
    }

    /// A value was refused by its own rules.
    pub(crate) fn refuse(&self, key: &Key, refusal: &impl Refusal) {
        self.error(key, refusal, refusal.suggestion());
    }

    /// This key hardly does what was meant.
    pub(crate) fn warn(&self, key: &Key, cause: impl Display, suggestion: Option<String>) {
        let span = self.document.find(key);
        let problem = Problem::new(&self.document.source, span, key, cause.to_string(), suggestion);
        self.problems.borrow_mut().push(problem.into_warning());
    }

    /// The text of a file that the document names, of at most `bytes_max` bytes.
    pub(crate) fn read_file(&self, path: &str, bytes_max: usize) -> Result<String, String> {
        let place = match &self.document.files {
            Files::Nowhere => return Err("a file can be named in a configuration file only".to_owned()),
            Files::Anywhere | Files::Beside(_) => self.resolve(path).ok_or(
                "a relative path can be given in a configuration file only: write one that begins with a slash",
            )?,
        };
        self.named.borrow_mut().insert(place.clone());
        let file = std::fs::File::open(place);
        let file = file.map_err(|error| format!("cannot read {path:?}: {error}"))?;
        let mut bytes = Vec::new();
        // One byte more than allowed tells.
        let read = file.take(bytes_max as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|error| format!("cannot read {path:?}: {error}"))?;
        if bytes.len() > bytes_max {
            return Err(format!("{path:?} has more than {bytes_max} bytes"));
        }
        String::from_utf8(bytes).map_err(|_| format!("{path:?} is not UTF-8 text"))
    }

    /// Whether a file can be named like this here, and opened if the document is one itself. What is in it is not looked at.
    pub(crate) fn check_path(&self, key: &Key, path: &str) {
        let is_opened = !matches!(self.document.files, Files::Nowhere);
        match self.resolve(path) {
            _ if path.is_empty() => self.error(key, "the name of a file is missing", None),
            None => {
                let cause = "a relative path can be given in a configuration file only";
                self.error(key, cause, Some("write one that begins with a slash".to_owned()));
            }
            // A text that is no file stands for itself, wherever it is read.
            Some(path) if is_opened => {
                self.named.borrow_mut().insert(path.clone());
                if let Err(error) = std::fs::File::open(&path) {
                    let is_content = path.to_string_lossy().contains("-----BEGIN");
                    let suggestion =
                        is_content.then(|| "the name of a file is wanted, not what it holds".to_owned());
                    self.error(key, format!("cannot read {path:?}: {error}"), suggestion);
                }
            }
            Some(_) => {}
        }
    }

    /// Where a file is that the document names; relative paths begin at its own directory.
    pub(crate) fn resolve(&self, path: &str) -> Option<PathBuf> {
        match &self.document.files {
            Files::Beside(directory) => Some(directory.join(path)),
            Files::Anywhere | Files::Nowhere => Some(PathBuf::from(path)).filter(|path| path.is_absolute()),
        }
    }

    /// Whether the document comes from a store.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.document.files, Files::Anywhere)
    }

    /// The files that the document names, whether or not they are there.
    pub(crate) fn into_named(self) -> BTreeSet<PathBuf> {
        self.named.into_inner()
    }

    /// Whether this key was written, whatever it holds.
    pub(crate) fn is_written(&self, key: &Key) -> bool {
        self.document.holds(key)
    }

    /// The item of a list that holds this text, or the list itself where one value stands for it.
    pub(crate) fn item_key(&self, list: &Key, text: &str) -> Key {
        self.document.item_key(list, text)
    }

    /// What a key is called where the operator wrote it, to refer to it from another one.
    pub(crate) fn key_name(&self, key: &Key) -> String {
        self.document.source.key_name(key)
    }

    /// Whether an error was found, so that what was read must not be used.
    pub(crate) fn has_errors(&self) -> bool {
        self.problems.borrow().iter().any(Problem::is_error)
    }

    pub(crate) fn finish(self) -> Problems {
        Problems::new(self.problems.into_inner(), &self.document.source)
    }
}
