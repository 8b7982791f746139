//! What has the operator asked to see? Keys in; pane, row, order, filter and pace out.
//!
//! Never touches the terminal, and never what is shown: it says what should be.

use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::model::Kind;
use super::table::Sort;

/// Paces that can be chosen: a process that is far away need not be asked each second.
pub(crate) const PACES: [Duration; 7] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
];

/// Longest filter: a name is not longer.
const FILTER_MAX: usize = 64;

/// Rows that a page key moves by.
const PAGE: usize = 10;

/// What is laid over the tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Overlay {
    #[default]
    None,
    Help,
    /// Every number of the selected row.
    Details,
}

/// How one table is shown.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shown {
    pub(crate) sort: Sort,
    /// Index among the rows that are chosen.
    pub(crate) selected: usize,
}

/// What the operator wants to see.
#[derive(Clone, Debug)]
pub(crate) struct State {
    /// The table alone, or all of them.
    pub(crate) pane: Option<Kind>,
    shown: [Shown; Kind::ALL.len()],
    pub(crate) filter: String,
    pub(crate) is_typing: bool,
    pub(crate) is_paused: bool,
    pub(crate) overlay: Overlay,
    /// Lines of the overlay that are above what is seen.
    pub(crate) scroll: usize,
    pub(crate) interval: Duration,
    /// Whether there is a cluster to show.
    pub(crate) has_cluster: bool,
}

/// What is to happen besides drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Nothing,
    Quit,
    /// Ask at another pace.
    Pace,
}

