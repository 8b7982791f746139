//! What does this JSON text say?
//!
//! Never takes more than RFC 8259 allows, and never one of two equal names.

use std::ops::Range;

use jsonc_parser::ast;
use jsonc_parser::common::{Range as AstRange, Ranged};
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use super::form;
use super::key::Key;
use super::source::Source;
use super::{Entry, Node, Value};
use crate::problem::Problem;

const STRICT: ParseOptions = ParseOptions {
    allow_comments: false,
    allow_loose_object_property_names: false,
    allow_trailing_commas: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// Reads the text that lies at `range`.
pub(super) fn parse(source: &Source, range: Range<usize>) -> Result<Node, Vec<Problem>> {
    let (base, text) = (range.start, &source.text()[range]);
    let collect = CollectOptions::default();
    let value = match parse_to_ast(text, &collect, &STRICT) {
        Ok(parsed) => parsed.value,
        Err(error) => {
            let (range, cause) = (moved(error.range(), base), lower_first(&error.kind().to_string()));
            let suggestion = form::of_json(&cause).map(str::to_owned);
            let foreign = form::foreign_to_json(text);
            let (cause, suggestion) =
                foreign.map_or((cause, suggestion), |foreign| (foreign.cause, foreign.suggestion));
            return Err(vec![Problem::new(source, range, &Key::root(), cause, suggestion)]);
        }
    };
    let Some(value) = value else {
        let cause = "the text is empty, expected an object".to_owned();
        return Err(vec![Problem::new(source, base..base, &Key::root(), cause, None)]);
    };
    let mut converter = Converter { source, base, problems: Vec::new() };
    let root = converter.node(&Key::root(), value);
    if !matches!(root.value, Value::Table(_)) {
        let cause = format!("expected an object, found {}", root.kind());
        converter.problems.push(Problem::new(source, root.span.clone(), &Key::root(), cause, None));
    }
    if converter.problems.is_empty() { Ok(root) } else { Err(converter.problems) }
}

struct Converter<'s> {
    source: &'s Source,
    /// Where the text begins.
    base: usize,
    problems: Vec<Problem>,
}

impl Converter<'_> {
    /// The parser bounds the nesting to 512 levels, and so this recursion.
    fn node(&mut self, key: &Key, value: ast::Value<'_>) -> Node {
        let span = moved(value.range(), self.base);
        let value = match value {
            ast::Value::StringLit(text) => Value::Text { text: text.value.into_owned(), interpolated: false },
            ast::Value::NumberLit(number) => number.value.parse().map_or(Value::Float, Value::Integer),
            ast::Value::BooleanLit(boolean) => Value::Boolean(boolean.value),
            ast::Value::NullKeyword(_) => Value::Null,
            ast::Value::Array(array) => {
                let items = array.elements.into_iter().enumerate();
                Value::List(items.map(|(index, item)| self.node(&key.item(index), item)).collect())
            }
            ast::Value::Object(object) => Value::Table(self.entries(key, object)),
        };
        Node { span, value }
    }

    fn entries(&mut self, key: &Key, object: ast::Object<'_>) -> Vec<Entry> {
        let mut seen = std::collections::HashSet::new();
        let mut entries = Vec::with_capacity(object.properties.len());
        for property in object.properties {
            let name_span = moved(property.name.range(), self.base);
            let name = property.name.into_string();
            let key = key.child(&name);
            if !seen.insert(name.clone()) {
                self.problems.push(Problem::new(
                    self.source,
                    name_span.clone(),
                    &key,
                    "duplicate key".to_owned(),
                    Some("keep one of the two".to_owned()),
                ));
            }
            let node = self.node(&key, property.value);
            entries.push(Entry { name, name_span, node });
        }
        entries
    }
}

fn moved(range: AstRange, base: usize) -> Range<usize> {
    range.start + base..range.end + base
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}
