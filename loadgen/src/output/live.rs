//! What does a run look like on a terminal while it goes on?
//!
//! Draws what it is given and nothing else: it reads no clock, no counter and no key.

use std::collections::VecDeque;
use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, Gauge, GraphType, Paragraph};

use crate::output::watch::{Sample, Sums};
use crate::protocol::Unit;
use crate::units::{show_bytes, show_count, show_duration, show_nanoseconds};

/// What does not change while a run goes on.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) url: String,
    /// What is counted.
    pub(crate) unit: Unit,
    /// How load is put on it, in words.
    pub(crate) load: String,
    /// When sending ends, since its start.
    pub(crate) duration: Option<Duration>,
    /// After how many requests it ends.
    pub(crate) requests_max: Option<u64>,
    /// Whether the terminal is to be used in colours.
    pub(crate) has_colors: bool,
}

/// What is drawn.
pub(crate) struct Picture<'a> {
    pub(crate) setting: &'a Setting,
    pub(crate) elapsed: Duration,
    pub(crate) samples: &'a VecDeque<Sample>,
    pub(crate) sums: &'a Sums,
}

/// Lines of the figures below the charts, with their frame.
const FIGURES_HEIGHT: u16 = 8;
/// A lower terminal has the figures alone.
const CHARTS_HEIGHT_MIN: u16 = 7;

/// Draws all of it, as much as there is room for.
pub(crate) fn draw(frame: &mut Frame<'_>, picture: &Picture<'_>) {
    let [head, bar, charts, figures, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(FIGURES_HEIGHT),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    draw_head(frame, head, picture);
    draw_bar(frame, bar, picture);
    if charts.height >= CHARTS_HEIGHT_MIN {
        if picture.has_latencies() {
            let [rate, latency] =
                Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(charts);
            draw_rate(frame, rate, picture);
            draw_latency(frame, latency, picture);
        } else {
            draw_rate(frame, charts, picture);
        }
    }
    let columns = Layout::horizontal([5, 4, 5, 4].map(Constraint::Fill)).areas::<4>(figures);
    for ((title, lines), area) in figures_of(picture).into_iter().zip(columns) {
        frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(title)), area);
    }
    frame.render_widget(
        Paragraph::new("q or Ctrl-C ends the run and prints its summary").style(faint()),
        foot,
    );
}

fn faint() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

impl Picture<'_> {
    fn style(&self, color: Color) -> Style {
        if self.setting.has_colors { Style::new().fg(color) } else { Style::new() }
    }

    /// Nothing about a stream has a latency.
    fn has_latencies(&self) -> bool {
        self.setting.unit != Unit::Streams
    }

    /// What is counted, per second.
    fn show_rate(&self, rate: f64) -> String {
        match self.setting.unit {
            Unit::Streams => show_bytes(rate),
            Unit::Requests | Unit::Messages | Unit::Connections => show_count(rate.round() as u64),
        }
    }

    /// The part of the run that is over, as far as it is known.
    fn share(&self) -> Option<f64> {
        let of_time = self.setting.duration.map(|all| self.elapsed.as_secs_f64() / all.as_secs_f64());
        let of_requests = self.setting.requests_max.map(|all| self.sums.sent as f64 / all as f64);
        // Whichever ends it first.
        of_time.into_iter().chain(of_requests).reduce(f64::max).map(|share| share.clamp(0.0, 1.0))
    }
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, picture: &Picture<'_>) {
    let url = Span::styled(picture.setting.url.as_str(), Style::new().add_modifier(Modifier::BOLD));
    let lines = vec![Line::from(url), Line::styled(picture.setting.load.as_str(), faint())];
    frame.render_widget(Paragraph::new(lines), area);
}

fn draw_bar(frame: &mut Frame<'_>, area: Rect, picture: &Picture<'_>) {
    let whole = |time: Duration| show_duration(Duration::from_secs(time.as_secs()));
    let label = match (picture.setting.duration, picture.setting.requests_max) {
        (Some(all), _) if picture.elapsed >= all => format!("{}: waiting for the last answers", whole(all)),
        (Some(all), _) => format!("{} of {}", whole(picture.elapsed), whole(all)),
        (None, Some(all)) => {
            format!("{}, {} of {}", whole(picture.elapsed), show_count(picture.sums.sent), show_count(all))
        }
        (None, None) => whole(picture.elapsed),
    };
    match picture.share() {
        Some(share) => {
            let gauge = Gauge::default().ratio(share).label(label).use_unicode(true);
            frame.render_widget(gauge.gauge_style(picture.style(Color::Blue)), area);
        }
        None => frame.render_widget(Paragraph::new(label), area),
    }
}

/// The seconds that a chart spans: all that is remembered, and at least a few.
fn span(samples: &VecDeque<Sample>) -> [f64; 2] {
    let ends = samples.front().zip(samples.back());
    let [first, last] = ends.map_or([0.0, 0.0], |(first, last)| [first.at_s, last.at_s]);
    [first, last.max(first + 5.0)]
}

