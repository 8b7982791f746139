//! What does `engine top` look like? A picture of the process, the operator's wishes and a terminal's size, in lines of text.
//!
//! Draws what it is given and nothing else: it reads no clock, no key and no counter.

use std::collections::VecDeque;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span as Text};
use ratatui::widgets::{Block, Clear, Paragraph};

use super::figure::{nanos_text, rate_text};
use super::model::Kind;
use super::state::{Overlay, State};
use super::summary::{Piece, Summary};
use super::table::{Fitted, Row, Sort, Table, Tone, share};

/// Seconds that curves remember at most.
pub(crate) const HISTORY_MAX: usize = 240;
/// A terminal as wide as this has curves.
const CURVES_WIDTH_MIN: u16 = 100;
/// Lines of the summary: the process, its traffic, its answers, and what should be looked at.
const SUMMARY_LINES: u16 = 3;
/// Alerts that have a line of their own.
const ALERTS_MAX: usize = 4;

/// What is drawn.
#[derive(Debug)]
pub(crate) struct Picture<'p> {
    pub(crate) admin: &'p str,
    pub(crate) summary: &'p Summary,
    pub(crate) tables: &'p [(Kind, Table)],
    /// Every number of the selected row, and what it is of.
    pub(crate) details: Option<(String, Table)>,
    pub(crate) history: &'p VecDeque<(Option<f64>, Option<u64>)>,
    /// Since when nobody answers, in words, and why.
    pub(crate) silence: Option<(String, String)>,
    /// When what is shown was counted.
    pub(crate) clock: &'p str,
    pub(crate) has_colors: bool,
}

/// Draws all of it, as much as there is room for.
pub(crate) fn draw(frame: &mut Frame<'_>, picture: &Picture<'_>, state: &State) {
    let alerts = alert_lines(picture);
    let [tabs, summary, warnings, tables, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(SUMMARY_LINES),
        Constraint::Length(u16::try_from(alerts.len()).unwrap_or(0)),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(tab_line(picture, state)), tabs);
    draw_summary(frame, summary, picture);
    frame.render_widget(Paragraph::new(alerts), warnings);
    draw_tables(frame, tables, picture, state);
    frame.render_widget(Paragraph::new(foot_line(picture, state)), foot);
    match state.overlay {
        Overlay::None => {}
        Overlay::Help => draw_over(frame, " help ", help(), state),
        Overlay::Details => {
            if let Some((title, table)) = &picture.details {
                let lines = detail_lines(picture, table, frame.area().width);
                draw_over(frame, &format!(" {title} "), lines, state);
            }
        }
    }
}

impl Picture<'_> {
    fn style(&self, tone: Tone) -> Style {
        let color = |color| if self.has_colors { Style::new().fg(color) } else { Style::new() };
        match tone {
            Tone::Plain => Style::new(),
            Tone::Faint => Style::new().add_modifier(Modifier::DIM),
            Tone::Good => color(Color::Green),
            Tone::Warning => color(Color::Yellow),
            // Seen without colours too.
            Tone::Bad => color(Color::Red).add_modifier(Modifier::BOLD),
        }
    }

    fn line(&self, pieces: &[Piece]) -> Line<'static> {
        let texts = pieces.iter().map(|(text, tone)| Text::styled(text.clone(), self.style(*tone)));
        Line::from(texts.collect::<Vec<_>>())
    }
}

fn tab_line(picture: &Picture<'_>, state: &State) -> Line<'static> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut texts = vec![Text::styled("corelane ", bold)];
    let panes = [None].into_iter().chain(state.kinds().map(Some));
    for (number, pane) in (1..).zip(panes) {
        let style = if pane == state.pane { bold.add_modifier(Modifier::REVERSED) } else { Style::new() };
        texts.push(Text::styled(format!(" {number} {} ", pane.map_or("all", Kind::title)), style));
    }
    let pace = if state.is_paused { "PAUSED".to_owned() } else { format!("/{:?}", state.interval) };
    let tone = if state.is_paused { Tone::Warning } else { Tone::Faint };
    texts.push(Text::styled(format!("  {} {pace}", picture.clock), picture.style(tone)));
    texts.push(Text::styled(format!("  {}", picture.admin), picture.style(Tone::Faint)));
    Line::from(texts)
}

