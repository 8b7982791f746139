//! What stays of a listener at a path when it accepts no more? Nothing: its file goes first.
//!
//! Never removes a file that somebody else has put in its place.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use config::snapshot::{BindAddress, Listener, Snapshot};

/// The file of a Unix socket that this process has bound; removed when dropped.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: Box<Path>,
    identity: (u64, u64),
    is_left: bool,
}

impl SocketFile {
    /// The file that is at `path` now. Its number is nobody else's while its socket is open.
    ///
    /// # Errors
    /// When there is none, or it cannot be looked at.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.into(), identity: identity(path)?, is_left: false })
    }

    /// It is somebody else's from now on.
    fn leave(mut self) {
        self.is_left = true;
    }
}

/// The files of all listeners at a path.
#[derive(Debug, Default)]
pub struct SocketFiles(Vec<Owned>);

/// Whose file it is.
#[derive(Debug)]
struct Owned {
    listener: String,
    is_internal: bool,
    file: SocketFile,
}

impl SocketFiles {
    /// Keeps the file of a listener.
    pub(crate) fn push(&mut self, listener: &Listener, file: SocketFile) {
        self.0.push(Owned { listener: listener.name.clone(), is_internal: listener.internal, file });
    }

    /// Takes the files of listeners that have come.
    pub(crate) fn append(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }

    /// Removes those of listeners that are not in `snapshot`, or are somewhere else there.
    pub(crate) fn keep(&mut self, snapshot: &Snapshot) {
        self.0.retain(|owned| {
            snapshot.listeners.iter().any(|listener| match &listener.bind {
                BindAddress::Unix { path, .. } => listener.name == owned.listener && *path == owned.file.path,
                BindAddress::Tcp(_) => false,
            })
        });
    }

    /// Leaves those of listeners at which another process listens.
    pub(crate) fn leave(&mut self, listeners: &[Box<str>]) {
        let is_left = |owned: &mut Owned| listeners.iter().any(|name| **name == *owned.listener);
        for left in self.0.extract_if(.., is_left) {
            left.file.leave();
        }
    }

    /// Leaves all of them: nothing came of taking them over.
    pub(crate) fn leave_all(self) {
        self.0.into_iter().for_each(|left| left.file.leave());
    }

    /// Removes those of listeners that a drain closes. Internal ones end with the process.
    pub(crate) fn begin_drain(&mut self) {
        self.0.retain(|owned| owned.is_internal);
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        match identity(&self.path) {
            Ok(identity) if identity == self.identity && !self.is_left => {}
            // Removed, or another process's.
            _ => return,
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!("cannot remove the socket {}: {error}", self.path.display());
        }
    }
}

/// Device and inode.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_the_file_of_its_own_goes_with_it() {
        let path = std::env::temp_dir().join(format!("corelane-file-{}", std::process::id()));
        let ours = UnixListener::bind(&path).expect("bind");
        drop(SocketFile::at(&path).expect("a file"));
        assert!(!path.exists(), "removed with its owner");

        let _again = UnixListener::bind(&path).expect("bind");
        let file = SocketFile::at(&path).expect("a file");
        fs::remove_file(&path).expect("remove");
        let _anothers = UnixListener::bind(&path).expect("bind");
        drop(file);
        assert!(path.exists(), "it is another's by now");
        fs::remove_file(&path).expect("remove");
        drop(ours);
        assert!(SocketFile::at(&path).is_err(), "there is none");
    }
}
