//! What does whoever started the process want to hear of it? systemd's protocol (sd_notify(3)): datagrams to `NOTIFY_SOCKET`.
//!
//! Never waits longer than [`SEND_TIMEOUT`] for anybody to listen, and never fails the process: who does not hear it is told in the log.

pub(crate) mod watchdog;

use std::convert::Infallible;
use std::ffi::OsStr;
use std::fmt;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, sendmsg_addr, socket_with,
};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::Shared;
use crate::catalogue::sum;
use crate::lifecycle::DRAIN_GRACE;

const SOCKET: &str = "NOTIFY_SOCKET";
const WATCHDOG_TIME: &str = "WATCHDOG_USEC";
const WATCHDOG_PROCESS: &str = "WATCHDOG_PID";

/// How long a message may wait for room in the supervisor's queue.
const SEND_TIMEOUT: Duration = Duration::from_millis(250);

/// Descriptors of one message; the kernel passes at most 253 (SCM_MAX_FD, unix(7)).
const FDS_PER_MESSAGE: usize = 64;

/// Between two words on how a drain comes along.
const DRAIN_STATUS_EVERY: Duration = Duration::from_secs(1);

/// Longest cause of a refusal in a line of status.
const CAUSE_CHARS_MAX: usize = 200;

/// Whoever started the process and watches it: systemd, or what speaks its protocol. Without one every word goes nowhere.
#[derive(Debug, Default)]
pub struct Supervisor {
    ear: Option<Ear>,
    watchdog: Option<Duration>,
    /// The process has said that it serves.
    serves: AtomicBool,
    began_to_serve: Notify,
    /// Reloads that have begun and not ended.
    reloads: AtomicU32,
    /// The process ends.
    is_stopping: AtomicBool,
    /// Another process has taken this one's place: what this one says is of no interest any more.
    is_replaced: AtomicBool,
    /// The last message could not be sent.
    is_deaf: AtomicBool,
}

/// Where the supervisor listens.
#[derive(Debug)]
struct Ear {
    socket: OwnedFd,
    address: SocketAddrUnix,
}