fn draw_summary(frame: &mut Frame<'_>, area: Rect, picture: &Picture<'_>) {
    let lines = [&picture.summary.process, &picture.summary.traffic, &picture.summary.answers];
    let lines: Vec<_> = lines.iter().map(|pieces| picture.line(pieces)).collect();
    let widest = lines.iter().map(Line::width).max().unwrap_or_default();
    frame.render_widget(Paragraph::new(lines), area);
    let begin = u16::try_from(widest + 2).unwrap_or(u16::MAX);
    if area.width < CURVES_WIDTH_MIN || begin + 24 > area.width {
        return;
    }
    let room = usize::from(area.width - begin);
    let rates = picture.history.iter().map(|(rate, _)| *rate);
    let tails = picture.history.iter().map(|(_, p99)| p99.map(|nanos| nanos as f64));
    let curves = [
        curve_line("req/s", rates, room, rate_text),
        curve_line("p99", tails, room, |nanos| nanos_text(nanos as u64)),
    ];
    for (row, line) in (1..).zip(curves) {
        let area = Rect { x: area.x + begin, y: area.y + row, width: area.width - begin, height: 1 };
        frame.render_widget(Paragraph::new(line).style(picture.style(Tone::Faint)), area);
    }
}

/// A curve of the last values, up to the highest of them, which is named.
fn curve_line(
    label: &str,
    values: impl Iterator<Item = Option<f64>>,
    room: usize,
    show: impl Fn(f64) -> String,
) -> Line<'static> {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let values: Vec<_> = values.collect();
    let highest = values.iter().flatten().copied().fold(0.0, f64::max);
    let end = if highest > 0.0 { format!(" ≤{}", show(highest)) } else { String::new() };
    let width = room.saturating_sub(6 + end.chars().count());
    let seen = &values[values.len().saturating_sub(width)..];
    let bar = |value: &Option<f64>| match value {
        Some(value) if highest > 0.0 => BARS[((value / highest * 7.0).round() as usize).min(7)],
        Some(_) => BARS[0],
        None => ' ',
    };
    let bars: String = seen.iter().map(bar).collect();
    Line::from(format!("{label:<6}{bars:>width$}{end}"))
}

fn alert_lines(picture: &Picture<'_>) -> Vec<Line<'static>> {
    let silence = picture.silence.iter().map(|(since, cause)| {
        let text = format!("no answer since {since}, asking on: {cause}");
        picture.line(&[(text, Tone::Bad)])
    });
    let alerts = &picture.summary.alerts;
    let shown =
        alerts.iter().take(ALERTS_MAX).map(|(text, tone)| picture.line(&[(format!("! {text}"), *tone)]));
    let more = alerts.len().saturating_sub(ALERTS_MAX);
    let more = (more > 0).then(|| picture.line(&[(format!("! and {more} more"), Tone::Warning)]));
    silence.chain(shown).chain(more).collect()
}

fn draw_tables(frame: &mut Frame<'_>, area: Rect, picture: &Picture<'_>, state: &State) {
    match state.pane {
        Some(kind) => {
            if let Some((_, table)) = picture.tables.iter().find(|(other, _)| *other == kind) {
                draw_table(frame, area, picture, state, (kind, table));
            }
        }
        None => {
            let needs: Vec<usize> = picture
                .tables
                .iter()
                .map(|(kind, table)| match table.chosen(&state.filter, state.shown(*kind).sort).len() {
                    0 => 0,
                    rows => rows + 1,
                })
                .collect();
            let shares = share(&needs, usize::from(area.height));
            // Where everything has room, tables stand apart.
            let filled = needs.iter().filter(|need| **need > 0).count();
            let has_gaps = needs.iter().sum::<usize>() + filled <= usize::from(area.height);
            let mut top = area.y;
            for ((kind, table), lines) in picture.tables.iter().zip(shares).filter(|(_, lines)| *lines > 0) {
                let height = u16::try_from(lines).unwrap_or(u16::MAX);
                draw_table(frame, Rect { y: top, height, ..area }, picture, state, (*kind, table));
                top += height + u16::from(has_gaps);
            }
        }
    }
}

/// A header line, and as many rows as there is room for, the selected one among them.
fn draw_table(
    frame: &mut Frame<'_>,
    area: Rect,
    picture: &Picture<'_>,
    state: &State,
    (kind, table): (Kind, &Table),
) {
    if area.height == 0 {
        return;
    }
    let shown = state.shown(kind);
    let rows = table.chosen(&state.filter, shown.sort);
    let fitted = table.fit(&rows, usize::from(area.width));
    let room = usize::from(area.height - 1);
    let is_alone = state.pane.is_some();
    let selected = shown.selected.min(rows.len().saturating_sub(1));
    let first = if is_alone { (selected + 1).saturating_sub(room) } else { 0 };
    let mut lines = vec![head_line(&fitted, shown.sort)];
    if !is_alone && rows.len() > room && room > 0 {
        // What is not seen is said, where the last row would be.
        let hidden = rows.len() - room + 1;
        lines.extend(body(picture, &fitted, 0, room - 1, None));
        lines.push(picture.line(&[(format!("  and {hidden} more {}", kind.title()), Tone::Faint)]));
    } else {
        lines.extend(body(picture, &fitted, first, room, is_alone.then_some(selected)));
        if rows.is_empty() && is_alone {
            let text = if state.filter.is_empty() { "none" } else { "none that match" };
            lines.push(picture.line(&[(text.to_owned(), Tone::Faint)]));
        }
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn head_line(fitted: &Fitted, sort: Sort) -> Line<'static> {
    let plain = Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED);
    let mut texts = Vec::new();
    for (title, column) in &fitted.head {
        if !texts.is_empty() {
            texts.push(Text::raw("  "));
        }
        let is_sorted = column.is_some() && *column == sort.column;
        let style = if is_sorted { plain.add_modifier(Modifier::REVERSED) } else { plain };
        texts.push(Text::styled(title.clone(), style));
    }
    Line::from(texts)
}

fn body(
    picture: &Picture<'_>,
    fitted: &Fitted,
    first: usize,
    room: usize,
    selected: Option<usize>,
) -> Vec<Line<'static>> {
    let line = |(index, cells): (usize, &Vec<(String, Tone)>)| {
        let mut texts = Vec::new();
        for (text, tone) in cells {
            if !texts.is_empty() {
                texts.push(Text::raw("  "));
            }
            texts.push(Text::styled(text.clone(), picture.style(*tone)));
        }
        let style = if selected == Some(index) { Modifier::REVERSED } else { Modifier::empty() };
        Line::from(texts).style(Style::new().add_modifier(style))
    };
    fitted.lines.iter().enumerate().skip(first).take(room).map(line).collect()
}

