//! What is started again when the process is to be replaced? What its operator has started, by the name that he gave it.
//!
//! Never the file that runs now: whoever installs a new version puts another in its place, under the same name.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Tells a process whose place it is to take: the number of its parent. Its standard input is the connection to it then.
pub(crate) const PREDECESSOR: &str = "CORELANE_PREDECESSOR";

/// What was said to this process alone: sd_listen_fds(3), sd_watchdog_enabled(3). Without `WATCHDOG_PID` the rest about the
/// watchdog is for whoever reads it.
const NOT_INHERITED: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// The file that runs now, by whatever name.
const SELF: &str = "/proc/self/exe";

/// How the process was started. Its environment and its directory are what they were.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    /// As which it was called.
    name: OsString,
    arguments: Vec<OsString>,
}

impl Program {
    /// How this process was started. To be asked for at its beginning: later there may be another file of its name.
    ///
    /// # Errors
    /// When the kernel does not tell what runs.
    pub fn of_this_process() -> io::Result<Self> {
        let mut arguments = env::args_os();
        let name = arguments.next().unwrap_or_default();
        let directory = env::current_dir().unwrap_or_default();
        let named = candidates(&name, &directory, env::var_os("PATH").as_deref());
        let path = match named.into_iter().find(|path| is_this_program(path)) {
            Some(path) => path,
            // Called by a name that is not the program's, as a shell's `exec -a` does.
            None => env::current_exe()?,
        };
        Ok(Self { path, name, arguments: arguments.collect() })
    }

    /// What is started: whatever is there then.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Starts it, with `connection` as its standard input.
    ///
    /// # Errors
    /// When there is no such file, or it cannot be run.
    pub(crate) fn start(&self, connection: OwnedFd) -> io::Result<Child> {
        let mut command = Command::new(&self.path);
        command.arg0(&self.name).args(&self.arguments).stdin(Stdio::from(connection));
        command.env(PREDECESSOR, std::process::id().to_string());
        for name in NOT_INHERITED {
            command.env_remove(name);
        }
        command.spawn()
    }
}

/// Where the program may be that was called `name`, as execvp(3) looks for it.
fn candidates(name: &OsStr, directory: &Path, path: Option<&OsStr>) -> Vec<PathBuf> {
    if name.is_empty() {
        return Vec::new();
    }
    if name.as_bytes().contains(&b'/') {
        return vec![directory.join(name)];
    }
    let folders = path.map(env::split_paths).into_iter().flatten();
    folders.map(|folder| directory.join(folder).join(name)).collect()
}

fn is_this_program(path: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
    matches!((identity(path), identity(Path::new(SELF))), (Ok(there), Ok(here)) if there == here)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_looked_for_as_it_was_called() {
        let check = |name: &str, expected: &[&str]| {
            let found = candidates(name.as_ref(), Path::new("/home"), Some("/usr/bin:bin".as_ref()));
            assert_eq!(found, expected.iter().map(PathBuf::from).collect::<Vec<_>>());
        };
        check("/opt/current/engine", &["/opt/current/engine"]);
        check("./engine", &["/home/./engine"]);
        check("engine", &["/usr/bin/engine", "/home/bin/engine"]);
        check("", &[]);
    }

    #[test]
    fn this_program_is_found_whatever_it_is_called() {
        let program = Program::of_this_process().expect("it runs");
        assert!(is_this_program(program.path()), "{}", program.path().display());
        assert!(!is_this_program(Path::new("/bin/sh")));
    }
}
