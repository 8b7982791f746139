//! Which rows and columns of a table are seen? Those that match, in the order that was asked for, as many as there is room for.
//!
//! Never cuts a figure: where there is no room a column goes, the least important first.

use super::figure::Figure;

/// What a figure says at a glance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Nothing in particular.
    #[default]
    Plain,
    /// Not worth a look.
    Faint,
    /// As it should be.
    Good,
    /// Worth a look.
    Warning,
    /// Something is wrong.
    Bad,
}

/// A figure with its tone.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cell {
    pub(crate) figure: Figure,
    pub(crate) tone: Tone,
}

impl From<Figure> for Cell {
    fn from(figure: Figure) -> Self {
        Self { figure, tone: Tone::Plain }
    }
}

impl Cell {
    /// With a tone of its own, if it is anything but zero.
    pub(crate) fn toned(figure: Figure, tone: Tone) -> Self {
        let tone = if figure.is_word() || figure.is_something() { tone } else { Tone::Plain };
        Self { figure, tone }
    }
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    /// Columns with the highest go first where there is no room; 0 stays.
    pub(crate) rank: u8,
}

/// Rows of one kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Row>,
}

/// A row: its figures, and which object it is of, by its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) cells: Vec<Cell>,
    pub(crate) place: Place,
}

/// Where in a sample an object is: its index in its list, and that in the list inside of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) index: usize,
    pub(crate) inside: usize,
}

/// By which column, and from which end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sort {
    /// `None` leaves rows in the order of the configuration.
    pub(crate) column: Option<usize>,
    pub(crate) is_reverse: bool,
}

/// Blanks between columns.
const GAP: usize = 2;
/// A word that is longer is cut where there is no room for it.
const WORD_MIN: usize = 16;

/// A table that fits: lines of cells as wide as their columns.
#[derive(Debug)]
pub(crate) struct Fitted {
    pub(crate) head: Vec<(String, Option<usize>)>,
    pub(crate) lines: Vec<Vec<(String, Tone)>>,
}

impl Table {
    /// The rows that `filter` lets by, in order. A filter is a piece of any word of a row, in either case.
    pub(crate) fn chosen(&self, filter: &str, sort: Sort) -> Vec<&Row> {
        let filter = filter.to_lowercase();
        let is_match =
            |cell: &Cell| cell.figure.is_word() && cell.figure.text().to_lowercase().contains(&filter);
        let mut rows: Vec<&Row> =
            self.rows.iter().filter(|row| filter.is_empty() || row.cells.iter().any(is_match)).collect();
        if let Some(column) = sort.column.filter(|column| *column < self.columns.len()) {
            // The largest first, words from A: what one looks for is on top. Stable: equal rows do not dance.
            rows.sort_by(|one, other| {
                let (one, other) = (&one.cells[column].figure, &other.cells[column].figure);
                let order = if one.is_word() { one.order(other) } else { other.order(one) };
                if sort.is_reverse { order.reverse() } else { order }
            });
        }
        rows
    }

    /// Lays these rows out in lines of at most `width`.
    pub(crate) fn fit(&self, rows: &[&Row], width: usize) -> Fitted {
        let texts: Vec<Vec<String>> =
            rows.iter().map(|row| row.cells.iter().map(|cell| cell.figure.text()).collect()).collect();
        let is_word: Vec<bool> = (0..self.columns.len())
            .map(|column| self.rows.first().is_none_or(|row| row.cells[column].figure.is_word()))
            .collect();
        let mut widths: Vec<usize> = (0..self.columns.len())
            .map(|column| {
                let of_rows = texts.iter().map(|row| row[column].chars().count());
                of_rows.chain([self.columns[column].title.chars().count()]).max().unwrap_or_default()
            })
            .collect();
        let mut kept: Vec<usize> = (0..self.columns.len()).collect();
        let needed = |kept: &[usize], widths: &[usize]| -> usize {
            kept.iter().map(|column| widths[*column] + GAP).sum::<usize>().saturating_sub(GAP)
        };
        while needed(&kept, &widths) > width {
            // First long words are cut, then columns go.
            let longest =
                kept.iter().copied().filter(|column| is_word[*column]).max_by_key(|column| widths[*column]);
            let over = needed(&kept, &widths) - width;
            match longest {
                Some(column) if widths[column] > WORD_MIN => {
                    widths[column] = widths[column].saturating_sub(over).max(WORD_MIN);
                    continue;
                }
                _ => {}
            }
            let last = kept.iter().copied().filter(|column| self.columns[*column].rank > 0);
            let Some(last) = last.max_by_key(|column| (self.columns[*column].rank, *column)) else { break };
            kept.retain(|column| *column != last);
        }
        let align = |text: &str, column: usize| {
            let width = widths[column];
            let text = cut(text, width);
            if is_word[column] { format!("{text:<width$}") } else { format!("{text:>width$}") }
        };
        let head =
            kept.iter().map(|column| (align(self.columns[*column].title, *column), Some(*column))).collect();
        let line = |(row, texts): (&&Row, &Vec<String>)| {
            kept.iter().map(|column| (align(&texts[*column], *column), row.cells[*column].tone)).collect()
        };
        Fitted { head, lines: rows.iter().zip(&texts).map(line).collect() }
    }
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let head: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{head}…")
}