fn points(samples: &VecDeque<Sample>, of: impl Fn(&Sample) -> Option<f64>) -> Vec<(f64, f64)> {
    samples.iter().filter_map(|sample| of(sample).map(|value| (sample.at_s, value))).collect()
}

fn time_axis(samples: &VecDeque<Sample>) -> Axis<'static> {
    let [first, last] = span(samples);
    Axis::default().bounds([first, last]).labels([format!("{first:.0} s"), format!("{last:.0} s")])
}

fn draw_rate(frame: &mut Frame<'_>, area: Rect, picture: &Picture<'_>) {
    let rates = points(picture.samples, |sample| Some(sample.rate));
    // A handful of errors would be nothing beside bytes; the title says how many they are.
    let errors = points(picture.samples, |sample| picture.has_latencies().then_some(sample.errors));
    let highest = rates.iter().chain(&errors).map(|(_, rate)| *rate).fold(1.0, f64::max);
    let current = picture.samples.back();
    let title = format!(
        " {} {} /s, errors {} /s ",
        if picture.has_latencies() { "completed" } else { "bytes" },
        picture.show_rate(current.map_or(0.0, |sample| sample.rate)),
        show_count(current.map_or(0, |sample| sample.errors.round() as u64))
    );
    let sets = vec![
        curve("completed", &rates, picture.style(Color::Cyan)),
        curve("errors", &errors, picture.style(Color::Red)),
    ];
    let axis = Axis::default().bounds([0.0, highest * 1.05]);
    let axis = axis.labels(["0".to_owned(), picture.show_rate(highest * 1.05)]);
    let chart = Chart::new(sets).x_axis(time_axis(picture.samples)).y_axis(axis).legend_position(None);
    frame.render_widget(chart.block(Block::bordered().title(title)), area);
}

/// On a logarithmic axis, as a stall is a thousand times a usual answer.
fn draw_latency(frame: &mut Frame<'_>, area: Rect, picture: &Picture<'_>) {
    let log = |value: Option<u64>| value.map(|value| (value.max(1) as f64).log10());
    let p50 = points(picture.samples, |sample| log(sample.p50));
    let p99 = points(picture.samples, |sample| log(sample.p99));
    let lowest = p50.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
    let highest = p99.iter().map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max);
    let [low, high] =
        if p50.is_empty() { [3.0, 9.0] } else { [lowest.floor(), highest.ceil().max(lowest.floor() + 1.0)] };
    let labels =
        [low, high].map(|power| show_duration(Duration::from_nanos(10_f64.powf(power).round() as u64)));
    let current = picture.samples.back();
    let show = |value: Option<u64>| value.map_or("-".into(), |value| show_nanoseconds(value as f64));
    let title = Line::from(vec![
        Span::raw(" latency "),
        Span::styled(
            format!("p50 {}", show(current.and_then(|sample| sample.p50))),
            picture.style(Color::Green),
        ),
        Span::raw(", "),
        Span::styled(
            format!("p99 {} ", show(current.and_then(|sample| sample.p99))),
            picture.style(Color::Yellow),
        ),
    ]);
    let sets = vec![
        curve("p99", &p99, picture.style(Color::Yellow)),
        curve("p50", &p50, picture.style(Color::Green)),
    ];
    let axis = Axis::default().bounds([low, high]).labels(labels);
    let chart = Chart::new(sets).x_axis(time_axis(picture.samples)).y_axis(axis).legend_position(None);
    frame.render_widget(chart.block(Block::bordered().title(title)), area);
}

fn curve<'a>(name: &'static str, points: &'a [(f64, f64)], style: Style) -> Dataset<'a> {
    Dataset::default()
        .name(name)
        .marker(Marker::Braille)
        .graph_type(GraphType::Line)
        .style(style)
        .data(points)
}

