//! At which line and column does this byte stand?
//!
//! Never points outside its text.

use std::ops::Range;

use super::key::Key;

/// A text and what it is called in messages.
pub(crate) struct Source {
    name: String,
    text: String,
    naming: Naming,
    /// Offset of the first byte of each line, ascending from 0.
    line_starts: Vec<usize>,
}

/// How keys are named in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// By their path in the file.
    Keys,
    /// By the flags of the command line that the tree was made of.
    Flags,
}

impl Source {
    pub(crate) fn new(name: impl Into<String>, text: impl Into<String>, naming: Naming) -> Self {
        let text = text.into();
        let after_newlines = text.match_indices('\n').map(|(newline, _)| newline + 1);
        let line_starts = std::iter::once(0).chain(after_newlines).collect();
        Self { name: name.into(), text, naming, line_starts }
    }

    /// Path of the file, or what stands for it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// What a key is called where the operator wrote it.
    pub(crate) fn key_name(&self, key: &Key) -> String {
        match (self.naming, key.head()) {
            (Naming::Flags, Some("listener" | "channel")) => "--listen".to_owned(),
            (Naming::Flags, Some("upstream")) => "--to".to_owned(),
            (Naming::Flags | Naming::Keys, _) => key.to_string(),
        }
    }

    /// The nearest range that lies inside the text, on borders of characters.
    pub(crate) fn clamp(&self, span: Range<usize>) -> Range<usize> {
        let start = self.text.floor_char_boundary(span.start);
        let end = self.text.ceil_char_boundary(span.end);
        start..end.max(start)
    }

    /// The line from 1.
    pub(crate) fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|&start| start <= offset)
    }

    /// Line and column, both from 1, the column in characters.
    pub(crate) fn position(&self, offset: usize) -> (u32, u32) {
        let line = self.line(offset);
        let in_line = self.text.get(self.line_starts[line - 1]..offset).unwrap_or("");
        let as_u32 = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        (as_u32(line), as_u32(in_line.chars().count() + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_lines_and_characters_from_one() {
        let source = Source::new("x.toml", "a\nüb\n\nc", Naming::Keys);
        for (offset, position) in
            [(0, (1, 1)), (1, (1, 2)), (2, (2, 1)), (4, (2, 2)), (6, (3, 1)), (7, (4, 1)), (8, (4, 2))]
        {
            assert_eq!(source.position(offset), position, "{offset}");
        }
        assert_eq!(Source::new("x.toml", "", Naming::Keys).position(0), (1, 1));
    }

    #[test]
    fn never_points_outside_the_text() {
        let source = Source::new("x.toml", "aü", Naming::Keys);
        assert_eq!(source.clamp(2..2), 1..3);
        assert_eq!(source.clamp(9..12), 3..3);
    }
}
