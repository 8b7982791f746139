//! Which of the known names did a misspelt one mean?
//!
//! Never offers a name that shares little with what was written.

/// The closest of the known names as "did you mean …?", if one is close enough.
pub(crate) fn did_you_mean<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    closest(written, known).map(|name| format!("did you mean {name:?}?"))
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
