//! What does a running engine do just now? Its admin listener asked again and again, and what came of it since, in tables.
//!
//! Never more than three questions at a time, and never one while another waits: looking on is to cost next to nothing.

mod figure;
mod sample;

mod table;

mod model;
mod summary;

mod state;

mod screen;
mod view;

use std::collections::VecDeque;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, Thread};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use signal_hook::consts::{SIGHUP, SIGTERM};

use self::model::{Kind, details};
use self::sample::{Sample, Span};
use self::screen::{Input, Screen};
use self::state::{Overlay, State, Wish};
use self::summary::Summary;
use self::table::{Sort, Table};
use self::view::{HISTORY_MAX, Picture};
use crate::cli::TopArgs;
use crate::client::AdminClient;
use crate::print;

/// How long a key may wait for the next look at the answers, and the other way round.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long the end may take once a signal has asked for it.
const END_GRACE: Duration = Duration::from_millis(500);

/// `engine top`.
pub(crate) fn run(args: &TopArgs) -> anyhow::Result<ExitCode> {
    // An address that is wrong is said at once.
    let first = Sample::ask(&AdminClient::new(&args.admin))?;
    if args.once || !Screen::is_possible() {
        return once(args, &first);
    }
    // Before the terminal is taken: it has to be given back, whoever wants the end.
    let is_end = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&is_end)).context("cannot listen to signals")?;
    }
    end_in_time(Arc::clone(&is_end))?;
    let mut state = State::new(args.interval);
    let asker = Asker::start(&args.admin, args.interval)?;
    let mut watch = Watch::new(&args.admin, first);
    let mut screen = Screen::enter().context("cannot take the terminal over")?;
    let mut is_stale = true;
    while !is_end.load(Ordering::Relaxed) {
        for answer in asker.answers.try_iter() {
            watch.take(answer, state.is_paused);
            is_stale = true;
        }
        state.has_cluster = watch.has_cluster();
        if is_stale {
            watch.show(&mut screen, &state).unwrap_or_else(|_| leave());
        }
        let input = screen.input(LOOK_EVERY).unwrap_or(Input::Gone);
        is_stale = !matches!(input, Input::Nothing);
        let key = match input {
            Input::Key(key) => key,
            Input::Gone => leave(),
            Input::Other | Input::Nothing => continue,
        };
        let (rows, columns) = watch.size(&state);
        match state.press(key, rows, columns) {
            Wish::Nothing => {}
            Wish::Quit => break,
            Wish::Pace => asker.change_pace(state.interval),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The terminal is gone: there is nobody to say anything to, and whoever tries, as ratatui does, panics.
fn leave() -> ! {
    screen::give_back();
    std::process::exit(0)
}

/// Sees to it that a signal ends the process, whatever the terminal keeps the other thread busy with.
fn end_in_time(is_end: Arc<AtomicBool>) -> anyhow::Result<()> {
    let watch = move || {
        while !is_end.load(Ordering::Relaxed) {
            thread::sleep(LOOK_EVERY);
        }
        thread::sleep(END_GRACE);
        leave()
    };
    thread::Builder::new().name("end".to_owned()).spawn(watch).context("cannot start a thread")?;
    Ok(())
}

/// One look, for a script or a pipe: every table with every column.
fn once(args: &TopArgs, first: &Sample) -> anyhow::Result<ExitCode> {
    thread::sleep(args.interval);
    let second = Sample::ask(&AdminClient::new(&args.admin))?;
    print(&plain(&Span::new(Some(first), &second)))
}

fn plain(span: &Span<'_>) -> String {
    let summary = Summary::of(span);
    let mut out = String::new();
    for pieces in [&summary.process, &summary.traffic, &summary.answers] {
        let line: String = pieces.iter().map(|(text, _)| text.as_str()).collect();
        out.push_str(line.trim_end());
        out.push('\n');
    }
    for (text, _) in &summary.alerts {
        out.push_str(&format!("! {text}\n"));
    }
    for kind in Kind::ALL {
        let table = kind.table(span);
        let fitted = table.fit(&table.chosen("", Sort::default()), usize::MAX);
        if fitted.lines.is_empty() {
            continue;
        }
        let head: Vec<&str> = fitted.head.iter().map(|(title, _)| title.as_str()).collect();
        out.push_str(&format!("\n{}\n", head.join("  ").trim_end()));
        for line in &fitted.lines {
            let line: Vec<&str> = line.iter().map(|(text, _)| text.as_str()).collect();
            out.push_str(line.join("  ").trim_end());
            out.push('\n');
        }
    }
    out
}

/// Asks in a thread of its own, so that keys are answered while a process far away takes its time.
struct Asker {
    answers: Receiver<Result<Sample, String>>,
    pace_ms: Arc<AtomicU64>,
    thread: Thread,
}

impl Asker {
    fn start(admin: &str, pace: Duration) -> anyhow::Result<Self> {
        let (sender, answers) = sync_channel(1);
        let pace_ms = Arc::new(AtomicU64::new(0));
        let (client, shared) = (AdminClient::new(admin), Arc::clone(&pace_ms));
        let asking =
            thread::Builder::new().name("asker".to_owned()).spawn(move || ask(&client, &shared, &sender));
        let thread = asking.context("cannot start a thread")?.thread().clone();
        let asker = Self { answers, pace_ms, thread };
        asker.change_pace(pace);
        Ok(asker)
    }

    fn change_pace(&self, pace: Duration) {
        self.pace_ms.store(u64::try_from(pace.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.thread.unpark();
    }
}

/// Asks at the pace that is wanted, until nobody takes the answers.
fn ask(client: &AdminClient, pace_ms: &AtomicU64, answers: &SyncSender<Result<Sample, String>>) {
    let mut last = Instant::now();
    loop {
        let next = last + Duration::from_millis(pace_ms.load(Ordering::Relaxed));
        let now = Instant::now();
        if now < next {
            // Woken early by another pace, it looks again.
            thread::park_timeout(next - now);
            continue;
        }
        last = now;
        if answers.send(Sample::ask(client).map_err(|error| format!("{error:#}"))).is_err() {
            return;
        }
    }
}

/// What is known of the process, and what is shown of it.
struct Watch {
    admin: String,
    before: Option<Sample>,
    now: Sample,
    summary: Summary,
    tables: Vec<(Kind, Table)>,
    history: VecDeque<(Option<f64>, Option<u64>)>,
    clock: String,
    /// Since when nobody answers, and why.
    silence: Option<(Instant, String, String)>,
    has_colors: bool,
}

impl Watch {
    fn new(admin: &str, first: Sample) -> Self {
        let mut watch = Self {
            admin: admin.to_owned(),
            before: None,
            now: first,
            summary: Summary::default(),
            tables: Vec::new(),
            history: VecDeque::new(),
            clock: clock(SystemTime::now()),
            silence: None,
            has_colors: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        };
        watch.compute();
        watch
    }

    fn take(&mut self, answer: Result<Sample, String>, is_paused: bool) {
        match answer {
            Ok(_) if is_paused => self.silence = None,
            Ok(sample) => {
                self.silence = None;
                self.before = Some(std::mem::replace(&mut self.now, sample));
                self.clock = clock(SystemTime::now());
                self.compute();
            }
            Err(cause) => {
                let since = || (Instant::now(), clock(SystemTime::now()), cause);
                self.silence.get_or_insert_with(since);
            }
        }
    }

    fn compute(&mut self) {
        let span = Span::new(self.before.as_ref(), &self.now);
        if !span.has_rates() {
            // The first look, or another process: its curve has nothing to do with the last one's.
            self.history.clear();
        }
        self.summary = Summary::of(&span);
        self.tables = Kind::ALL.map(|kind| (kind, kind.table(&span))).into();
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back((self.summary.requests, self.summary.p99));
    }

    fn has_cluster(&self) -> bool {
        self.now.stats["cluster"].is_object()
    }

    fn table(&self, kind: Kind) -> Option<&Table> {
        self.tables.iter().find(|(other, _)| *other == kind).map(|(_, table)| table)
    }

    /// How many rows and columns the pane has.
    fn size(&self, state: &State) -> (usize, usize) {
        let Some((kind, table)) = state.pane.and_then(|kind| Some((kind, self.table(kind)?))) else {
            return (0, 0);
        };
        (table.chosen(&state.filter, state.shown(kind).sort).len(), table.columns.len())
    }

    fn show(&self, screen: &mut Screen, state: &State) -> anyhow::Result<()> {
        screen.show(&self.picture(state), state).context("cannot draw")
    }

    fn picture(&self, state: &State) -> Picture<'_> {
        let silence = self.silence.as_ref().map(|(since, clock, cause)| {
            let time = figure::age_text(since.elapsed().as_secs());
            (format!("{clock} ({time})"), cause.clone())
        });
        Picture {
            admin: &self.admin,
            summary: &self.summary,
            tables: &self.tables,
            details: self.details(state),
            history: &self.history,
            silence,
            clock: &self.clock,
            has_colors: self.has_colors,
        }
    }

    /// Every number of the selected row, where somebody asks for them.
    fn details(&self, state: &State) -> Option<(String, Table)> {
        let kind = state.pane.filter(|_| state.overlay == Overlay::Details)?;
        let shown = state.shown(kind);
        let rows = self.table(kind)?.chosen(&state.filter, shown.sort);
        let row = rows.get(shown.selected.min(rows.len().checked_sub(1)?))?;
        let words = row.cells.iter().map(|cell| &cell.figure).filter(|figure| figure.is_word()).take(2);
        let title = words.map(figure::Figure::text).collect::<Vec<_>>().join(" ");
        let span = Span::new(self.before.as_ref(), &self.now);
        Some((format!("{} {title}", kind.title()), details(&span, kind, row.place)))
    }
}

/// Time of day, in UTC: as log lines say it.
fn clock(now: SystemTime) -> String {
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    format!("{:02}:{:02}:{:02}Z", seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests;
