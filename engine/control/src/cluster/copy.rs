//! What does a process start from while the store is away? From a copy of the last configuration that its node ran here.
//!
//! Never half a copy: a file is written beside, brought to the disk and put in place whole. Never read by anyone but its owner: a
//! configuration may hold what others are not to know.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};

/// Only its owner reads and writes it.
const FILE_MODE: u32 = 0o600;
/// Only its owner looks into it.
const DIRECTORY_MODE: u32 = 0o700;

/// A configuration that ran, with what has to be known to run it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Copy {
    /// Of which node.
    pub(crate) node: String,
    /// Its number among the node's versions.
    pub(crate) version: u64,
    /// The document as the store has it.
    pub(crate) document: String,
    /// Modules that were stopped.
    pub(crate) stopped: BTreeSet<String>,
}

/// Where a process keeps its copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CopyFile(PathBuf);

impl CopyFile {
    /// Of a node of the cluster whose store is `shown`, a URL without its password. Processes of one node share it: their copies are alike.
    pub(crate) fn of(state_dir: &Path, node: &str, shown: &str) -> Self {
        Self(state_dir.join(format!("{node}-{:016x}.copy.json", fnv1a(shown.as_bytes()))))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The copy, if there is one.
    ///
    /// # Errors
    /// When a file is there that cannot be read, or is no copy of this node.
    pub(crate) fn read(&self, node: &str) -> io::Result<Option<Copy>> {
        let text = match fs::read(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        let copy: Copy = serde_json::from_slice(&text)?;
        if copy.node != node {
            let cause = format!("it is a copy of node {}", copy.node);
            return Err(io::Error::new(io::ErrorKind::InvalidData, cause));
        }
        Ok(Some(copy))
    }

    /// Puts a copy in the place of the one that is there. Waits for the disk.
    ///
    /// # Errors
    /// When it cannot be written; the one that was there is still.
    pub(crate) fn write(&self, copy: &Copy) -> io::Result<()> {
        /// Several processes, and several threads of a test, write beside one another.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let directory = self.0.parent().unwrap_or(Path::new("."));
        if !directory.exists() {
            fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory)?;
        }
        let beside = self.0.with_extension(format!(
            "{}-{}.new",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        ));
        let written = write_whole(&beside, copy).and_then(|()| fs::rename(&beside, &self.0));
        if let Err(error) = written {
            // It may never have been made.
            let _ = fs::remove_file(&beside);
            return Err(error);
        }
        // The name is in the directory only once that is on the disk.
        File::open(directory)?.sync_all()
    }
}

fn write_whole(path: &Path, copy: &Copy) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
    file.write_all(&serde_json::to_vec(copy)?)?;
    file.sync_all()
}

/// FNV-1a, so that two clusters of one host do not share a file.
pub(super) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn copy(version: u64) -> Copy {
        Copy {
            node: "edge".to_owned(),
            version,
            document: "{ \"listener\": {} }".to_owned(),
            stopped: BTreeSet::from(["channel.old".to_owned()]),
        }
    }

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("corelane-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }

        fn files(&self) -> usize {
            fs::read_dir(&self.0).expect("it was made").count()
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_was_written_is_read_and_only_its_owner_may() {
        let directory = Directory::new("copy-read");
        let file = CopyFile::of(&directory.0.join("deep"), "edge", "sqlite:a.db");
        assert_eq!(file.read("edge").expect("nothing is there"), None);
        file.write(&copy(1)).expect("a directory that can be made");
        file.write(&copy(2)).expect("a file that can be replaced");
        assert_eq!(file.read("edge").expect("a copy"), Some(copy(2)));
        let mode = fs::metadata(file.path()).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, FILE_MODE);
        assert_eq!(
            fs::read_dir(directory.0.join("deep")).expect("a directory").count(),
            1,
            "nothing is left beside"
        );
        assert_ne!(file, CopyFile::of(&directory.0.join("deep"), "edge", "sqlite:b.db"));
    }

    #[test]
    fn a_copy_that_is_damaged_or_of_another_node_is_not_used() {
        let directory = Directory::new("copy-damaged");
        let file = CopyFile::of(&directory.0, "edge", "sqlite:a.db");
        file.write(&copy(1)).expect("a directory that can be made");
        assert!(file.read("admin").is_err());
        fs::write(file.path(), "{\"node\": \"edge\", \"ver").expect("a file");
        assert!(file.read("edge").is_err());
    }

    #[test]
    fn a_copy_that_cannot_be_written_leaves_the_one_that_is_there() {
        let directory = Directory::new("copy-full");
        let file = CopyFile::of(&directory.0, "edge", "sqlite:a.db");
        file.write(&copy(1)).expect("a directory that can be made");
        // Nobody can put a file in the place of a directory.
        let other = CopyFile::of(&directory.0, "other", "sqlite:a.db");
        fs::create_dir(other.path()).expect("a directory");
        assert!(other.write(&copy(2)).is_err());
        assert_eq!(file.read("edge").expect("a copy"), Some(copy(1)));
        assert_eq!(directory.files(), 2, "nothing is left beside");
    }
}
