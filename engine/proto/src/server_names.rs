//! Who serves a name that a TLS client asks for? The same name, else the longest wildcard that takes it in.
//!
//! Never in the order written, as channels are: a name says more than any wildcard. A wildcard means what it means in
//! `match.host`: any name below, at any depth, but not the bare domain.

use crate::matching::HostPattern;

/// Names and wildcards, each with what it leads to.
#[derive(Clone, Debug)]
pub struct ServerNames<T> {
    exact: Box<[(Box<str>, T)]>,
    /// The suffix of each wildcard, with its dot.
    below: Box<[(Box<str>, T)]>,
}

impl<T: Copy> ServerNames<T> {
    /// Prepares a table. Of two that are the same the first counts.
    #[must_use]
    pub fn new<'p>(patterns: impl IntoIterator<Item = (&'p HostPattern, T)>) -> Self {
        let (mut exact, mut below) = (Vec::new(), Vec::new());
        for (pattern, target) in patterns {
            match pattern {
                HostPattern::Exact(name) => exact.push((name.to_ascii_lowercase().into_boxed_str(), target)),
                HostPattern::Below(suffix) => {
                    below.push((suffix.to_ascii_lowercase().into_boxed_str(), target));
                }
            }
        }
        let prepare = |mut entries: Vec<(Box<str>, T)>| {
            // Stable, so that the first of two stays.
            entries.sort_by(|(one, _), (other, _)| one.cmp(other));
            entries.dedup_by(|(later, _), (first, _)| later == first);
            entries.into_boxed_slice()
        };
        Self { exact: prepare(exact), below: prepare(below) }
    }

    /// What `name`, in lower case and without a final dot, leads to.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<T> {
        let look_up = |entries: &[(Box<str>, T)], key: &str| {
            entries.binary_search_by(|(entry, _)| (**entry).cmp(key)).ok().map(|at| entries[at].1)
        };
        // From left to right the suffixes get shorter, so that the first found is the longest.
        let suffixes = name.match_indices('.').filter(|(dot, _)| *dot > 0).map(|(dot, _)| &name[dot..]);
        look_up(&self.exact, name)
            .or_else(|| suffixes.into_iter().find_map(|suffix| look_up(&self.below, suffix)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_comes_before_the_longest_wildcard() {
        let patterns = ["*.example", "a.example", "*.b.example", "*.B.example", "b.example", "*.c.b.example"];
        let patterns = patterns.map(|text| HostPattern::parse(text).expect("a pattern"));
        let names = ServerNames::new(patterns.iter().zip(0..));
        for (name, expected) in [
            ("a.example", Some(1)),
            ("b.example", Some(4)),
            ("c.example", Some(0)),
            ("x.y.example", Some(0)),
            ("x.b.example", Some(2)),
            ("x.y.b.example", Some(2)),
            ("c.b.example", Some(2)),
            ("x.c.b.example", Some(5)),
            ("xb.example", Some(0)),
            ("example", None),
            (".example", None),
            ("a.example.org", None),
            ("", None),
        ] {
            assert_eq!(names.find(name), expected, "{name}");
        }
    }
}
