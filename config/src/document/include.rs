//! Which further files does a configuration take in? Those that its `include` names, in the order of their names.
//!
//! Never more than a bound of files and bytes, never a file twice, and never what an included file would include in its turn.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::io::Read as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::key::Key;
use super::source::{Naming, Source};
use super::{Entry, Environment, Format, Node, TEXT_BYTES_MAX, Value, interpolate, parse_tree};
use crate::problem::{Problem, Problems};

/// The key of the first file that names the others.
pub(crate) const INCLUDE: &str = "include";

/// What an editor is told by; it says nothing about the configuration.
pub(crate) const EDITOR_SCHEMA: &str = "$schema";

/// Files of one configuration. One for each of a few hundred services is plenty; more is a pattern that matches too much.
const FILES_MAX: usize = 1_000;

/// A configuration as it was read from its file and from those that it includes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FileSet {
    source: Source,
    /// The first is the one that was asked for.
    files: Vec<ReadFile>,
    /// Directories in which a pattern looks.
    directories: Vec<PathBuf>,
    /// What could not be included.
    problems: Vec<Problem>,
}

#[derive(Clone, Debug, PartialEq)]
struct ReadFile {
    path: PathBuf,
    range: Range<usize>,
    format: Format,
}

/// Why a text could not be had.
struct Unreadable {
    /// What was readable of it.
    text: String,
    /// Where reading ended.
    offset: usize,
    cause: String,
    suggestion: Option<String>,
}

impl FileSet {
    /// Reads a file and what it includes.
    ///
    /// # Errors
    /// When the file itself cannot be read or is no text. What else is wrong is told by [`Self::tree`].
    pub(crate) fn read(path: &Path, environment: Environment<'_>) -> Result<Self, Problems> {
        let text = read_text(path).map_err(|Unreadable { text, offset, cause, suggestion }| {
            let source = Source::new(path.display().to_string(), text, Naming::Keys);
            let problem = Problem::new(&source, offset..offset, &Key::root(), cause, suggestion);
            Problems::new(vec![problem], &source)
        })?;
        Ok(Self::of(path, text, environment))
    }

    /// What a file with this text would include.
    pub(crate) fn of(path: &Path, text: String, environment: Environment<'_>) -> Self {
        let source = Source::new(path.display().to_string(), text, Naming::Keys);
        let file = ReadFile { path: path.to_owned(), range: source.first(), format: Format::of(path) };
        let mut set = Self { source, files: vec![file], directories: Vec::new(), problems: Vec::new() };
        // A text without form includes nothing; what is wrong with it is told when it is loaded.
        let root = parse_tree(&set.source, set.source.first(), set.files[0].format);
        if let Ok(Some(mut node)) = root.map(|mut root| root.take(INCLUDE)) {
            let problems = interpolate::interpolate(&mut node, &Key::of([INCLUDE]), &set.source, environment);
            set.problems.extend(problems);
            set.include_all(&node);
        }
        set
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// Where the file is that was asked for.
    pub(crate) fn path(&self) -> &Path {
        &self.files[0].path
    }

    /// Every directory in which a pattern looks for files.
    pub(crate) fn directories(&self) -> impl Iterator<Item = &Path> {
        self.directories.iter().map(|path| &**path)
    }

    /// Every file that was read, the one that was asked for first.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| &*file.path)
    }

    /// The tables of all files as one tree, references to the environment as they are.
    ///
    /// # Errors
    /// Every problem of form, in any of them; everything that could not be included; every key that two of them have.
    pub(crate) fn tree(&self) -> Result<Node, Problems> {
        let mut problems = self.problems.clone();
        let mut entries = Vec::new();
        for (index, file) in self.files.iter().enumerate() {
            match parse_tree(&self.source, file.range.clone(), file.format) {
                Ok(mut root) => {
                    let include = root.take(INCLUDE).filter(|_| index > 0);
                    problems.extend(include.map(|node| self.refuse_nested(&node)));
                    if index > 0 {
                        root.take(EDITOR_SCHEMA);
                    }
                    if let Value::Table(more) = root.value {
                        entries.extend(more);
                    }
                }
                Err(of_form) => problems.extend(of_form),
            }
        }
        let entries = unite(&Key::root(), entries, &self.source, &mut problems);
        if problems.is_empty() {
            Ok(Node { span: 0..0, value: Value::Table(entries) })
        } else {
            Err(Problems::new(problems, &self.source))
        }
    }

