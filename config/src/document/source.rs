//! In which file, at which line and column does this byte stand?
//!
//! Never points outside its text. The texts of several files are one here, so that a range of bytes is a place wherever it lies.

use std::ops::Range;

use super::key::Key;

/// A text and what it is called in messages; the texts of files that it includes follow it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Source {
    /// At least one, in the order of the text.
    parts: Vec<Part>,
    text: String,
    naming: Naming,
    /// Offset of the first byte of each line, ascending from 0.
    line_starts: Vec<usize>,
}

/// The text of one file.
#[derive(Clone, Debug, PartialEq)]
struct Part {
    name: String,
    /// Where it lies among the others.
    range: Range<usize>,
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
        let line_starts = line_starts(&text, 0).collect();
        Self { parts: vec![Part { name: name.into(), range: 0..text.len() }], text, naming, line_starts }
    }

    /// Puts the text of another file behind, and says where it lies from then on. What was there stays where it was.
    pub(crate) fn add(&mut self, name: impl Into<String>, text: &str) -> Range<usize> {
        // A line of one file never goes on in the next.
        self.text.push('\n');
        let start = self.text.len();
        self.text.push_str(text);
        self.line_starts.extend(line_starts(text, start));
        let range = start..self.text.len();
        self.parts.push(Part { name: name.into(), range: range.clone() });
        range
    }

    /// Path of the file that the byte is in, or what stands for it.
    pub(crate) fn name(&self, offset: usize) -> &str {
        &self.part(offset).name
    }

    /// `file:line:column` of a byte.
    pub(crate) fn place(&self, offset: usize) -> String {
        let (line, column) = self.position(offset);
        format!("{}:{line}:{column}", self.name(offset))
    }

    /// Where the text of the first file lies.
    pub(crate) fn first(&self) -> Range<usize> {
        self.parts[0].range.clone()
    }

    fn part(&self, offset: usize) -> &Part {
        let after = self.parts.partition_point(|part| part.range.start <= offset);
        &self.parts[after.saturating_sub(1)]
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

    /// The line from 1, counted over all files.
    pub(crate) fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|&start| start <= offset)
    }

    /// Line and column in the byte's own file, both from 1, the column in characters.
    pub(crate) fn position(&self, offset: usize) -> (u32, u32) {
        let line = self.line(offset);
        let in_line = self.text.get(self.line_starts[line - 1]..offset).unwrap_or("");
        let lines_before = self.line(self.part(offset).range.start) - 1;
        let as_u32 = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        (as_u32(line - lines_before), as_u32(in_line.chars().count() + 1))
    }
}

/// Where the lines of a text begin that begins at `base` itself.
fn line_starts(text: &str, base: usize) -> impl Iterator<Item = usize> {
    let after_newlines = text.match_indices('\n').map(move |(newline, _)| base + newline + 1);
    std::iter::once(base).chain(after_newlines)
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
    fn counts_the_lines_of_each_file_by_itself() {
        let mut source = Source::new("a.toml", "a\nb", Naming::Keys);
        let second = source.add("b.toml", "");
        let third = source.add("c.toml", "c\nüd");
        assert_eq!((second, third), (4..4, 5..10));
        for (offset, place) in [
            (0, "a.toml:1:1"),
            (2, "a.toml:2:1"),
            (3, "a.toml:2:2"),
            (4, "b.toml:1:1"),
            (5, "c.toml:1:1"),
            (7, "c.toml:2:1"),
            (9, "c.toml:2:2"),
            (10, "c.toml:2:3"),
        ] {
            assert_eq!(source.place(offset), place, "{offset}");
        }
        assert_eq!(&source.text()[9..10], "d");
    }

    #[test]
    fn never_points_outside_the_text() {
        let source = Source::new("x.toml", "aü", Naming::Keys);
        assert_eq!(source.clamp(2..2), 1..3);
        assert_eq!(source.clamp(9..12), 3..3);
    }
}
