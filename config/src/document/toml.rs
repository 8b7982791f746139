//! What does this TOML text say?
//!
//! Never stops at the first mistake of form: the parser recovers, one message per line remains.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::form::{self, Explained};
use super::key::Key;
use super::source::Source;
use super::{Entry, Node, Value};
use crate::problem::Problem;

/// Reads the text that lies at `range`.
pub(super) fn parse(source: &Source, range: Range<usize>) -> Result<Node, Vec<Problem>> {
    let (base, text) = (range.start, &source.text()[range]);
    let (table, mut errors) = DeTable::parse_recoverable(text);
    errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
    if !errors.is_empty()
        && let Some((place, Explained { cause, suggestion })) = form::foreign_to_toml(text)
    {
        return Err(vec![Problem::new(source, moved(place, base), &Key::root(), cause, suggestion)]);
    }
    let mut problems: Vec<Problem> = Vec::new();
    let mut last_line = 0;
    for error in errors {
        let span = source.clamp(moved(error.span().unwrap_or(0..0), base));
        // What follows the first mistake of a line is most often its consequence.
        let line = source.line(span.start);
        if line != last_line {
            let (line, at) = line_around(source.text(), span.start);
            let Explained { cause, suggestion } = form::of_toml(line, at, error.message());
            let hides_the_rest = cause == form::LIST_OPEN;
            problems.push(Problem::new(source, span, &Key::root(), cause, suggestion));
            if hides_the_rest {
                break;
            }
        }
        last_line = line;
    }
    if problems.is_empty() { Ok(table_node(base..base, table.into_inner(), base)) } else { Err(problems) }
}

/// The line of a text that a byte is in, and where it is there.
fn line_around(text: &str, at: usize) -> (&str, usize) {
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[at..].find('\n').map_or(text.len(), |newline| at + newline);
    (&text[start..end], at - start)
}

fn moved(span: Range<usize>, base: usize) -> Range<usize> {
    span.start + base..span.end + base
}

/// A table whose text begins at `base`.
fn table_node(span: Range<usize>, table: DeTable<'_>, base: usize) -> Node {
    let entry = |(name, node): (toml::Spanned<_>, toml::Spanned<_>)| {
        let name_span = moved(name.span(), base);
        let name: std::borrow::Cow<'_, str> = name.into_inner();
        Entry { name: name.into_owned(), name_span, node: value_node(node, base) }
    };
    let mut entries: Vec<_> = table.into_iter().map(entry).collect();
    // The parser hands the keys out by name; the order written decides between channels of equal priority.
    entries.sort_by_key(|entry| entry.name_span.start);
    Node { span, value: Value::Table(entries) }
}

/// The parser bounds the nesting to 80 levels, and so this recursion.
fn value_node(value: toml::Spanned<DeValue<'_>>, base: usize) -> Node {
    let span = moved(value.span(), base);
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text { text: text.into_owned(), interpolated: false },
        DeValue::Integer(integer) => match i128::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) => Value::Integer(number),
            // Beyond 128 bits no key has a use for the exact amount.
            Err(_) => Value::Integer(i128::MAX),
        },
        DeValue::Float(_) => Value::Float,
        DeValue::Boolean(boolean) => Value::Boolean(boolean),
        DeValue::Datetime(_) => Value::Date,
        DeValue::Array(items) => Value::List(items.into_iter().map(|item| value_node(item, base)).collect()),
        DeValue::Table(table) => return table_node(span, table, base),
    };
    Node { span, value }
}