impl State {
    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            pane: None,
            shown: [Shown::default(); Kind::ALL.len()],
            filter: String::new(),
            is_typing: false,
            is_paused: false,
            overlay: Overlay::None,
            scroll: 0,
            interval,
            has_cluster: false,
        }
    }

    pub(crate) fn shown(&self, kind: Kind) -> Shown {
        self.shown[kind as usize]
    }

    fn shown_mut(&mut self, kind: Kind) -> &mut Shown {
        &mut self.shown[kind as usize]
    }

    /// The tables that there are, in order.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = Kind> + use<> {
        let has_cluster = self.has_cluster;
        Kind::ALL.into_iter().filter(move |kind| has_cluster || *kind != Kind::Processes)
    }

    /// Takes a key; `rows` and `columns` are how many the pane's table has.
    pub(crate) fn press(&mut self, key: KeyEvent, rows: usize, columns: usize) -> Wish {
        if key.kind == KeyEventKind::Release {
            return Wish::Nothing;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if key.code == KeyCode::Char('c') { Wish::Quit } else { Wish::Nothing };
        }
        if self.is_typing {
            self.type_filter(key.code);
            return Wish::Nothing;
        }
        if self.overlay != Overlay::None && self.press_over(key.code) {
            return Wish::Nothing;
        }
        match key.code {
            KeyCode::Char('q') => return Wish::Quit,
            KeyCode::Char('+') | KeyCode::Char('=') => return self.change_pace(true),
            KeyCode::Char('-') => return self.change_pace(false),
            KeyCode::Char('p') | KeyCode::Char(' ') => self.is_paused = !self.is_paused,
            KeyCode::Char('?') | KeyCode::Char('h') | KeyCode::F(1) => self.open(Overlay::Help),
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Esc => self.leave(),
            KeyCode::Tab | KeyCode::Right => self.step(true),
            KeyCode::BackTab | KeyCode::Left => self.step(false),
            KeyCode::Char(digit @ '1'..='6') => self.choose(digit),
            code => self.press_in_table(code, rows, columns),
        }
        Wish::Nothing
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.is_typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(letter) if self.filter.len() < FILTER_MAX => self.filter.push(letter),
            _ => {}
        }
        self.select_first();
    }

    fn select_first(&mut self) {
        self.shown.iter_mut().for_each(|shown| shown.selected = 0);
    }

    /// Keys of what is laid over; whether it was one.
    fn press_over(&mut self, code: KeyCode) -> bool {
        match code {
            KeyCode::Down | KeyCode::Char('j') => self.scroll += 1,
            KeyCode::Up | KeyCode::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::PageDown => self.scroll += PAGE,
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(PAGE),
            KeyCode::Esc | KeyCode::Enter | KeyCode::Char('q' | '?' | 'h') => self.overlay = Overlay::None,
            _ => return false,
        }
        true
    }

    fn open(&mut self, overlay: Overlay) {
        self.overlay = overlay;
        self.scroll = 0;
    }

    /// Takes back the last of filter and pane.
    fn leave(&mut self) {
        if self.filter.is_empty() {
            self.pane = None;
        } else {
            self.filter.clear();
            self.select_first();
        }
    }

    fn step(&mut self, is_forward: bool) {
        let panes: Vec<_> = [None].into_iter().chain(self.kinds().map(Some)).collect();
        let at = panes.iter().position(|pane| *pane == self.pane).unwrap_or_default();
        let step = if is_forward { 1 } else { panes.len() - 1 };
        self.pane = panes[(at + step) % panes.len()];
    }

    fn choose(&mut self, digit: char) {
        let index = digit as usize - '1' as usize;
        match index.checked_sub(1) {
            None => self.pane = None,
            Some(index) => self.pane = self.kinds().nth(index).or(self.pane),
        }
    }

    fn press_in_table(&mut self, code: KeyCode, rows: usize, columns: usize) {
        let Some(kind) = self.pane else { return };
        let shown = self.shown_mut(kind);
        let last = rows.saturating_sub(1);
        match code {
            KeyCode::Down | KeyCode::Char('j') => shown.selected = (shown.selected + 1).min(last),
            KeyCode::Up | KeyCode::Char('k') => shown.selected = shown.selected.min(last).saturating_sub(1),
            KeyCode::PageDown => shown.selected = (shown.selected + PAGE).min(last),
            KeyCode::PageUp => shown.selected = shown.selected.saturating_sub(PAGE),
            KeyCode::Home | KeyCode::Char('g') => shown.selected = 0,
            KeyCode::End | KeyCode::Char('G') => shown.selected = last,
            KeyCode::Char('s') => {
                // After the last column comes the order of the configuration.
                let next = shown.sort.column.map_or(0, |column| column + 1);
                shown.sort = Sort { column: Some(next).filter(|next| *next < columns), ..shown.sort };
            }
            KeyCode::Char('S') => {
                let last = columns.checked_sub(1);
                let previous = shown.sort.column.map_or(last, |column| column.checked_sub(1));
                shown.sort = Sort { column: previous, ..shown.sort };
            }
            KeyCode::Char('r') => shown.sort.is_reverse = !shown.sort.is_reverse,
            KeyCode::Enter if rows > 0 && kind != Kind::Processes => self.open(Overlay::Details),
            _ => {}
        }
    }

    fn change_pace(&mut self, is_slower: bool) -> Wish {
        let slower = PACES.into_iter().find(|pace| *pace > self.interval);
        let faster = PACES.into_iter().rev().find(|pace| *pace < self.interval);
        match if is_slower { slower } else { faster } {
            Some(pace) => {
                self.interval = pace;
                Wish::Pace
            }
            None => Wish::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State::new(Duration::from_secs(1))
    }

    fn press(state: &mut State, codes: impl IntoIterator<Item = KeyCode>) -> Wish {
        let press = |code| state.press(KeyEvent::new(code, KeyModifiers::NONE), 3, 4);
        codes.into_iter().map(press).last().expect("a key")
    }

    fn letters(text: &str) -> impl Iterator<Item = KeyCode> {
        text.chars().map(KeyCode::Char)
    }

    #[test]
    fn panes_are_a_ring_and_have_numbers() {
        let mut state = state();
        press(&mut state, [KeyCode::Tab]);
        assert_eq!(state.pane, Some(Kind::Cores));
        press(&mut state, [KeyCode::BackTab, KeyCode::BackTab]);
        assert_eq!(state.pane, Some(Kind::Endpoints), "there is no cluster");
        press(&mut state, letters("6"));
        assert_eq!(state.pane, Some(Kind::Endpoints));
        state.has_cluster = true;
        press(&mut state, letters("6"));
        assert_eq!(state.pane, Some(Kind::Processes));
        press(&mut state, letters("1"));
        assert_eq!(state.pane, None);
    }

    #[test]
    fn a_row_is_selected_within_those_that_there_are() {
        let mut state = state();
        press(&mut state, letters("4jjjjj"));
        assert_eq!(state.shown(Kind::Channels).selected, 2);
        press(&mut state, letters("k"));
        assert_eq!(state.shown(Kind::Channels).selected, 1);
        press(&mut state, [KeyCode::Enter]);
        assert_eq!(state.overlay, Overlay::Details);
        press(&mut state, letters("jjk"));
        assert_eq!((state.scroll, state.shown(Kind::Channels).selected), (1, 1), "what is on top scrolls");
        assert_eq!(press(&mut state, letters("q")), Wish::Nothing, "it closes what is on top");
        assert_eq!(state.overlay, Overlay::None);
        assert_eq!(press(&mut state, letters("q")), Wish::Quit);
    }

    #[test]
    fn the_order_goes_from_column_to_column_and_back_to_that_of_the_configuration() {
        let mut state = state();
        let column = |state: &State| state.shown(Kind::Cores).sort.column;
        press(&mut state, letters("2s"));
        assert_eq!(column(&state), Some(0));
        press(&mut state, letters("sss"));
        assert_eq!(column(&state), Some(3));
        press(&mut state, letters("s"));
        assert_eq!(column(&state), None);
        press(&mut state, letters("Sr"));
        assert_eq!((column(&state), state.shown(Kind::Cores).sort.is_reverse), (Some(3), true));
    }

    #[test]
    fn a_filter_is_typed_kept_and_taken_back() {
        let mut state = state();
        press(&mut state, letters("/qap"));
        press(&mut state, [KeyCode::Backspace, KeyCode::Enter]);
        assert_eq!((state.filter.as_str(), state.is_typing), ("qa", false));
        press(&mut state, [KeyCode::Esc]);
        assert_eq!(state.filter, "");
        press(&mut state, letters("/x"));
        press(&mut state, [KeyCode::Esc]);
        assert_eq!((state.filter.as_str(), state.is_typing), ("", false));
        press(&mut state, letters("/").chain(letters(&"y".repeat(1_000))));
        assert_eq!(state.filter.len(), FILTER_MAX);
    }

    #[test]
    fn the_pace_has_bounds() {
        let mut state = state();
        assert_eq!(press(&mut state, letters("+")), Wish::Pace);
        assert_eq!(state.interval, Duration::from_secs(2));
        press(&mut state, letters("-----"));
        assert_eq!(state.interval, PACES[0]);
        assert_eq!(press(&mut state, letters("-")), Wish::Nothing);
        press(&mut state, letters("++++++++++"));
        assert_eq!(state.interval, Duration::from_secs(60));
    }

    #[test]
    fn control_c_always_quits() {
        let mut state = state();
        press(&mut state, letters("/"));
        let key = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(state.press(key, 0, 0), Wish::Quit);
    }
}
