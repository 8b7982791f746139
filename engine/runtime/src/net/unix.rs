//! Who listens at a path of the file system? One Unix socket, shared by all cores.
//!
//! Never replaces a file that is no socket, nor a socket at which somebody listens.
//!
//! There is no SO_REUSEPORT at a path: a second bind is refused. Each core gets a descriptor of its own for the same
//! socket, and so the same queue. All are told of a connection, and the first takes it; the others find nothing.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};

use super::handle::Handle;

/// How long another process may keep the directory of a socket to itself, and how often to look. It needs microseconds.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(1);
const LOCK_LOOK_EVERY: Duration = Duration::from_millis(10);

/// Binds a Unix socket at `path` and gives each of `cores` a descriptor of it.
///
/// A socket file that a process has left behind is replaced. The file stays when the listeners are closed. Who may connect
/// is what its directory and its permissions say: `mode`, or what the process's umask leaves.
///
/// # Errors
/// `AddrInUse` when somebody listens there or is about to; `AlreadyExists` when the path is taken by something else
/// than a socket; `InvalidInput` for a path of more than 108 bytes (`sun_path`, unix(7)); otherwise the kernel's.
pub fn bind_unix(
    path: &Path,
    mode: Option<u32>,
    backlog: u32,
    cores: usize,
) -> io::Result<Vec<UnixListener>> {
    // Without a name the kernel would choose one that nobody knows (unix(7), autobind).
    let address =
        SocketAddrUnix::new(path).ok().filter(|_| !path.as_os_str().is_empty()).ok_or_else(|| {
            let text = "the path of a Unix socket has 1 to 108 bytes, none of them zero";
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })?;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // A socket that does not listen yet looks left behind, and two that find the same one stale must not remove each
    // other's: nobody else may look meanwhile.
    let _lock = lock_directory(path)?;
    match bind(&socket, &address) {
        Err(Errno::ADDRINUSE) => {
            remove_stale(path)?;
            bind(&socket, &address)?;
        }
        outcome => outcome?,
    }
    // Nobody can connect before it listens.
    if let Some(mode) = mode {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    listen(&socket, i32::try_from(backlog).unwrap_or(i32::MAX))?;
    let listener = UnixListener::from(socket);
    let mut listeners = (1..cores).map(|_| listener.try_clone()).collect::<io::Result<Vec<_>>>()?;
    listeners.push(listener);
    Ok(listeners)
}

/// Keeps others of this kind away from the directory of `path` until it is dropped, where that can be had: a directory may
/// be closed to readers, and a file system without locks.
fn lock_directory(path: &Path) -> io::Result<Option<File>> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = match File::open(parent.unwrap_or(Path::new("."))) {
        Ok(directory) => directory,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(error) => return Err(error),
    };
    let deadline = Instant::now() + LOCK_WAIT_MAX;
    loop {
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(directory)),
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => thread::sleep(LOCK_LOOK_EVERY),
            Err(Errno::WOULDBLOCK) => {
                let text = "another process is about to listen in its directory";
                return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
            }
            Err(_) => return Ok(None),
        }
    }
}

/// Removes a socket at which nobody listens.
fn remove_stale(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something other than a socket is there"));
    }
    match Handle::connect_unix(path) {
        Err(Errno::CONNREFUSED) => fs::remove_file(path),
        // A full queue is somebody's, too.
        Ok(_) | Err(Errno::AGAIN) => {
            Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there"))
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A directory of its own for each test, removed at its end.
    struct Dir(PathBuf);

    impl Dir {
        fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let name =
                format!("corelane-unix-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let dir = std::env::temp_dir().join(name);
            fs::create_dir(&dir).expect("a directory");
            Self(dir)
        }

        fn path(&self) -> PathBuf {
            self.0.join("socket")
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn every_core_gets_the_same_socket() {
        let dir = Dir::new();
        let listeners = bind_unix(&dir.path(), None, 16, 3).expect("bind");
        assert_eq!(listeners.len(), 3);
        for listener in &listeners {
            let client = UnixStream::connect(dir.path()).expect("connect");
            listener.accept().expect("each core can take what came");
            drop(client);
        }
    }

    #[test]
    fn its_permissions_are_those_asked_for_whatever_the_umask() {
        let dir = Dir::new();
        for mode in [0o600, 0o666, 0o660] {
            let _listeners = bind_unix(&dir.path(), Some(mode), 16, 1).expect("bind");
            let metadata = fs::symlink_metadata(dir.path()).expect("a file");
            assert_eq!(metadata.permissions().mode() & 0o7777, mode);
        }
    }

    #[test]
    fn a_socket_that_was_left_behind_is_replaced() {
        let dir = Dir::new();
        drop(bind_unix(&dir.path(), None, 16, 2).expect("bind"));
        assert!(dir.path().exists(), "the file outlives its listener");
        let _listeners = bind_unix(&dir.path(), None, 16, 2).expect("bind again");
        UnixStream::connect(dir.path()).expect("somebody listens");
    }

    #[test]
    fn a_socket_in_use_stays_its_owners() {
        let dir = Dir::new();
        let owner = bind_unix(&dir.path(), None, 0, 1).expect("bind");
        // The second connection finds the queue full: that is in use, too.
        let mut clients = Vec::new();
        for _ in 0..3 {
            let error = bind_unix(&dir.path(), None, 16, 1).expect_err("in use");
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
            clients.extend(Handle::connect_unix(&dir.path()));
        }
        owner[0].accept().expect("the owner has its queue");
    }

    #[test]
    fn two_that_start_at_once_do_not_remove_each_others() {
        let dir = Dir::new();
        drop(bind_unix(&dir.path(), None, 16, 1).expect("bind"));
        let lock = lock_directory(&dir.path()).expect("lock");
        let error = bind_unix(&dir.path(), None, 16, 1).expect_err("another is at it");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
        drop(lock);
        bind_unix(&dir.path(), None, 16, 1).expect("bind");
    }

    #[test]
    fn a_file_that_is_no_socket_is_not_touched() {
        let dir = Dir::new();
        fs::write(dir.path(), "precious").expect("write");
        let error = bind_unix(&dir.path(), None, 16, 1).expect_err("taken");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{error}");
        assert_eq!(fs::read_to_string(dir.path()).expect("read"), "precious");
    }

    #[test]
    fn a_path_that_does_not_fit_is_told() {
        for path in [String::new(), "x".repeat(109), "a\0b".to_owned()] {
            let error = bind_unix(Path::new(&path), None, 16, 1).expect_err("no path of a socket");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains("108"), "{error}");
        }
    }
}
