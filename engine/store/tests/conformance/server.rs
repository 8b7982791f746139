//! Where is a PostgreSQL to test with? The tests start their own, and it ends with them.
//!
//! Never uses one that is there already, and never listens on a port: its socket is a file.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use crate::ground::directory;

/// The port of PostgreSQL, which is part of a socket's name too.
const STANDARD_PORT: u16 = 5432;

/// A server, and where it keeps everything. It ends when this is dropped, or the test's process is gone, however that came.
pub(crate) struct Server {
    programs: PathBuf,
    owner: Option<(u32, u32)>,
    data: PathBuf,
    sockets: PathBuf,
    port: u16,
    _lifeline: ChildStdin,
}

impl Server {
    /// The one that all tests of this program share.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| Self::start("fsync = off"))
    }

    /// Starts one with lines of postgresql.conf.
    pub(crate) fn start(lines: &str) -> Self {
        Self::start_at(STANDARD_PORT, lines)
    }

    /// Starts one that can also be reached by TCP, in the clear and by TLS.
    pub(crate) fn start_private(certificate: &Path, key: &Path) -> Self {
        // Whoever asks the kernel for a port gives it back before the server has it.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        drop(listener);
        if let Some((user, group)) = owner() {
            chown(key, Some(user), Some(group)).expect("root may give away");
        }
        let (certificate, key) = (certificate.display(), key.display());
        let lines = format!("ssl = on\nssl_cert_file = '{certificate}'\nssl_key_file = '{key}'");
        Self::start_at(port, &format!("listen_addresses = '127.0.0.1'\nport = {port}\nfsync = off\n{lines}"))
    }

    fn start_at(port: u16, lines: &str) -> Self {
        let mut server = Self::prepare();
        server.port = port;
        let initdb = ["-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale", "C", "-D"];
        run(server.program("initdb").args(initdb).arg(&server.data));
        server.configure(&format!("listen_addresses = ''\nmax_connections = 300\n{lines}"));
        server.begin();
        server
    }

    /// Starts another that follows this one.
    pub(crate) fn start_standby(&self) -> Self {
        let server = Self::prepare();
        let copy = ["-U", "postgres", "-c", "fast", "--no-sync", "-R", "-h"];
        run(self.program("pg_basebackup").args(copy).arg(&self.sockets).arg("-D").arg(&server.data));
        server.begin();
        server
    }

    /// Directories, and who sees to their end.
    fn prepare() -> Self {
        let (programs, owner) = (programs(), owner());
        let dir = directory();
        // The path of a socket has at most 107 bytes, and that of a target directory may be longer.
        let sockets = std::env::temp_dir().join(dir.file_name().expect("a directory has a name"));
        fs::create_dir(&sockets).expect("a new directory");
        let data = dir.join("data");
        if let Some((user, group)) = owner {
            for dir in [&dir, &sockets] {
                chown(dir, Some(user), Some(group)).expect("root may give away");
            }
        }
        let lifeline = lifeline(&programs, owner, &data, &[&dir, &sockets]);
        Self { programs, owner, data, sockets, port: STANDARD_PORT, _lifeline: lifeline }
    }

    /// Adds lines to postgresql.conf, for its next start.
    fn configure(&self, lines: &str) {
        let file = self.data.join("postgresql.auto.conf");
        let before = fs::read_to_string(&file).unwrap_or_default();
        fs::write(&file, format!("{before}\n{lines}\n")).expect("the server's configuration can be written");
    }

    /// Starts it, again if it was ended.
    pub(crate) fn begin(&self) {
        let log = self.data.join("server.log");
        let sockets = format!("-c unix_socket_directories={}", self.sockets.display());
        let start = ["start", "-w", "-s", "-t", "60", "-o", &sockets, "-D"];
        run(self.program("pg_ctl").args(start).arg(&self.data).arg("-l").arg(log));
    }

    /// Ends it: `fast`, or `immediate`, which is as by kill -9.
    pub(crate) fn end(&self, mode: &str) {
        run(self.program("pg_ctl").args(["stop", "-w", "-s", "-t", "60", "-m", mode, "-D"]).arg(&self.data));
    }

    /// Stops all of it where it stands (SIGSTOP).
    pub(crate) fn stop(&self) {
        // The first one first: it makes the others.
        let first = self.first_process().expect("it runs");
        send(first, Signal::STOP);
        children_of(first).into_iter().for_each(|process| send(process, Signal::STOP));
    }

    /// Has it go on (SIGCONT).
    pub(crate) fn go_on(&self) {
        let first = self.first_process().expect("it runs");
        children_of(first).into_iter().chain([first]).for_each(|process| send(process, Signal::CONT));
    }

    /// None while it is ended.
    fn first_process(&self) -> Option<i32> {
        let file = fs::read_to_string(self.data.join("postmaster.pid")).ok()?;
        file.lines().next()?.parse().ok()
    }

    /// Where its files are.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// An empty database of its own.
    pub(crate) fn create_database(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("cluster{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.say("postgres", &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    /// The URL of one of its databases.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@localhost:{}/{database}?host={}", self.port, self.sockets.display())
    }

    /// The same by TCP.
    pub(crate) fn url_of(&self, host: &str, database: &str) -> String {
        format!("postgres://postgres@{host}:{}/{database}", self.port)
    }

    /// Has it do something, by a client that is not ours; what it answers.
    pub(crate) fn say(&self, database: &str, sql: &str) -> String {
        let mut psql = self.program("psql");
        run(psql
            .args(["-XqAt", "-U", "postgres", "-d", database, "-c", sql])
            .args(["-p", &self.port.to_string(), "-h"])
            .arg(&self.sockets))
    }

    fn program(&self, name: &str) -> Command {
        program(&self.programs, self.owner, name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A test that failed while it was stopped leaves it so, and what is stopped does not end when it is told to.
        if self.first_process().is_some() {
            self.go_on();
        }
    }
}

