//! What is wrong, where, and what to write instead?
//!
//! Nothing here decides that something is wrong; it only says so.

mod render;

use std::fmt;
use std::ops::Range;

use crate::document::key::Key;
use crate::document::source::Source;

/// Problems shown of one text; nobody reads more, and a text can hold one in every few bytes.
const PROBLEMS_MAX: usize = 1_000;

/// One thing wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file's path as given, or what stands for it.
    pub file: String,
    /// Line from 1.
    pub line: u32,
    /// Column from 1, in characters.
    pub column: u32,
    /// Path of the key, such as `listener.web.bind`, or a flag of the command line; empty for a mistake of form.
    pub key: String,
    /// What is wrong.
    pub cause: String,
    /// What may have been meant.
    pub suggestion: Option<String>,
    /// Whether the configuration can be used all the same.
    pub severity: Severity,
    /// The bytes of the text it is about.
    span: Range<usize>,
}

/// Whether a configuration with this problem can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, but hardly does what was meant.
    Warning,
}

impl Problem {
    pub(crate) fn new(
        source: &Source,
        span: Range<usize>,
        key: &Key,
        cause: String,
        suggestion: Option<String>,
    ) -> Self {
        let span = source.clamp(span);
        let key = source.key_name(key);
        let file = source.name(span.start).to_owned();
        let (cause, suggestion) = (on_one_line(cause), suggestion.map(on_one_line));
        // `Problems::new` counts lines and columns of those it keeps.
        Self { file, line: 1, column: 1, key, cause, suggestion, severity: Severity::Error, span }
    }

    pub(crate) fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    pub(crate) fn into_warning(self) -> Self {
        Self { severity: Severity::Warning, ..self }
    }
}

/// With control characters escaped: what is quoted of a value must neither break the line nor speak to a terminal.
fn on_one_line(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let escaped = |character: char| {
        let is_control = character.is_control();
        let plain = (!is_control).then_some(character);
        character.escape_default().filter(move |_| is_control).chain(plain)
    };
    text.chars().flat_map(escaped).collect()
}

/// `file:line:column: key: cause (suggestion)` on one line, the form scripts read.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.cause)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, " ({suggestion})"),
            None => Ok(()),
        }
    }
}

/// Everything wrong with one configuration, in the order of its text, and of its files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    list: Vec<Problem>,
    /// The text they are about, to show its lines.
    text: String,
}

impl Problems {
    pub(crate) fn new(mut list: Vec<Problem>, source: &Source) -> Self {
        if list.len() > PROBLEMS_MAX {
            // Errors first, so that warnings never crowd them out.
            list.sort_by_key(|problem| (problem.severity, problem.span.start));
            list.truncate(PROBLEMS_MAX);
            let cause = format!("more than {PROBLEMS_MAX} problems, the rest is not shown");
            let end = source.first().end;
            list.push(Problem::new(source, end..end, &Key::root(), cause, None).into_warning());
        }
        list.sort_by_key(|problem| (problem.span.start, problem.severity));
        for problem in &mut list {
            (problem.line, problem.column) = source.position(problem.span.start);
        }
        let text = if list.is_empty() { String::new() } else { source.text().to_owned() };
        Self { list, text }
    }

    /// Each problem, in the order of the text.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.list.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether one of them is more than a warning.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(Problem::is_error)
    }

    /// The problems with the lines they are about, for people; `color` adds terminal colours.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        render::render(&self.list, &self.text, color)
    }
}

/// One line for each problem.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            let line_break = if index == 0 { "" } else { "\n" };
            write!(f, "{line_break}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl<'p> IntoIterator for &'p Problems {
    type Item = &'p Problem;
    type IntoIter = std::slice::Iter<'p, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