    fn refuse_nested(&self, node: &Node) -> Problem {
        let cause = "an included file includes no others".to_owned();
        let suggestion = format!("write it in {}", self.path().display());
        Problem::new(&self.source, node.span.clone(), &Key::of([INCLUDE]), cause, Some(suggestion))
    }

    fn include_all(&mut self, node: &Node) {
        let key = Key::of([INCLUDE]);
        let mut seen: HashSet<PathBuf> = fs::canonicalize(self.path()).into_iter().collect();
        match &node.value {
            Value::Text { .. } => self.include(&key, node, &mut seen),
            Value::List(items) => {
                for (index, item) in items.iter().enumerate().take(FILES_MAX) {
                    self.include(&key.item(index), item, &mut seen);
                }
            }
            Value::Unresolved => {}
            _ => {
                let cause = format!("expected the name of a file or a list of them, found {}", node.kind());
                self.problem(&key, node, cause, Some("for example include = \"conf.d/*.toml\""));
            }
        }
    }

    /// Reads what one item names: a file, or all that match a pattern.
    fn include(&mut self, key: &Key, node: &Node, seen: &mut HashSet<PathBuf>) {
        let pattern = match &node.value {
            Value::Text { text, .. } if text.is_empty() => {
                return self.problem(key, node, "the name of a file is missing".to_owned(), None);
            }
            Value::Text { text, .. } => text.clone(),
            Value::Unresolved => return,
            _ => {
                let cause = format!("expected the name of a file, found {}", node.kind());
                return self.problem(key, node, cause, None);
            }
        };
        // Relative to the file that says it.
        let path = self.path().parent().unwrap_or(Path::new("")).join(&pattern);
        let (directory, name) = pattern.rsplit_once('/').unwrap_or(("", &pattern));
        if is_pattern(directory) {
            let cause = "only the last part of a path may hold * or ?".to_owned();
            return self.problem(key, node, cause, Some("name each directory in a list"));
        }
        if !is_pattern(name) {
            return self.add(key, node, &path, seen);
        }
        let directory = path.parent().unwrap_or(Path::new("")).to_owned();
        match matches(&directory, name) {
            Ok(paths) => paths.iter().for_each(|path| self.add(key, node, path, seen)),
            Err(error) => {
                let cause = format!("cannot look into {}: {error}", directory.display());
                self.problem(
                    key,
                    node,
                    cause,
                    Some("a pattern may match no file, but its directory must be there"),
                );
            }
        }
        // The current one has a name when it is asked for.
        let directory = if directory.as_os_str().is_empty() { PathBuf::from(".") } else { directory };
        self.directories.push(directory);
    }

    fn add(&mut self, key: &Key, node: &Node, path: &Path, seen: &mut HashSet<PathBuf>) {
        let canonical = match fs::canonicalize(path) {
            Ok(canonical) => canonical,
            Err(error) => {
                let cause = format!("cannot read {}: {error}", path.display());
                return self.problem(key, node, cause, None);
            }
        };
        if !canonical.is_file() {
            // One that nobody writes to would be waited for.
            let cause = format!("{} is no file", path.display());
            return self.problem(
                key,
                node,
                cause,
                Some("to include what is in a directory: \"DIRECTORY/*.toml\""),
            );
        }
        if !seen.insert(canonical.clone()) {
            let (cause, suggestion) = if fs::canonicalize(self.path()).is_ok_and(|first| first == canonical) {
                (
                    format!("{} would include itself", path.display()),
                    "put what is included into another directory",
                )
            } else {
                (format!("{} is included already, maybe under another name", path.display()), "name it once")
            };
            return self.problem(key, node, cause, Some(suggestion));
        }
        if self.files.len() > FILES_MAX {
            let cause = format!("{}: at most {FILES_MAX} files can be included", path.display());
            return self.problem(key, node, cause, None);
        }
        let (text, unreadable) = match read_text(path) {
            Ok(text) => (text, None),
            Err(Unreadable { text, offset, cause, suggestion }) => (text, Some((offset, cause, suggestion))),
        };
        if self.source.text().len() + text.len() > TEXT_BYTES_MAX {
            let cause = format!("{}: all files together may have {TEXT_BYTES_MAX} bytes", path.display());
            return self.problem(key, node, cause, None);
        }
        let range = self.source.add(path.display().to_string(), &text);
        match unreadable {
            None => {
                self.files.push(ReadFile { path: path.to_owned(), range, format: Format::of(path) });
            }
            Some((offset, cause, suggestion)) => {
                let at = range.start + offset..range.start + offset;
                self.problems.push(Problem::new(&self.source, at, &Key::root(), cause, suggestion));
            }
        }
    }

