//! What does a string say once the environment is put in? `${NAME}`, `${NAME:-default}`, `$${` for `${` itself. Names that
//! requests put in, such as `${host}`, are left for them.
//!
//! Never looks into keys, and never puts a value in twice: what a variable holds is taken as it is.

use super::key::{Key, Step};
use super::source::Source;
use super::{Entry, Environment, Node, Value};
use crate::problem::Problem;
use proto::template::Variable;
use thiserror::Error;

#[derive(Debug, PartialEq, Eq, Error)]
enum InterpolationError {
    #[error("the environment variable {name} is not set")]
    Unset { name: String },
    #[error("\"${{\" without a closing \"}}\"")]
    Unclosed,
    #[error("{name:?} is not the name of an environment variable")]
    BadName { name: String },
}

impl InterpolationError {
    fn suggestion(&self) -> String {
        match self {
            Self::Unset { name } => format!("set it, or give a default: \"${{{name}:-…}}\""),
            Self::Unclosed | Self::BadName { .. } => "write \"$${\" for a literal \"${\"".to_owned(),
        }
    }
}

/// Replaces every reference in every string of the tree at `key`; a reference that cannot be is a problem.
pub(super) fn interpolate(
    root: &mut Node,
    key: &Key,
    source: &Source,
    environment: Environment<'_>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    visit(root, key, &mut |key, node| {
        let Value::Text { text, interpolated } = &mut node.value else { return };
        if !text.contains("${") {
            return;
        }
        match expand(text, has_fields(key), environment) {
            Ok((expanded, references)) => (*text, *interpolated) = (expanded, references > 0),
            Err((error, fragment)) => {
                let span = span_within(source, node, &fragment);
                let suggestion = Some(error.suggestion());
                problems.push(Problem::new(source, span, key, error.to_string(), suggestion));
                node.value = Value::Unresolved;
            }
        }
    });
    problems
}

fn visit(node: &mut Node, key: &Key, change: &mut dyn FnMut(&Key, &mut Node)) {
    change(key, node);
    match &mut node.value {
        Value::Table(entries) => {
            for Entry { name, node, .. } in entries {
                visit(node, &key.child(name), change);
            }
        }
        Value::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                visit(item, &key.item(index), change);
            }
        }
        _ => {}
    }
}

/// The text with its references replaced and their number, or the first that cannot be, as written.
fn expand(
    text: &str,
    has_fields: bool,
    environment: Environment<'_>,
) -> Result<(String, usize), (InterpolationError, String)> {
    let mut expanded = String::with_capacity(text.len());
    let mut references = 0;
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, reference) = rest.split_at(start);
        if let Some(literal) = before.strip_suffix('$') {
            expanded.push_str(literal);
            expanded.push_str("${");
            rest = &reference[2..];
            continue;
        }
        expanded.push_str(before);
        let Some(end) = reference.find('}') else {
            return Err((InterpolationError::Unclosed, reference.to_owned()));
        };
        let name = &reference[2..end];
        if Variable::of(name).is_some() || (has_fields && name.starts_with(|c: char| c.is_ascii_lowercase()))
        {
            expanded.push_str(&reference[..=end]);
            rest = &reference[end + 1..];
            continue;
        }
        let value = resolve(&reference[2..end], environment);
        expanded.push_str(&value.map_err(|error| (error, reference[..=end].to_owned()))?);
        references += 1;
        rest = &reference[end + 1..];
    }
    expanded.push_str(rest);
    Ok((expanded, references))
}

/// Whether names in small letters are fields here, which exchanges put in: known or not, the reader tells better.
fn has_fields(key: &Key) -> bool {
    matches!(key.steps(), [Step::Name(table), _, Step::Name(name)] if table == "access_log" && name == "format")
}

/// As a shell does: the default also stands in for an empty variable.
fn resolve(reference: &str, environment: Environment<'_>) -> Result<String, InterpolationError> {
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(InterpolationError::BadName { name: name.to_owned() });
    }
    match (environment(name), default) {
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(InterpolationError::Unset { name: name.to_owned() }),
    }
}

/// The place of the reference inside the string; the whole string where escapes hide it.
fn span_within(source: &Source, node: &Node, fragment: &str) -> std::ops::Range<usize> {
    let written = source.text().get(node.span.clone()).unwrap_or("");
    match written.find(fragment) {
        Some(offset) => node.span.start + offset..node.span.start + offset + fragment.len(),
        None => node.span.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("10.0.0.1".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICK" => Some("${HOST}".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn puts_the_environment_in() {
        for (text, expected) in [
            ("${HOST}:80", ("10.0.0.1:80", 1)),
            ("${HOST}${HOST}", ("10.0.0.110.0.0.1", 2)),
            ("${PORT:-8080}", ("8080", 1)),
            ("${PORT:-}", ("", 1)),
            ("${EMPTY}", ("", 1)),
            ("${EMPTY:-x}", ("x", 1)),
            ("${TRICK}", ("${HOST}", 1)),
            ("$${HOST}", ("${HOST}", 0)),
            ("^/a$", ("^/a$", 0)),
            ("é${HOST}é", ("é10.0.0.1é", 1)),
        ] {
            assert_eq!(expand(text, false, &environment), Ok((expected.0.to_owned(), expected.1)), "{text}");
        }
    }

    #[test]
    fn refuses_what_it_cannot_resolve() {
        let check = |text: &str, error: InterpolationError, fragment: &str| {
            assert_eq!(expand(text, false, &environment), Err((error, fragment.to_owned())), "{text}");
        };
        let bad_name = |name: &str| InterpolationError::BadName { name: name.to_owned() };
        check("a${PORT}b", InterpolationError::Unset { name: "PORT".to_owned() }, "${PORT}");
        check("a${PORT", InterpolationError::Unclosed, "${PORT");
        check("${}", bad_name(""), "${}");
        check("${1}", bad_name("1"), "${1}");
        check("${A:B}", bad_name("A:B"), "${A:B}");
    }
}