/// One of PostgreSQL's programs; they refuse to run as root.
fn program(programs: &Path, owner: Option<(u32, u32)>, name: &str) -> Command {
    let mut command = Command::new(programs.join(name));
    command.stdin(Stdio::null()).env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin").current_dir("/");
    if let Some((user, group)) = owner {
        command.uid(user).gid(group);
    }
    command
}

/// A process that waits until we are gone, and then ends the server by the id in its file and removes its directories.
fn lifeline(programs: &Path, owner: Option<(u32, u32)>, data: &Path, dirs: &[&Path]) -> ChildStdin {
    let script = "cat >/dev/null; \"$0\" stop -s -m immediate -D \"$1\" 2>/dev/null; shift; rm -rf \"$@\"";
    let mut shell = program(Path::new("/bin"), owner, "sh");
    shell.arg("-c").arg(script).arg(programs.join("pg_ctl")).arg(data).args(dirs);
    // A signal to the tests, such as Ctrl-C, is not for it; and nobody waits for its output.
    shell.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    shell.spawn().expect("a shell").stdin.take().expect("it was asked for")
}

fn send(process: i32, signal: Signal) {
    let process = Pid::from_raw(process).expect("a number above 0");
    match rustix::process::kill_process(process, signal) {
        // A child that has ended meanwhile needs no signal.
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => panic!("{signal:?} to {process:?}: {error}"),
    }
}

/// Processes that a process has made and that are there still.
fn children_of(parent: i32) -> Vec<i32> {
    let processes = fs::read_dir("/proc").expect("processes").flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_child = |process: &i32| {
        // proc(5): after the name, which ends with the last parenthesis, come the state and the parent.
        let line = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let after = line.rsplit_once(") ").map_or("", |(_, after)| after);
        after.split(' ').nth(1).is_some_and(|number| number == parent.to_string())
    };
    numbers.filter(is_child).collect()
}

/// The newest PostgreSQL of this host.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let number = |dir: &PathBuf| dir.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let newest = versions.map(|entry| entry.path()).max_by_key(number).map(|dir| dir.join("bin"));
    match newest {
        Some(dir) if dir.join("initdb").exists() => dir,
        _ => panic!("PostgreSQL is not installed: `apt-get install postgresql`, which ./test does too"),
    }
}

/// Whose a server is, when we are root: the user that the package has made.
fn owner() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("users");
    let fields: Vec<_> = users
        .lines()
        .find(|line| line.starts_with("postgres:"))
        .expect("a user postgres")
        .split(':')
        .collect();
    Some((fields[2].parse().expect("a number"), fields[3].parse().expect("a number")))
}

/// Runs it to its end, which must be a good one; what it said. Its output goes through files: a server that it leaves behind would keep a
/// pipe open.
pub(crate) fn run(command: &mut Command) -> String {
    let dir = directory();
    let (out, err) = (dir.join("out"), dir.join("err"));
    let file = |path: &Path| File::create(path).expect("a new file");
    let status = command.stdout(file(&out)).stderr(file(&err)).status();
    let status = status.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let read = |path: &Path| fs::read_to_string(path).expect("text");
    assert!(status.success(), "{command:?}: {status}\n{}{}", read(&out), read(&err));
    let said = read(&out).trim_end().to_owned();
    fs::remove_dir_all(dir).expect("it is ours");
    said
}
