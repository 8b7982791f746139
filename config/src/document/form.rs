//! What was meant by a text that has no form? The parsers' words, put so that they say what to do.
//!
//! Never decides that something is wrong: the parser has refused the text before.

use std::ops::Range;

/// What is wrong, and what to write instead.
pub(super) struct Explained {
    pub(super) cause: String,
    pub(super) suggestion: Option<String>,
}

impl Explained {
    fn new(cause: impl Into<String>, suggestion: impl Into<String>) -> Self {
        Self { cause: cause.into(), suggestion: Some(suggestion.into()) }
    }
}

/// How a configuration looks, for those who wrote another program's.
const LOOK: &str = "a configuration looks like this: [listener.web] and below it bind = \"127.0.0.1:8080\"; docs/configuration.md has \
                    every key";

/// Quotes that no format knows.
const CURLY_QUOTES: [char; 7] =
    ['\u{201c}', '\u{201d}', '\u{201e}', '\u{2018}', '\u{2019}', '\u{ab}', '\u{bb}'];

/// What makes nonsense of everything behind it.
pub(super) const LIST_OPEN: &str = "a list above is not closed";

/// What a whole text is that is no TOML: the place that gives it away, and what to do.
pub(super) fn foreign_to_toml(text: &str) -> Option<(Range<usize>, Explained)> {
    let begin = text.len() - text.trim_start_matches('\u{feff}').trim_start().len();
    if text[begin..].starts_with('{') {
        let explained = Explained::new("this is JSON", "give the file a name that ends in .json");
        return Some((begin..begin + 1, explained));
    }
    if let Some((at, line)) = lines(text).find(|(_, line)| line.starts_with("<<<<<<<")) {
        let explained =
            Explained::new("the mark of a merge that was not finished", "keep one of the two sides");
        return Some((at..at + line.len(), explained));
    }
    let is_assignment = |line: &str| line.contains(" = ") || line.trim_start().starts_with('[');
    let plain =
        || lines(text).filter(|(_, line)| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    if plain().any(|(_, line)| is_assignment(line)) {
        return None;
    }
    let find =
        |is_it: fn(&str) -> bool| plain().find(|(_, line)| is_it(line)).map(|(at, line)| at..at + line.len());
    let (cause, place) = if let (Some(place), true) = (find(opens_block), find(ends_statement).is_some()) {
        ("this reads like a configuration of nginx", place)
    } else if let Some(place) = find(begins_section) {
        ("this reads like a configuration of HAProxy", place)
    } else {
        ("this is YAML", find(is_yaml)?)
    };
    Some((place, Explained::new(cause, LOOK)))
}

/// The lines of a text, each with its place.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    text.split('\n').map(move |line| {
        let place = at;
        at += line.len() + 1;
        (place, line.trim_end())
    })
}

fn opens_block(line: &str) -> bool {
    line.ends_with('{') && line.starts_with(|first: char| first.is_alphabetic() || first == ' ')
}

fn ends_statement(line: &str) -> bool {
    line.ends_with(';')
}

fn begins_section(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let is_section = matches!(words.next(), Some("frontend" | "backend" | "defaults" | "global" | "listen"));
    is_section && !line.starts_with(' ') && words.count() <= 1
}

fn is_yaml(line: &str) -> bool {
    let line = line.trim_start();
    let Some((key, rest)) = line.strip_prefix("- ").unwrap_or(line).split_once(':') else {
        return line == "---";
    };
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    !key.is_empty() && key.chars().all(is_word) && (rest.is_empty() || rest.starts_with(' '))
}

/// Why a text that has no object is no JSON.
pub(super) fn foreign_to_json(text: &str) -> Option<Explained> {
    let first = text.trim_start_matches('\u{feff}').trim_start().chars().next()?;
    let is_toml = first == '#' || lines(text).any(|(_, line)| line.contains(" = "));
    (is_toml && first != '{')
        .then(|| Explained::new("this is TOML", "give the file a name that ends in .toml"))
}

/// What the TOML parser said of the byte at `at` of a line.
pub(super) fn of_toml(line: &str, at: usize, cause: &str) -> Explained {
    let at = line.floor_char_boundary(at);
    if line[at..].starts_with(CURLY_QUOTES) {
        return Explained::new("these quotes mean nothing here", "write plain ones: \"");
    }
    if cause == "key with no value, expected `=`"
        || cause.starts_with("invalid unquoted key") && is_yaml(line)
    {
        return match line.split_once(':') {
            Some((key, value)) if is_yaml(line) => {
                let suggestion = format!("write {} = {}", key.trim(), quoted(value));
                Explained::new("a key and its value are joined by =, found :", suggestion)
            }
            _ => Explained::new("a key has no value", "for example bind = \"127.0.0.1:8080\""),
        };
    }
    if line.trim_end().ends_with(';') {
        return Explained::new("a line ends without a semicolon", "remove it");
    }
    let is_value =
        ["string values must be quoted", "invalid float", "invalid integer", "invalid literal string"];
    if is_value.iter().any(|begin| cause.starts_with(begin)) {
        return match line[..at].rfind('=') {
            Some(equals) => of_value(&line[equals + 1..], cause),
            None if line.trim_start().starts_with('[') => Explained::new(LIST_OPEN, "close it with ]"),
            None => Explained { cause: cause.to_owned(), suggestion: None },
        };
    }
    let suggestion = match cause {
        "duplicate key" => "keep one of the two",
        "unclosed table, expected `]`" => "close it with ]",
        "unclosed array, expected `]`" => return Explained::new("a list is not closed", "close it with ]"),
        _ if cause.starts_with("invalid basic string, expected `\"`") => {
            return Explained::new("the string is not closed", "end it with \"");
        }
        _ if cause.starts_with("cannot recurse further") => {
            return Explained::new("too many tables or lists within each other", "no key is that deep");
        }
        _ if cause.contains("printable characters") => "remove what cannot be seen",
        _ => return Explained { cause: cause.to_owned(), suggestion: None },
    };
    Explained::new(cause, suggestion)
}

/// A value that is none, as it stands behind its key.
fn of_value(written: &str, cause: &str) -> Explained {
    let value = written.split(['#', ',', '}']).next().unwrap_or_default().trim();
    match value.to_ascii_lowercase().as_str() {
        "" => Explained::new("the value is missing", "for example \"127.0.0.1:8080\""),
        "yes" | "on" | "true" => {
            Explained::new(format!("expected true or false, found {value}"), "write true")
        }
        "no" | "off" | "false" => {
            Explained::new(format!("expected true or false, found {value}"), "write false")
        }
        _ if value.starts_with(['"', '\'', '[', '{']) => {
            Explained { cause: cause.to_owned(), suggestion: None }
        }
        _ => Explained::new("a string stands in quotes", format!("write {}", quoted(value))),
    }
}

fn quoted(value: &str) -> String {
    let value = value.trim().trim_matches(['"', '\'']);
    if value.is_empty() { "\"…\"".to_owned() } else { format!("\"{value}\"") }
}

/// What the JSON parser said.
pub(super) fn of_json(cause: &str) -> Option<&'static str> {
    Some(match cause {
        "trailing commas are not allowed" => "remove the comma",
        "comments are not allowed" => "remove it; TOML has comments",
        "single-quoted strings are not allowed" => "write \"",
        "expected comma" => "put one behind the value",
        "unterminated object" => "close it with }",
        "unterminated array" => "close it with ]",
        "unterminated string literal" => "close it with \"",
        "maximum nesting depth exceeded" => "no key is that deep",
        _ => return None,
    })
}