fn foot_line(picture: &Picture<'_>, state: &State) -> Line<'static> {
    if state.is_typing {
        return Line::from(format!("/{}▏  Enter keeps the filter, Esc drops it", state.filter));
    }
    let filter = match state.filter.as_str() {
        "" => String::new(),
        filter => format!("filter \"{filter}\" (Esc drops it)  "),
    };
    let keys = match state.pane {
        None => "Tab 1-6 panes  / filter  p pause  + - pace  ? help  q quit",
        Some(_) => "Tab panes  ↑↓ row  Enter all of it  s S r order  / filter  p pause  ? help  q quit",
    };
    picture.line(&[(filter, Tone::Warning), (keys.to_owned(), Tone::Faint)])
}

fn detail_lines(picture: &Picture<'_>, table: &Table, width: u16) -> Vec<Line<'static>> {
    let rows: Vec<&Row> = table.rows.iter().collect();
    let fitted = table.fit(&rows, usize::from(width.saturating_sub(4)));
    let head = head_line(&fitted, Sort::default());
    [head].into_iter().chain(body(picture, &fitted, 0, usize::MAX, None)).collect()
}

/// A box over the tables, as large as its lines.
fn draw_over(frame: &mut Frame<'_>, title: &str, lines: Vec<Line<'static>>, state: &State) {
    let all = frame.area();
    let size =
        |length: usize, room: u16| u16::try_from(length).unwrap_or(u16::MAX).saturating_add(2).min(room);
    let width = lines.iter().map(Line::width).chain([title.chars().count()]).max().unwrap_or_default();
    let (width, height) = (size(width + 2, all.width), size(lines.len(), all.height));
    let area = Rect { x: (all.width - width) / 2, y: (all.height - height) / 2, width, height };
    // Never past the last line.
    let scroll = state.scroll.min(lines.len().saturating_sub(usize::from(height.saturating_sub(2))));
    let block = Block::bordered().title(title.to_owned());
    let text = Paragraph::new(lines).block(block.padding(ratatui::widgets::Padding::horizontal(1)));
    frame.render_widget(Clear, area);
    frame.render_widget(text.scroll((u16::try_from(scroll).unwrap_or(u16::MAX), 0)), area);
}

fn help() -> Vec<Line<'static>> {
    const TEXT: &str = "\
Tab, ←, →, 1-6    all, or one table: cores, listeners, channels, endpoints, cluster
↑ ↓ PgUp PgDn     another row
Enter             every counter of the row: so far, and a second
s, S              order by the next, the previous column; after the last, as configured
r                 the other way round
/                 only rows in which a word has these letters; Esc drops the filter
p, space          pause: what is shown stays
+, -              ask less, more often
q, Ctrl-C         quit

busy       time of the core's thread on its CPU
open       exchanges in progress; ≈open of a channel: requests/s × mean latency
p50 … max  latency of the last 10 s, from the request's head to the answer's last byte
in/s out/s bytes from and to clients
no buffer  reads put off because every buffer was in use
handed     connections given to a less loaded core, when accepted
reuse      requests that went over a connection used before
closed     idle connections that the endpoint closed
·          not known yet: a rate takes two moments

/s is from one look to the next, by the clock of the process. Totals leave internal
listeners out. docs/top.md says more.";
    TEXT.lines().map(Line::from).collect()
}
