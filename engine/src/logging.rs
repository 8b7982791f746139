//! Where do log lines go, and in which form? To standard error, as text or JSON.
//!
//! Never to a file: whoever started the process decides where standard error goes.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};

use control::{LogControl, LogLevels};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use crate::cli::LogFormat;

/// Whether everything on standard error is to be JSON.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// Sets the process up to log; what is given back changes the levels while it runs.
pub(crate) fn begin(format: LogFormat, levels: &LogLevels) -> LogControl {
    IS_JSON.store(format == LogFormat::Json, Ordering::Relaxed);
    let (filter, control) = LogControl::new(levels.clone());
    let lines = fmt::layer()
        .with_writer(io::stderr)
        .with_target(false)
        .with_ansi(stderr_has_color())
        // A closed standard error must not take the process down.
        .log_internal_errors(false);
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(lines).init();
    control
}

/// Whether a program reads standard error: then what is meant for people is logged instead of said.
pub(crate) fn is_json() -> bool {
    IS_JSON.load(Ordering::Relaxed)
}

/// Whether colours are wanted: a terminal, and no NO_COLOR (<https://no-color.org>).
pub(crate) fn stderr_has_color() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
