//! Where do log lines go, and in which form? To standard error, as text or JSON.
//!
//! Never to a file: whoever started the process decides where standard error goes.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_subscriber::filter::LevelFilter;

use crate::cli::{LogFormat, LogLevel};

/// Whether everything on standard error is to be JSON.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// Sets the process up to log.
pub(crate) fn begin(format: LogFormat, level: LogLevel) {
    IS_JSON.store(format == LogFormat::Json, Ordering::Relaxed);
    let lines = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(filter(level))
        .with_target(false)
        .with_ansi(stderr_has_color())
        // A closed standard error must not take the process down.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
}

/// Whether a program reads standard error: then what is meant for people is logged instead of said.
pub(crate) fn is_json() -> bool {
    IS_JSON.load(Ordering::Relaxed)
}

/// Whether colours are wanted: a terminal, and no NO_COLOR (<https://no-color.org>).
pub(crate) fn stderr_has_color() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