/// How many lines each of several tables gets of `room`, by what they need: nobody more than he needs, and what is left over goes
/// to who needs more.
pub(crate) fn share(needs: &[usize], room: usize) -> Vec<usize> {
    let mut shares = vec![0; needs.len()];
    let mut left = room.min(needs.iter().sum());
    while left > 0 {
        for (share, need) in shares.iter_mut().zip(needs) {
            if *share < *need && left > 0 {
                *share += 1;
                left -= 1;
            }
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let row = |name: &str, state: &str, rate: f64, index| Row {
            cells: vec![
                Figure::Word(name.to_owned()).into(),
                Figure::Word(state.to_owned()).into(),
                Figure::Rate(Some(rate)).into(),
                Figure::Count(Some(7)).into(),
            ],
            place: Place { index, inside: 0 },
        };
        let column = |title, rank| Column { title, rank };
        Table {
            columns: vec![column("name", 0), column("state", 2), column("req/s", 0), column("idle", 1)],
            rows: vec![
                row("a-name-that-is-rather-long", "up", 5.0, 0),
                row("beta", "DOWN", 500.0, 1),
                row("gamma", "up", 50.0, 2),
            ],
        }
    }

    fn names(table: &Table, filter: &str, sort: Sort) -> Vec<usize> {
        table.chosen(filter, sort).iter().map(|row| row.place.index).collect()
    }

    #[test]
    fn rows_are_filtered_by_any_word_and_sorted_by_any_column() {
        let table = table();
        let by = |column, is_reverse| Sort { column, is_reverse };
        assert_eq!(names(&table, "", Sort::default()), [0, 1, 2]);
        assert_eq!(names(&table, "down", Sort::default()), [1]);
        assert_eq!(names(&table, "7", Sort::default()), [0_usize; 0], "figures are no words");
        assert_eq!(names(&table, "", by(Some(2), false)), [1, 2, 0], "the largest first");
        assert_eq!(names(&table, "", by(Some(2), true)), [0, 2, 1]);
        assert_eq!(names(&table, "", by(Some(0), false)), [0, 1, 2], "words from A");
        assert_eq!(names(&table, "", by(Some(9), false)), [0, 1, 2], "a column that there is not");
    }

    fn lines(width: usize) -> Vec<String> {
        let table = table();
        let fitted = table.fit(&table.chosen("", Sort::default()), width);
        let head = fitted.head.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join("  ");
        let lines = fitted
            .lines
            .iter()
            .map(|line| line.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join("  "));
        [head].into_iter().chain(lines).collect()
    }

    #[test]
    fn where_there_is_no_room_words_are_cut_and_then_columns_go() {
        assert_eq!(lines(80)[1], "a-name-that-is-rather-long  up       5.0     7");
        assert_eq!(lines(36)[1], "a-name-that-is-…  up       5.0     7");
        assert_eq!(lines(30)[0], "name              req/s  idle", "the state has the highest rank");
        assert_eq!(lines(23)[0], "name              req/s");
        assert_eq!(lines(5)[0], "name              req/s", "what stays is cut by the terminal");
    }

    #[test]
    fn room_goes_to_who_needs_it() {
        assert_eq!(share(&[2, 10, 3], 100), [2, 10, 3]);
        assert_eq!(share(&[2, 10, 3], 9), [2, 4, 3]);
        assert_eq!(share(&[2, 10, 3], 2), [1, 1, 0]);
        assert_eq!(share(&[], 5), [0_usize; 0]);
    }
}
