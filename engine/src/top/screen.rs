//! How is the terminal taken over, and given back as it was?
//!
//! Never keeps it past the end, a panic or a signal.

use std::io::{self, IsTerminal, Stdout, stdin, stdout};
use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event, KeyEvent};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::state::State;
use super::view::{Picture, draw};

/// Whether the terminal is ours just now.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// The terminal, taken over until this is dropped.
pub(crate) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

/// What has come from the terminal.
pub(crate) enum Input {
    Key(KeyEvent),
    /// Another size, mostly.
    Other,
    Nothing,
    /// The terminal is gone: nothing will come any more.
    Gone,
}

impl Screen {
    /// Whether somebody looks at standard output and can press a key.
    pub(crate) fn is_possible() -> bool {
        stdout().is_terminal()
            && stdin().is_terminal()
            && std::env::var_os("TERM").is_some_and(|terminal| terminal != "dumb")
    }

    /// Takes the terminal over.
    ///
    /// # Errors
    /// It refused; then it is as it was.
    pub(crate) fn enter() -> io::Result<Self> {
        give_back_on_panic();
        IS_TAKEN.store(true, Ordering::SeqCst);
        let entered = enable_raw_mode()
            .and_then(|()| execute!(stdout(), EnterAlternateScreen))
            .and_then(|()| Terminal::new(CrosstermBackend::new(stdout())));
        if entered.is_err() {
            give_back();
        }
        entered.map(|terminal| Self { terminal })
    }

    /// Shows `picture`, at whatever size the terminal has now.
    ///
    /// # Errors
    /// Whatever the terminal says.
    pub(crate) fn show(&mut self, picture: &Picture<'_>, state: &State) -> io::Result<()> {
        self.terminal.draw(|frame| draw(frame, picture, state)).map(|_| ())
    }

    /// What comes from the terminal within this time.
    ///
    /// # Errors
    /// Whatever the terminal says.
    pub(crate) fn input(&self, patience: Duration) -> io::Result<Input> {
        // Looked at here before crossterm is asked, which reads the end of a terminal that is gone over and over.
        let input = stdin();
        let mut ready = [PollFd::new(&input, PollFlags::IN)];
        let patience = Timespec::try_from(patience).map_err(io::Error::other)?;
        match poll(&mut ready, Some(&patience)) {
            // Another size: crossterm knows.
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if ready[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            return Ok(Input::Gone);
        }
        if !event::poll(Duration::ZERO)? {
            return Ok(Input::Nothing);
        }
        Ok(match event::read()? {
            Event::Key(key) => Input::Key(key),
            _ => Input::Other,
        })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Leaves the terminal as it was. A terminal that is gone needs nothing.
pub(crate) fn give_back() {
    if IS_TAKEN.swap(false, Ordering::SeqCst) {
        let _ = execute!(stdout(), LeaveAlternateScreen, Show);
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