impl Supervisor {
    /// The one that the environment names. What cannot be understood is told in the log.
    #[must_use]
    pub fn of_environment() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let ear = variable(SOCKET).and_then(|name| match Ear::open(&name) {
            Ok(ear) => Some(ear),
            Err(error) => {
                tracing::warn!("{SOCKET}={}: {error}: the service manager is told nothing", name.display());
                None
            }
        });
        let number =
            |name| variable(name).map(|value| value.to_str().and_then(|text| text.parse::<u64>().ok()));
        let watchdog = match (number(WATCHDOG_TIME), number(WATCHDOG_PROCESS)) {
            // Of another process: the variables were inherited.
            (_, Some(process)) if process != Some(u64::from(std::process::id())) => None,
            (None, _) => None,
            (Some(Some(micros)), _) if micros > 0 => Some(Duration::from_micros(micros)),
            (Some(_), _) => {
                tracing::warn!("{WATCHDOG_TIME} is no number of microseconds: the watchdog is not fed");
                None
            }
        };
        Self { watchdog: watchdog.filter(|_| ear.is_some()), ear, ..Self::default() }
    }

    /// Makes the environment of a process that is to take this one's place what that has to find: all of it, but for the number of
    /// this process.
    pub fn pass_on(command: &mut Command) {
        command.env_remove(WATCHDOG_PROCESS);
    }

    /// How long it waits for a sign of life; `None` if it does not.
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The process serves, or goes on to: `status` says how.
    pub(crate) fn ready(&self, status: &str) {
        if self.is_stopping.load(Ordering::Relaxed) {
            return;
        }
        self.send(&format!("READY=1\nMAINPID={}\n{}", std::process::id(), Status(status)), &[]);
        self.serves.store(true, Ordering::Release);
        self.began_to_serve.notify_one();
    }

    /// Waits until the process has said that it serves. For one task: the watchdog.
    pub(crate) async fn served(&self) {
        while !self.serves.load(Ordering::Acquire) {
            self.began_to_serve.notified().await;
        }
    }

    /// A reload begins. The clock tells the supervisor which of its signals this answers, so both lines are in one message.
    pub(crate) fn reloading(&self) {
        self.reloads.fetch_add(1, Ordering::Relaxed);
        if !self.is_stopping.load(Ordering::Relaxed) {
            let now = clock_gettime(ClockId::Monotonic);
            let micros = now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1_000;
            self.send(
                &format!("RELOADING=1\nMONOTONIC_USEC={micros}\n{}", Status("reads its configuration again")),
                &[],
            );
        }
    }

    /// A reload is over, whatever came of it: `status` says what runs. While another goes on, that is what it waits for.
    pub(crate) fn reloaded(&self, status: &str) {
        if self.reloads.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.ready(status);
        }
    }

    /// The process ends, in at most `within`.
    fn stopping(&self, status: &str, within: Duration) {
        // Already said: what is left has become less.
        let begins = if self.is_stopping.swap(true, Ordering::Relaxed) { "" } else { "STOPPING=1\n" };
        let micros = within.as_micros();
        self.send(&format!("{begins}EXTEND_TIMEOUT_USEC={micros}\n{}", Status(status)), &[]);
    }

    /// The process lives, if it does, every core of it.
    fn beat_if(&self, lives: bool) {
        if lives {
            self.send("WATCHDOG=1\n", &[]);
        }
    }

    /// Another process has taken this one's place. It is the one that is heard from here on, so this is this one's last word.
    pub fn hand_over(&self, to: u32) {
        self.send(&format!("MAINPID={to}\n"), &[]);
        self.is_replaced.store(true, Ordering::Relaxed);
    }

    /// Has the supervisor keep descriptors under `name`, and give them to the process that it starts next.
    ///
    /// `name` has 1 to 255 printable characters and no colon (sd_pid_notify_with_fds(3)). False if they could not be given.
    pub fn store_fds(&self, name: &str, fds: &[BorrowedFd<'_>]) -> bool {
        // Of a listening socket it would be told of every error as of an end, and give it up.
        let text = format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0\n");
        fds.chunks(FDS_PER_MESSAGE).all(|fds| self.send(&text, fds))
    }

    /// Has the supervisor give up what it keeps under `name`.
    pub fn remove_fds(&self, name: &str) -> bool {
        self.send(&format!("FDSTOREREMOVE=1\nFDNAME={name}\n"), &[])
    }

    /// Whether it keeps sockets beyond the end of the process: `FileDescriptorStoreMax=` of the unit says so (sd_pid_notify_with_fds(3)).
    pub(crate) fn keeps_sockets(&self) -> bool {
        let room = std::env::var("FDSTORE").ok().and_then(|room| room.parse::<u32>().ok());
        self.is_there() && room.is_some_and(|room| room > 0)
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.ear.is_some()
    }

    /// Sends lines in one message; whether it was.
    fn send(&self, lines: &str, fds: &[BorrowedFd<'_>]) -> bool {
        let Some(ear) = self.ear.as_ref().filter(|_| !self.is_replaced.load(Ordering::Relaxed)) else {
            return false;
        };
        let outcome = ear.send(lines, fds);
        if let Err(error) = &outcome
            && !self.is_deaf.swap(true, Ordering::Relaxed)
        {
            let said = lines.lines().next().unwrap_or_default();
            tracing::warn!("the service manager does not hear {said:?}: {error}");
        } else if outcome.is_ok() {
            self.is_deaf.store(false, Ordering::Relaxed);
        }
        outcome.is_ok()
    }
}

impl Ear {
    fn open(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'/', ..] => SocketAddrUnix::new(name)?,
            [b'@', abstract_name @ ..] => SocketAddrUnix::new_abstract_name(abstract_name)?,
            _ => return Err(io::Error::other("neither a path nor an abstract socket")),
        };
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        set_socket_timeout(&socket, Timeout::Send, Some(SEND_TIMEOUT))?;
        Ok(Self { socket, address })
    }

    fn send(&self, lines: &str, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_PER_MESSAGE))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::Error::other("too many descriptors for one message"));
        }
        let text = [IoSlice::new(lines.as_bytes())];
        sendmsg_addr(&self.socket, &self.address, &text, &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

/// A line of status: whatever it is about, it stays one line.
struct Status<'a>(&'a str);

impl fmt::Display for Status<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("STATUS=")?;
        self.0.split(char::is_control).try_for_each(|part| f.write_str(part))?;
        f.write_str("\n")
    }
}

/// A reload that the supervisor has been told of. Once it is dropped, it is over.
pub(crate) struct Reloading(Arc<Shared>);

impl Drop for Reloading {
    fn drop(&mut self) {
        self.0.supervisor.reloaded(&self.0.status_line());
    }
}

impl Shared {
    /// Tells the supervisor that a reload begins.
    pub(crate) fn begin_reload(self: &Arc<Self>) -> Reloading {
        self.supervisor.reloading();
        Reloading(Arc::clone(self))
    }

    /// What runs, in a line: `systemctl status` shows it.
    pub(crate) fn status_line(&self) -> String {
        let live = self.live();
        let runs =
            format!("serves by configuration {} on {} cores", live.generation.number, self.fellows.len());
        match &*self.last_failure() {
            None => runs,
            Some(failure) => {
                let first = failure.problems.first().map(String::as_str).unwrap_or_default();
                let cause: String = first.chars().take(CAUSE_CHARS_MAX).collect();
                format!("{runs}; a later one of {} was refused: {cause}", failure.source)
            }
        }
    }
}

