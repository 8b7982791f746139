//! How is the terminal taken over, and given back as it was?
//!
//! Never keeps it past the end, a panic or a key that ends the run; never takes it from a shell's other job.

use std::io::{self, IsTerminal, Stderr, stderr, stdin};
use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use rustix::process::getpgrp;
use rustix::termios::tcgetpgrp;

use crate::output::live::{Picture, draw};

/// Whether the terminal is ours just now.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);
/// Events taken at one look: somebody may lean on the keyboard.
const EVENTS_MAX: usize = 64;

/// The terminal, taken over until this is dropped.
pub(crate) struct Screen {
    terminal: Terminal<CrosstermBackend<Stderr>>,
}

impl Screen {
    /// Whether somebody looks at standard error and can press a key.
    pub(crate) fn is_possible() -> bool {
        let is_foreground = || tcgetpgrp(stderr()).is_ok_and(|foreground| foreground == getpgrp());
        stderr().is_terminal()
            && stdin().is_terminal()
            && std::env::var_os("TERM").is_some_and(|terminal| terminal != "dumb")
            && is_foreground()
    }

    /// Takes the terminal over.
    ///
    /// # Errors
    /// It refused; then it is as it was.
    pub(crate) fn enter() -> io::Result<Self> {
        give_back_on_panic();
        IS_TAKEN.store(true, Ordering::SeqCst);
        let entered = enable_raw_mode()
            .and_then(|()| execute!(stderr(), EnterAlternateScreen))
            .and_then(|()| Terminal::new(CrosstermBackend::new(stderr())));
        if entered.is_err() {
            give_back();
        }
        entered.map(|terminal| Self { terminal })
    }

    /// Shows `picture`, at whatever size the terminal has now.
    ///
    /// # Errors
    /// Whatever the terminal says.
    pub(crate) fn show(&mut self, picture: &Picture<'_>) -> io::Result<()> {
        self.terminal.draw(|frame| draw(frame, picture)).map(|_| ())
    }

    /// Whether a key that ends the run was pressed since the last look. Never waits.
    pub(crate) fn is_end_wanted(&self) -> bool {
        let mut is_wanted = false;
        for _ in 0..EVENTS_MAX {
            if !event::poll(Duration::ZERO).unwrap_or(false) {
                break;
            }
            if let Ok(Event::Key(key)) = event::read() {
                let is_interrupt =
                    key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
                let is_quit = matches!(key.code, KeyCode::Char('q') | KeyCode::Esc);
                is_wanted |= key.kind == KeyEventKind::Press && (is_interrupt || is_quit);
            }
        }
        is_wanted
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Leaves the terminal as it was. A terminal that is gone needs nothing.
fn give_back() {
    if IS_TAKEN.swap(false, Ordering::SeqCst) {
        let _ = execute!(stderr(), LeaveAlternateScreen, ratatui::crossterm::cursor::Show);
        let _ = disable_raw_mode();
    }
}

/// A panic's message must be read, whichever thread it comes from.
fn give_back_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let tell = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            give_back();
            tell(panic);
        }));
    });
}
