//! Where do lines go? To the end of a file, to standard output, or to a log daemon.
//!
//! Never tears a line: what was written of one is remembered, and the rest of it comes next.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::time::Duration;

use config::snapshot::access_log::{LogDaemon, LogTarget};

/// open(2): a named pipe that nobody reads does not hold up who opens it, nor one that is full who writes.
const O_NONBLOCK: i32 = 0o4000;

/// How long a log daemon may take to take a line before it counts as away.
const DAEMON_TIMEOUT: Duration = Duration::from_secs(1);

/// Lines that RFC 5424 daemons must take have 480 bytes, and should 2048 (§6.1); those of today take 8 KiB, and a datagram of UDP
/// has its own bound.
const MESSAGE_BYTES_MAX: usize = 8 * 1024;

/// An open place for lines.
pub(super) enum Sink {
    /// A file, or a pipe.
    Stream(File),
    Udp(UdpSocket),
    UnixDatagram(UnixDatagram),
    UnixStream(UnixStream),
}

/// How writing ended.
pub(super) enum Outcome {
    /// So many bytes are gone; the next try goes on behind them.
    Written(usize),
    /// It takes nothing for now.
    Full,
    /// So many bytes will never be taken as they are, such as a line that is too long for a daemon.
    Refused(usize),
    Failed(io::Error),
}

/// Whether lines can go to a place, as far as that is known before there is one.
pub(super) fn check(target: &LogTarget) -> io::Result<()> {
    match target {
        LogTarget::File { path, mode } => match open_file(path, *mode) {
            Ok(_) => Ok(()),
            // ENXIO: a named pipe that nobody reads yet.
            Err(error) if error.raw_os_error() == Some(6) => Ok(()),
            Err(error) => Err(io::Error::new(error.kind(), format!("cannot write {path:?}: {error}"))),
        },
        // Daemons come and go.
        LogTarget::Stdout | LogTarget::Syslog { .. } => Ok(()),
        LogTarget::Otlp { .. } if cfg!(feature = "otlp") => Ok(()),
        LogTarget::Otlp { .. } => Err(io::Error::other(
            "this program was built without the feature `otlp`, by which spans are sent",
        )),
    }
}

fn open_file(path: &Path, mode: u32) -> io::Result<File> {
    let file = OpenOptions::new().append(true).create(true).mode(mode).custom_flags(O_NONBLOCK).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() || kind.is_block_device() {
        return Err(io::Error::other("it is no file that lines can be added to"));
    }
    Ok(file)
}

impl Sink {
    pub(super) fn open(target: &LogTarget) -> io::Result<Self> {
        match target {
            LogTarget::File { path, mode } => open_file(path, *mode).map(Self::Stream),
            // Without the buffer of the standard library, which would write line by line.
            LogTarget::Otlp { .. } => Err(io::Error::other("spans are no lines")),
            LogTarget::Stdout => Ok(Self::Stream(File::from(io::stdout().as_fd().try_clone_to_owned()?))),
            LogTarget::Syslog { daemon: LogDaemon::Udp(address), .. } => {
                let mut last = io::Error::other("the name stands for no address");
                for address in std::net::ToSocketAddrs::to_socket_addrs(&**address)? {
                    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                    match UdpSocket::bind(any).and_then(|socket| socket.connect(address).map(|()| socket)) {
                        Ok(socket) => return Ok(Self::Udp(socket)),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
            LogTarget::Syslog { daemon: LogDaemon::Unix(path), .. } => {
                let socket = UnixDatagram::unbound()?;
                match socket.connect(path) {
                    Ok(()) => {
                        socket.set_write_timeout(Some(DAEMON_TIMEOUT))?;
                        Ok(Self::UnixDatagram(socket))
                    }
                    // EPROTOTYPE: it is one of streams.
                    Err(error) if error.raw_os_error() == Some(91) => {
                        let stream = UnixStream::connect(path)?;
                        stream.set_write_timeout(Some(DAEMON_TIMEOUT))?;
                        Ok(Self::UnixStream(stream))
                    }
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// Writes the beginning of `lines`, which end with a line end each.
    pub(super) fn write(&mut self, lines: &[u8]) -> Outcome {
        let line = || {
            let end = lines.iter().position(|byte| *byte == b'\n').unwrap_or(lines.len());
            (&lines[..end.min(MESSAGE_BYTES_MAX)], (end + 1).min(lines.len()))
        };
        let sent = |sent: io::Result<usize>, taken: usize| match sent {
            Ok(_) => Outcome::Written(taken),
            // EMSGSIZE
            Err(error) if error.raw_os_error() == Some(90) => Outcome::Refused(taken),
            Err(error) => outcome(error),
        };
        match self {
            Self::Stream(file) => match file.write(lines) {
                Ok(0) => Outcome::Failed(io::ErrorKind::WriteZero.into()),
                Ok(count) => Outcome::Written(count),
                Err(error) => outcome(error),
            },
            // RFC 6587 §3.4.2: by a stream each line ends where it ends.
            Self::UnixStream(stream) => match stream.write(lines) {
                Ok(0) => Outcome::Failed(io::ErrorKind::WriteZero.into()),
                Ok(count) => Outcome::Written(count),
                Err(error) => outcome(error),
            },
            Self::Udp(socket) => {
                let (line, taken) = line();
                sent(socket.send(line), taken)
            }
            Self::UnixDatagram(socket) => {
                let (line, taken) = line();
                sent(socket.send(line), taken)
            }
        }
    }
}

fn outcome(error: io::Error) -> Outcome {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => Outcome::Full,
        _ => Outcome::Failed(error),
    }
}