/// Name and lines of the four boxes of figures.
fn figures_of<'a>(picture: &Picture<'_>) -> [(&'static str, Vec<Line<'a>>); 4] {
    let sums = picture.sums;
    let row = |name: &str, value: String| Line::from(format!("{name:<10} {value}"));
    let received = row("received", show_bytes(sums.bytes_received as f64));
    let mut requests = vec![
        row("sent", show_count(sums.sent)),
        row("completed", show_count(sums.completed)),
        row("in flight", show_count(sums.sent.saturating_sub(sums.completed + sums.errors))),
        received.clone(),
        row("opened", show_count(sums.connects)),
        row("reopened", show_count(sums.reconnects)),
    ];
    let names = ["p50", "p90", "p99", "p99.9", "max"].into_iter().zip(sums.latency);
    let latency =
        names.map(|(name, value)| Line::from(format!("{name:<6} {}", show_nanoseconds(value as f64))));
    let second = if picture.has_latencies() {
        (" latency so far ", latency.collect())
    } else {
        requests.retain(|line| *line != received);
        (" bytes so far ", vec![row("sent", show_bytes(sums.bytes_sent as f64)), received])
    };
    let title = match picture.setting.unit {
        Unit::Requests => " requests ",
        Unit::Messages => " messages ",
        Unit::Connections => " connections ",
        Unit::Streams => " streams ",
    };
    let mut answers: Vec<Line<'a>> = sums
        .statuses
        .iter()
        .map(|(status, count)| Line::from(format!("{status} {}", show_count(*count))))
        .collect();
    let wrong = |(kind, count): &(&str, u64)| {
        Line::styled(format!("{kind} {}", show_count(*count)), picture.style(Color::Red))
    };
    answers.extend(sums.by_kind.iter().map(wrong));
    if sums.by_kind.is_empty() {
        answers.push(Line::styled("no errors", faint()));
    }
    let cpu = picture.samples.back().map_or(0.0, |sample| sample.cpu_share);
    let mut generator = vec![
        row("CPU", format!("{:.0} %", cpu * 100.0)),
        row("sent late", show_count(sums.late_sends)),
        row("latest", show_nanoseconds(sums.late_max as f64)),
    ];
    generator.extend(sums.behind.map(|behind| row("behind", show_count(behind))));
    [(title, requests), second, (" answers ", answers), (" generator ", generator)]
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn sample(index: u32) -> Sample {
        Sample {
            at_s: f64::from(index) / 2.0,
            rate: 1_000.0 + 50.0 * f64::from(index % 5),
            p50: (index != 7).then_some(200_000),
            p99: (index != 7).then_some(if index == 12 { 300_000_000 } else { 2_000_000 }),
            errors: if index == 12 { 40.0 } else { 0.0 },
            cpu_share: 0.42,
        }
    }

    fn shown(width: u16, height: u16, setting: &Setting, samples: u32, sums: &Sums) -> Terminal<TestBackend> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal in memory");
        let samples = (1..=samples).map(sample).collect();
        let picture = Picture { setting, elapsed: Duration::from_millis(12_345), samples: &samples, sums };
        terminal.draw(|frame| draw(frame, &picture)).expect("drawn");
        terminal
    }

    fn setting() -> Setting {
        Setting {
            url: "http://127.0.0.1:8080/patients".into(),
            unit: Unit::Requests,
            load: "64 connections, 2 threads, open loop at 1000 /s (constant)".into(),
            duration: Some(Duration::from_secs(30)),
            requests_max: None,
            has_colors: true,
        }
    }

    fn sums() -> Sums {
        Sums {
            sent: 12_345,
            completed: 12_300,
            errors: 40,
            bytes_sent: 1_500_000,
            bytes_received: 3_000_000,
            connects: 104,
            reconnects: 0,
            late_sends: 3,
            late_max: 4_200_000,
            behind: Some(17),
            latency: [200_000, 400_000, 2_000_000, 150_000_000, 300_000_000],
            by_kind: vec![("reset", 30), ("timeout", 10)],
            statuses: vec![(200, 12_300)],
        }
    }

    #[test]
    fn a_run_is_seen_at_a_glance() {
        insta::assert_snapshot!(shown(100, 30, &setting(), 24, &sums()).backend());
    }

    #[test]
    fn before_the_first_answer_nothing_is_made_up() {
        let setting = Setting { duration: None, requests_max: Some(1_000_000), ..setting() };
        insta::assert_snapshot!(shown(80, 24, &setting, 0, &Sums::default()).backend());
    }

    #[test]
    fn a_small_terminal_has_the_figures() {
        insta::assert_snapshot!(shown(60, 14, &setting(), 24, &sums()).backend());
    }

    #[test]
    fn streams_have_bytes_where_others_have_latencies() {
        let (url, load) = ("tcp://127.0.0.1:9000".into(), "4 connections, 2 threads, closed loop".into());
        let setting = Setting { url, load, unit: Unit::Streams, ..setting() };
        let sums =
            Sums { latency: [0; 5], statuses: Vec::new(), by_kind: Vec::new(), behind: None, ..sums() };
        insta::assert_snapshot!(shown(100, 24, &setting, 24, &sums).backend());
    }

    #[test]
    fn any_size_can_be_drawn() {
        for (width, height) in [(1, 1), (3, 40), (200, 2), (12, 9), (300, 100)] {
            let _ = shown(width, height, &setting(), 24, &sums());
        }
    }

    #[test]
    fn no_color_is_used_where_none_is_wanted() {
        let is_colored = |terminal: Terminal<TestBackend>| {
            terminal.backend().buffer().content().iter().any(|cell| cell.fg != Color::Reset)
        };
        assert!(is_colored(shown(100, 30, &setting(), 24, &sums())));
        let plain = Setting { has_colors: false, ..setting() };
        assert!(!is_colored(shown(100, 30, &plain, 24, &sums())));
    }
}