    fn problem(&mut self, key: &Key, node: &Node, cause: String, suggestion: Option<&str>) {
        let suggestion = suggestion.map(str::to_owned);
        self.problems.push(Problem::new(&self.source, node.span.clone(), key, cause, suggestion));
    }
}

/// The entries of several tables as those of one: tables of one name are one, and nothing else is there twice.
fn unite(key: &Key, entries: Vec<Entry>, source: &Source, problems: &mut Vec<Problem>) -> Vec<Entry> {
    let mut united: Vec<Entry> = Vec::with_capacity(entries.len());
    let (mut places, mut grown): (HashMap<String, usize>, HashSet<usize>) = (HashMap::new(), HashSet::new());
    for entry in entries {
        let Some(&place) = places.get(&entry.name) else {
            places.insert(entry.name.clone(), united.len());
            united.push(entry);
            continue;
        };
        let there = &mut united[place];
        match (&mut there.node.value, entry.node.value) {
            (Value::Table(entries), Value::Table(more)) => {
                entries.extend(more);
                grown.insert(place);
            }
            _ => {
                let cause = format!("written twice: {} has it too", source.place(there.name_span.start));
                let suggestion = Some("keep one of the two".to_owned());
                let key = key.child(&entry.name);
                problems.push(Problem::new(source, entry.name_span, &key, cause, suggestion));
            }
        }
    }
    // The parser bounds the nesting, and so this recursion.
    for place in grown {
        let Entry { name, node, .. } = &mut united[place];
        if let Value::Table(entries) = &mut node.value {
            *entries = unite(&key.child(name), std::mem::take(entries), source, problems);
        }
    }
    united
}

/// The text of a file, or what was readable of it.
fn read_text(path: &Path) -> Result<String, Unreadable> {
    let cannot_read = |error: std::io::Error| {
        let cause = format!("cannot read the file: {error}");
        Unreadable { text: String::new(), offset: 0, cause, suggestion: None }
    };
    let file = fs::File::open(path).map_err(cannot_read)?;
    let mut bytes = Vec::new();
    // One byte more than allowed is enough for the document to refuse it.
    file.take(TEXT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(cannot_read)?;
    String::from_utf8(bytes).map_err(|error| {
        let valid_len = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
        let (cause, suggestion) =
            ("the file is not UTF-8 text".to_owned(), Some("save it as UTF-8".to_owned()));
        Unreadable { text, offset: valid_len, cause, suggestion }
    })
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// The files of a directory whose names match, in the order of their names. What begins with a dot is hidden, as in a shell:
/// editors and volumes keep there what is not meant yet.
fn matches(directory: &Path, pattern: &str) -> std::io::Result<Vec<PathBuf>> {
    let place = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let mut names: Vec<OsString> = Vec::new();
    for entry in fs::read_dir(place)? {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        let is_hidden = text.starts_with('.') && !pattern.starts_with('.');
        if !is_hidden && is_match(pattern, &text) {
            names.push(name);
        }
    }
    names.sort_unstable();
    // A directory that matches was not meant; one file more than is allowed tells.
    let paths = names.into_iter().map(|name| directory.join(name)).filter(|path| !path.is_dir());
    Ok(paths.take(FILES_MAX + 1).collect())
}

/// Whether a name matches, where `*` stands for any characters and `?` for one.
fn is_match(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut in_name) = (0, 0);
    // Where the last star stood, and how much of the name it has taken.
    let mut star: Option<(usize, usize)> = None;
    while in_name < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, in_name));
                at += 1;
            }
            Some(&wanted) if wanted == '?' || wanted == name[in_name] => {
                at += 1;
                in_name += 1;
            }
            _ => {
                let Some((place, taken)) = star else { return false };
                star = Some((place, taken + 1));
                (at, in_name) = (place + 1, taken + 1);
            }
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters_and_a_question_mark_for_one() {
        for (pattern, name, expected) in [
            ("*.toml", "a.toml", true),
            ("*.toml", ".toml", true),
            ("*.toml", "a.toml~", false),
            ("*.toml", "a.tom", false),
            ("*", "", true),
            ("**", "a", true),
            ("?.toml", "é.toml", true),
            ("?.toml", ".toml", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("*ab", "aab", true),
            ("10-*.toml", "10-web.toml", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("", "", true),
        ] {
            assert_eq!(is_match(pattern, name), expected, "{pattern} {name}");
        }
    }
}
