//! Which of the known names did a misspelt one mean?
//!
//! Never offers a name that shares little with what was written.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value;

/// What other programs call what is known here by another name.
const ELSEWHERE: &[(&str, &str)] = &[
    ("server", "listener"),
    ("servers", "listener"),
    ("frontend", "listener"),
    ("entrypoint", "listener"),
    ("backend", "upstream"),
    ("service", "upstream"),
    ("location", "channel"),
    ("route", "channel"),
    ("routes", "channel"),
    ("listen", "bind"),
    ("address", "bind"),
    ("proxy_pass", "upstream"),
    ("leastconn", "least_connections"),
    ("least_conn", "least_connections"),
    ("lc", "least_connections"),
    ("rr", "round_robin"),
    ("wrr", "round_robin"),
    ("random", "random_two"),
    ("ip_hash", "source_hash"),
    ("source", "source_hash"),
    ("sh", "source_hash"),
    ("sed", "shortest_expected_delay"),
    ("nq", "never_queue"),
    ("ssl", "tls"),
];

/// The closest of the known names as "did you mean …?", if one is close enough.
pub(crate) fn did_you_mean<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    let known: Vec<_> = known.into_iter().collect();
    let elsewhere = || {
        let meant = ELSEWHERE.iter().find(|(name, _)| *name == written)?.1;
        known.contains(&meant).then_some(meant)
    };
    closest(written, known.iter().copied()).or_else(elsewhere).map(|name| format!("did you mean {name:?}?"))
}

/// Tables named when a key stands in the wrong one.
const HOMES_MAX: usize = 3;

/// The tables that have a key of this name, if they are few.
pub(crate) fn belongs_to(written: &str) -> Option<String> {
    // Made once: a text can hold an unknown key in every few bytes.
    static HOMES: LazyLock<HashMap<String, Vec<String>>> = LazyLock::new(homes);
    let homes = HOMES.get(written)?;
    match homes.as_slice() {
        [home] if home.is_empty() => Some("it stands above the first table of the file".to_owned()),
        homes if homes.len() > HOMES_MAX || homes.iter().any(String::is_empty) => None,
        homes => Some(format!("it is a key of [{}]", homes.join("], ["))),
    }
}

/// The tables that have a key, by its name.
fn homes() -> HashMap<String, Vec<String>> {
    let schema = schemars::schema_for!(crate::schema::Config).to_value();
    let mut homes: HashMap<String, Vec<String>> = HashMap::new();
    walk(&schema, &schema, "", &mut |path, name| {
        homes.entry(name.to_owned()).or_default().push(path.to_owned());
    });
    homes
}

/// Tells every key of the schema with the table it is in.
fn walk(root: &Value, schema: &Value, path: &str, found: &mut dyn FnMut(&str, &str)) {
    let reference = schema["$ref"].as_str().and_then(|reference| root.pointer(reference.strip_prefix('#')?));
    let schema = reference.unwrap_or(schema);
    // The schema has no table within itself, and so this recursion an end.
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        found(path, name);
        let dot = if path.is_empty() { "" } else { "." };
        walk(root, below, &format!("{path}{dot}{name}"), found);
    }
    if schema["additionalProperties"].is_object() {
        walk(root, &schema["additionalProperties"], &format!("{path}.NAME"), found);
    }
}

/// The known names as a list, for when none of them is close.
pub(crate) fn one_of<'k>(known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    let names: Vec<_> = known.into_iter().collect();
    if names.is_empty() { None } else { Some(format!("known: {}", names.join(", "))) }
}

fn closest<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let folded: Vec<char> = written.to_lowercase().replace('-', "_").chars().collect();
    // One slip in three characters still reads as the same word.
    let distance_max = (folded.len() / 3).max(1);
    let distances = known.into_iter().filter_map(|name| {
        let candidate: Vec<char> = name.to_lowercase().replace('-', "_").chars().collect();
        let far_off = folded.len().abs_diff(candidate.len()) > distance_max;
        let distance = if far_off { return None } else { edits(&folded, &candidate) };
        (distance <= distance_max).then_some((distance, name))
    });
    distances.min_by_key(|&(distance, _)| distance).map(|(_, name)| name)
}

/// Insertions, deletions, substitutions and swaps of neighbours between two words: the optimal string
/// alignment distance, three rows of Wagner and Fischer's table at a time.
fn edits(from: &[char], to: &[char]) -> usize {
    let mut two_above = vec![0; to.len() + 1];
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1; to.len() + 1];
        for (j, b) in to.iter().enumerate() {
            let substituted = above[j] + usize::from(a != b);
            row[j + 1] = substituted.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                row[j + 1] = row[j + 1].min(two_above[j - 1] + 1);
            }
        }
        two_above = std::mem::replace(&mut above, row);
    }
    above[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_edits() {
        for (from, to, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("bind", "bind", 0),
            ("bidn", "bind", 1),
            ("bnd", "bind", 1),
            ("binds", "bind", 1),
            ("bend", "bind", 1),
            ("listener", "upstream", 6),
        ] {
            let [from, to] = [from, to].map(|word| word.chars().collect::<Vec<_>>());
            assert_eq!(edits(&from, &to), expected, "{from:?} {to:?}");
        }
    }

    #[test]
    fn offers_the_closest_name_only_when_it_is_close() {
        let known = ["listener", "channel", "upstream", "admin"];
        assert_eq!(closest("listner", known), Some("listener"));
        assert_eq!(closest("Upstreams", known), Some("upstream"));
        assert_eq!(closest("chanel", known), Some("channel"));
        assert_eq!(closest("server", known), None);
        assert_eq!(closest("", known), None);
        assert_eq!(closest("head-bytes", ["head_bytes"]), Some("head_bytes"));
        assert_eq!(closest("é", ["e", "x"]), Some("e"));
    }
}
