//! Which log lines are written? What was said at the start, or what somebody has asked for since.
//!
//! Never a level that is forgotten: whoever asks for more lines can say for how long, and it falls back by itself.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::Notify;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::{Registry, reload};
use utoipa::ToSchema;

use crate::Shared;

/// Names of levels, the least talkative first.
const LEVELS: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

/// Parts of the program that write lines: our own rooms, then what they are built with.
const PARTS: [&str; 17] = [
    "auth",
    "config",
    "control",
    "engine",
    "proxy",
    "runtime",
    "store",
    "tls",
    "axum",
    "hickory_net",
    "hickory_proto",
    "hickory_resolver",
    "hyper",
    "hyper_util",
    "rustls",
    "sqlx",
    "ureq",
];

/// Longest that a level may hold before it falls back: who wants it for good says so.
pub(crate) const FOR_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A level, and others for parts of the program: `info` or `info,control=debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLevels {
    level: LevelFilter,
    /// By name of the part, or of a module in it; none twice.
    parts: Vec<(String, LevelFilter)>,
}

/// Why a text names no levels.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogLevelError {
    /// There is no such level.
    #[error("there is no level \"{0}\": use one of off, error, warn, info, debug, trace")]
    Level(String),
    /// There is no such part.
    #[error("there is no part \"{part}\": use one of {}", PARTS.join(", "))]
    Part {
        /// What was written.
        part: String,
    },
    /// Something has two levels.
    #[error("there are two levels for {0}")]
    Twice(String),
    /// Only parts have levels.
    #[error("the level of everything else is missing: write for example \"info,{0}\"")]
    Missing(String),
}

impl FromStr for LogLevels {
    type Err = LogLevelError;

    fn from_str(text: &str) -> Result<Self, LogLevelError> {
        let mut overall = None;
        let mut parts: Vec<(String, LevelFilter)> = Vec::new();
        for item in text.split(',').map(str::trim) {
            match item.split_once('=') {
                None => {
                    if overall.replace(level(item)?).is_some() {
                        return Err(LogLevelError::Twice("everything".to_owned()));
                    }
                }
                Some((part, name)) => {
                    let known = PARTS.contains(&part.split("::").next().unwrap_or_default());
                    if !known {
                        return Err(LogLevelError::Part { part: part.to_owned() });
                    }
                    if parts.iter().any(|(other, _)| other == part) {
                        return Err(LogLevelError::Twice(part.to_owned()));
                    }
                    parts.push((part.to_owned(), level(name)?));
                }
            }
        }
        match overall {
            Some(level) => Ok(Self { level, parts }),
            None => Err(LogLevelError::Missing(text.to_owned())),
        }
    }
}

fn level(name: &str) -> Result<LevelFilter, LogLevelError> {
    let found = LEVELS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, level)| *level).ok_or_else(|| LogLevelError::Level(name.to_owned()))
}

impl fmt::Display for LogLevels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // LevelFilter writes its names as we do.
        write!(f, "{}", self.level)?;
        self.parts.iter().try_for_each(|(part, level)| write!(f, ",{part}={level}"))
    }
}

impl LogLevels {
    fn filter(&self) -> Targets {
        let parts = self.parts.iter().map(|(part, level)| (part.as_str(), *level));
        Targets::new().with_default(self.level).with_targets(parts)
    }

    /// The most talkative of them.
    fn most(&self) -> LevelFilter {
        self.parts.iter().map(|(_, level)| *level).fold(self.level, Ord::max)
    }
}

/// Which lines are written now, and which later.
#[derive(Debug)]
pub struct LogControl {
    filter: reload::Handle<Targets, Registry>,
    started_with: LogLevels,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    /// For good.
    lasting: LogLevels,
    /// For a while.
    passing: Option<(LogLevels, Instant)>,
}

impl State {
    fn now(&self) -> &LogLevels {
        self.passing.as_ref().map_or(&self.lasting, |(levels, _)| levels)
    }
}

/// What is written, to whoever asks.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LogLevelView {
    /// Such as `info` or `info,control=debug`.
    level: String,
    /// What the process was started with.
    started_with: String,
    /// What comes after it, where it holds for a while.
    #[serde(skip_serializing_if = "Option::is_none")]
    falls_back_to: Option<String>,
    /// When that comes.
    #[serde(skip_serializing_if = "Option::is_none")]
    falls_back_in_s: Option<f64>,
}

impl LogControl {
    /// What lets lines by, to be put before whatever writes them, and who changes it.
    #[must_use]
    pub fn new(levels: LogLevels) -> (reload::Layer<Targets, Registry>, Self) {
        let (layer, filter) = reload::Layer::new(levels.filter());
        let state = Mutex::new(State { lasting: levels.clone(), passing: None });
        (layer, Self { filter, started_with: levels, state, changed: Notify::new() })
    }

    /// Writes lines by `levels` from now on; with `time`, for that long.
    pub(crate) fn set(&self, levels: LogLevels, time: Option<Duration>, now: Instant) {
        self.change(|state| match time {
            Some(time) => state.passing = Some((levels, now + time)),
            None => *state = State { lasting: levels, passing: None },
        });
        self.changed.notify_one();
    }

    pub(crate) fn view(&self, now: Instant) -> LogLevelView {
        let state = self.state();
        let passing = state.passing.as_ref();
        LogLevelView {
            level: state.now().to_string(),
            started_with: self.started_with.to_string(),
            falls_back_to: passing.map(|_| state.lasting.to_string()),
            falls_back_in_s: passing.map(|(_, until)| until.saturating_duration_since(now).as_secs_f64()),
        }
    }

    /// Falls back when it is time to.
    fn fall_back(&self, now: Instant) {
        if self.until().is_some_and(|until| until <= now) {
            self.change(|state| state.passing = None);
        }
    }

    fn until(&self) -> Option<Instant> {
        self.state().passing.as_ref().map(|(_, until)| *until)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        let before = state.now().clone();
        change(&mut state);
        let after = state.now().clone();
        drop(state);
        // Said while the more talkative of both holds, so that the line is seen that ends the lines.
        let tell = || tracing::info!("log level {after}, after {before}");
        if after.most() < before.most() {
            tell();
        }
        // Fails only when there is no subscriber any more, and so no line.
        let _ = self.filter.reload(after.filter());
        if after.most() >= before.most() {
            tell();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets levels fall back that hold for a while.
pub(crate) async fn rounds(shared: Arc<Shared>) {
    let log = &shared.log;
    loop {
        let fall_back = async {
            match log.until() {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = fall_back => log.fall_back(Instant::now()),
            () = log.changed.notified() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn a_level_for_all_and_others_for_parts() {
        let check = |text: &str, expected: &str| {
            assert_eq!(text.parse::<LogLevels>().map(|levels| levels.to_string()), Ok(expected.to_owned()));
        };
        check("info", "info");
        check("WARN", "warn");
        check("info,control=debug", "info,control=debug");
        check("control::health=trace, warn ,rustls=off", "warn,control::health=trace,rustls=off");
    }

    #[test]
    fn each_mistake_is_told_with_what_is_allowed() {
        let check = |text: &str, expected: &str| {
            let error = text.parse::<LogLevels>().expect_err(text).to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        };
        check("", "there is no level \"\": use one of off, error, warn, info, debug, trace");
        check("inof", "there is no level \"inof\"");
        check("info,control=loud", "there is no level \"loud\"");
        check("info,cotrol=debug", "there is no part \"cotrol\": use one of auth, config, control");
        check("info,debug", "there are two levels for everything");
        check("info,tls=debug,tls=info", "there are two levels for tls");
        check(
            "control=debug",
            "the level of everything else is missing: write for example \"info,control=debug\"",
        );
        check("info,", "there is no level \"\"");
    }

    #[test]
    fn a_level_for_a_while_falls_back_to_what_was_asked_for_good() {
        let (layer, log) = LogControl::new("info".parse().expect("a level"));
        let subscriber = tracing_subscriber::registry().with(layer);
        let _guard = tracing::subscriber::set_default(subscriber);
        let levels = |text: &str| text.parse::<LogLevels>().expect("levels");
        let now = Instant::now();
        log.set(levels("warn"), None, now);
        assert!(!tracing::enabled!(tracing::Level::INFO));
        log.set(levels("warn,control=debug"), Some(Duration::from_secs(60)), now);
        assert!(tracing::enabled!(tracing::Level::DEBUG), "this module is part of control");
        let view = log.view(now);
        assert_eq!((view.level.as_str(), view.started_with.as_str()), ("warn,control=debug", "info"));
        assert_eq!((view.falls_back_to.as_deref(), view.falls_back_in_s), (Some("warn"), Some(60.0)));
        log.fall_back(now + Duration::from_secs(59));
        assert!(tracing::enabled!(tracing::Level::DEBUG));
        log.fall_back(now + Duration::from_secs(60));
        assert!(!tracing::enabled!(tracing::Level::INFO) && tracing::enabled!(tracing::Level::WARN));
        let view = log.view(now);
        assert_eq!((view.level.as_str(), view.falls_back_to), ("warn", None));
    }
}