/// Tells the supervisor how a drain comes along, and how long it may take yet, so that it is not ended before that.
pub(crate) async fn tell_of_drain(shared: &Shared) -> Infallible {
    let live = shared.live();
    let terms = (live.snapshot.terms.drain_delay, live.snapshot.process.drain_timeout);
    let deadline = Instant::now() + terms.0 + terms.1 + DRAIN_GRACE;
    let mut rounds = tokio::time::interval(DRAIN_STATUS_EVERY);
    loop {
        rounds.tick().await;
        let connections = sum(live.all_listeners(), |listener| listener.connections_open.value());
        let exchanges = sum(live.all_listeners(), |listener| listener.exchanges_open.value());
        let status = format!("drains: {connections} connections open, {exchanges} exchanges in progress");
        shared.supervisor.stopping(&status, deadline.saturating_duration_since(Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSliceMut;
    use std::os::fd::AsFd;

    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recv, recvmsg};

    use super::*;

    #[test]
    fn a_status_is_one_line_whatever_it_is_about() {
        assert_eq!(Status("a\nREADY=1\r\n").to_string(), "STATUS=aREADY=1\n");
    }

    /// A supervisor of the test's own, and where it hears.
    fn listening() -> (Supervisor, OwnedFd) {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("@corelane-{}-{number}", std::process::id());
        let ear = Ear::open(OsStr::new(&name)).expect("a socket");
        let hears = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
            .expect("a socket");
        set_socket_timeout(&hears, Timeout::Recv, Some(Duration::from_secs(10))).expect("a deadline");
        rustix::net::bind(&hears, &ear.address).expect("a name of its own");
        (Supervisor { ear: Some(ear), ..Supervisor::default() }, hears)
    }

    /// The next message, with the number of descriptors that came with it.
    fn hear(socket: &OwnedFd) -> (String, usize) {
        let mut text = [0; 1024];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_PER_MESSAGE))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut text)];
        let heard = recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).expect("a message");
        let fds = control.drain().map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => fds.count(),
            _ => 0,
        });
        let fds = fds.sum();
        (String::from_utf8_lossy(&text[..heard.bytes]).into_owned(), fds)
    }

    #[test]
    fn descriptors_go_with_the_name_to_keep_them_under() {
        let (supervisor, hears) = listening();
        let file = std::fs::File::open("/dev/null").expect("a file");
        let fds = [file.as_fd(); FDS_PER_MESSAGE + 1];
        assert!(supervisor.store_fds("web", &fds));
        let text = "FDSTORE=1\nFDNAME=web\nFDPOLL=0\n".to_owned();
        assert_eq!(hear(&hears), (text.clone(), FDS_PER_MESSAGE));
        assert_eq!(hear(&hears), (text, 1));
        assert!(supervisor.remove_fds("web"));
        assert_eq!(hear(&hears), ("FDSTOREREMOVE=1\nFDNAME=web\n".to_owned(), 0));
    }

    #[test]
    fn a_process_that_was_replaced_says_nothing_more() {
        let (supervisor, hears) = listening();
        supervisor.hand_over(4711);
        assert_eq!(hear(&hears).0, "MAINPID=4711\n");
        supervisor.reloading();
        supervisor.reloaded("serves");
        supervisor.beat_if(true);
        supervisor.stopping("drains", Duration::ZERO);
        let mut nothing = [0];
        let heard = recv(&hears, &mut nothing, RecvFlags::DONTWAIT).map(|(_, bytes)| bytes);
        assert_eq!(heard, Err(rustix::io::Errno::AGAIN));
    }

    #[test]
    fn of_reloads_at_once_only_the_last_one_s_end_is_the_end() {
        let (supervisor, hears) = listening();
        supervisor.reloading();
        supervisor.reloading();
        supervisor.reloaded("one");
        supervisor.reloaded("both");
        assert!(hear(&hears).0.starts_with("RELOADING=1\nMONOTONIC_USEC="));
        assert!(hear(&hears).0.starts_with("RELOADING=1\nMONOTONIC_USEC="));
        let ready = format!("READY=1\nMAINPID={}\nSTATUS=both\n", std::process::id());
        assert_eq!(hear(&hears).0, ready);
    }

    #[test]
    fn nobody_is_waited_for_who_does_not_listen() {
        let (supervisor, hears) = listening();
        assert!((0..100_000).any(|_| !supervisor.send("WATCHDOG=1\n", &[])), "the queue has an end");
        drop(hears);
        assert!(!supervisor.send("WATCHDOG=1\n", &[]));
    }

    #[test]
    fn without_a_supervisor_nothing_is_said_and_nothing_fails() {
        let supervisor = Supervisor::default();
        supervisor.ready("serves");
        supervisor.reloading();
        supervisor.reloaded("serves");
        assert!(!supervisor.is_there());
        assert!(!supervisor.remove_fds("web"));
    }

    #[test]
    fn only_paths_and_abstract_names_are_sockets() {
        assert!(Ear::open(OsStr::new("/run/notify")).is_ok());
        assert!(Ear::open(OsStr::new("@notify")).is_ok());
        assert!(Ear::open(OsStr::new("vsock:2:1")).is_err());
        assert!(Ear::open(OsStr::new("notify")).is_err());
        let long = format!("/{}", "x".repeat(200));
        assert!(Ear::open(OsStr::new(&long)).is_err());
    }
}
