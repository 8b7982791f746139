//! Do real clients notice that a TCP listener stands between them and their server? PostgreSQL, Redis, iperf3, SSH.
//!
//! Never compares with what a server ought to say, only with what the same client is told without the engine.

mod common;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use common::engine::{Driver, Engine};
use common::{eventually, on_both_drivers};
use rustix::process::{Pid, Signal, geteuid, kill_process};

/// The user that PostgreSQL's Debian package makes; the server refuses to be root.
const POSTGRES_USER: &str = "postgres";

/// A directory of a test's own, gone when dropped.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // Short, and open to other users: a server's Unix socket lies in it, and not every server is ours.
        let dir = std::env::temp_dir().join(format!("corelane-{name}-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).expect("a writable directory");
        Self(dir)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn text(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server of somebody else's, ended when dropped.
struct Server {
    process: Child,
    address: SocketAddr,
    dir: Dir,
}

impl Server {
    /// Starts `command` and waits until it accepts at `address`.
    #[track_caller]
    fn start(command: &mut Command, address: SocketAddr, dir: Dir) -> Self {
        let log = fs::File::create(dir.file("log")).expect("a writable directory");
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let program = command.get_program().display().to_string();
        let process = process.unwrap_or_else(|error| panic!("this test needs {program}: {error}"));
        let mut server = Self { process, address, dir };
        eventually("the server accepts", || {
            let log = || fs::read_to_string(server.dir.file("log")).unwrap_or_default();
            assert!(matches!(server.process.try_wait(), Ok(None)), "{program} has ended: {}", log());
            is_listened_at(address)
        });
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // PostgreSQL leaves shared memory and children behind when it is killed.
        let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
        let _ = self.process.wait();
    }
}

/// Whether somebody listens there, found out without a connection: to some servers that is a client.
fn is_listened_at(address: SocketAddr) -> bool {
    let sockets = fs::read_to_string("/proc/net/tcp").expect("Linux");
    let listening = format!(" 0100007F:{:04X} 00000000:0000 0A ", address.port());
    sockets.contains(&listening)
}

/// A port that was free a moment ago: most servers cannot tell which one they were given.
fn free_address() -> SocketAddr {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr());
    free.expect("a port")
}

/// An engine on two cores whose listener `db` leads to `server`.
#[track_caller]
fn engine_before(driver: Driver, server: SocketAddr) -> Engine {
    let config = format!(
        "[listener.db]\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nupstream = \"server\"\n\
         [upstream.server]\nendpoints = [\"{server}\"]\n"
    );
    Engine::start_on_cores(driver, 2, config)
}

/// What a client says that must succeed.
#[track_caller]
fn said(command: &mut Command) -> String {
    let program = command.get_program().display().to_string();
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("this test needs {program}: {error}"));
    let Output { status, stdout, stderr } = output;
    assert!(status.success(), "{program}: {status}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8_lossy(&stdout).into_owned()
}

/// Runs a program of PostgreSQL, which lie apart from others, as a user that its server takes.
fn postgres_program(name: &str) -> Command {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let dir = versions.map(|version| version.path().join("bin")).find(|bin| bin.join(name).exists());
    let program = dir.unwrap_or_else(|| panic!("this test needs {name} (Debian: postgresql)")).join(name);
    if !geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    let user = ["--reuid", POSTGRES_USER, "--regid", POSTGRES_USER, "--clear-groups"];
    command.args(user).arg(program);
    command
}

fn postgres() -> Server {
    let dir = Dir::new("postgres");
    if geteuid().is_root() {
        let id = said(Command::new("id").args(["-u", POSTGRES_USER])).trim().parse().expect("a number");
        chown(&dir.0, Some(id), None).expect("root may");
    }
    let data = dir.text("data");
    said(postgres_program("initdb").args(["-D", &data, "-U", "test", "-A", "trust", "--no-sync"]));
    let address = free_address();
    let mut command = postgres_program("postgres");
    command.args(["-D", &data, "-h", "127.0.0.1", "-p", &address.port().to_string()]);
    command.args(["-k", &dir.0.display().to_string(), "-c", "fsync=off"]);
    Server::start(&mut command, address, dir)
}

fn psql(server: SocketAddr, arguments: &[&str]) -> Output {
    Command::new("psql")
        .args(["-X", "-U", "test", "-d", "postgres", "-h", &server.ip().to_string()])
        .args(["-p", &server.port().to_string()])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("this test needs psql (Debian: postgresql-client): {error}"))
}

#[test]
fn psql_and_pgbench_see_the_same_database() {
    let server = postgres();
    on_both_drivers(|driver| {
        let engine = engine_before(driver, server.address);
        let db = engine.listener("db");
        // Small ones, one of 10 MB, an error, and a connection that the server ends.
        for query in [
            "select 1",
            "select version()",
            "select i, md5(i::text), repeat('x', 80) from generate_series(1, 80000) i",
            "select 1 / 0",
            "select pg_terminate_backend(pg_backend_pid())",
        ] {
            let (direct, through) = (psql(server.address, &["-c", query]), psql(db, &["-c", query]));
            assert_eq!(direct, through, "{query}");
        }
        // Everything at once through the copy protocol, up and down.
        let table = format!("copied_{}", engine.pid().as_raw_nonzero());
        let rows = server.dir.text("rows");
        let text: String = (0..100_000).map(|row| format!("{row}\trow number {row}\n")).collect();
        fs::write(&rows, &text).expect("a writable directory");
        let copied = psql(
            db,
            &[
                "-q",
                "-c",
                &format!("create table {table} (i int, t text)"),
                "-c",
                &format!("\\copy {table} from {rows}"),
            ],
        );
        assert!(copied.status.success(), "{copied:?}");
        let down = psql(db, &["-c", &format!("\\copy (select * from {table} order by i) to stdout")]);
        assert_eq!(String::from_utf8_lossy(&down.stdout), text);

        let pgbench = |arguments: &[&str]| {
            let mut command = postgres_program("pgbench");
            command.args(["-h", "127.0.0.1", "-p", &db.port().to_string(), "-U", "test"]);
            said(command.args(arguments).arg("postgres"))
        };
        pgbench(&["-i", "-s", "1", "-q"]);
        for mode in [&["-S"][..], &["-N"], &["-S", "-C"]] {
            let report = pgbench(&[mode, &["-c", "8", "-t", "100"]].concat());
            assert!(report.contains("transactions actually processed: 800/800"), "{mode:?}: {report}");
            assert!(report.contains("number of failed transactions: 0 "), "{mode:?}: {report}");
        }
    });
}

#[test]
fn redis_benchmark_runs_every_test_with_and_without_pipelining() {
    let dir = Dir::new("redis");
    let address = free_address();
    let port = address.port().to_string();
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no"]);
    command.args(["--dir", &dir.0.display().to_string()]);
    let server = Server::start(&mut command, address, dir);
    on_both_drivers(|driver| {
        let engine = engine_before(driver, server.address);
        let tests = |server: SocketAddr, pipeline: &str| -> Vec<String> {
            let port = server.port().to_string();
            let mut command = Command::new("redis-benchmark");
            command.args(["-h", "127.0.0.1", "-p", &port, "-n", "2000", "-c", "50", "-P", pipeline, "--csv"]);
            // A name, and figures that no two runs share; a test that failed has no line.
            said(&mut command).lines().filter_map(|line| Some(line.split(',').next()?.to_owned())).collect()
        };
        for pipeline in ["1", "16"] {
            let through = tests(engine.listener("db"), pipeline);
            assert!(through.len() > 15, "{through:?}");
            assert_eq!(tests(server.address, pipeline), through);
        }
        // What was said arrived: the values are there.
        let size = |server: SocketAddr| {
            said(Command::new("redis-cli").args(["-p", &server.port().to_string(), "dbsize"]))
        };
        assert_eq!(size(server.address), size(engine.listener("db")));
    });
}

#[test]
fn iperf3_moves_bulk_both_ways_over_one_connection_and_over_several() {
    on_both_drivers(|driver| {
        for (arguments, bytes) in [
            (&["-n", "256M"][..], 256 << 20),
            (&["-n", "256M", "-R"], 256 << 20),
            (&["-n", "64M", "-P", "4"], 64 << 20),
        ] {
            // One for each run: between two of them it refuses clients for a moment.
            let dir = Dir::new("iperf3");
            let address = free_address();
            let mut command = Command::new("iperf3");
            command.args(["-s", "-B", "127.0.0.1", "-p", &address.port().to_string()]);
            let server = Server::start(&mut command, address, dir);
            let engine = engine_before(driver, server.address);
            let mut command = Command::new("iperf3");
            command.args(["-c", "127.0.0.1", "-p", &engine.listener("db").port().to_string(), "-J"]);
            let report = said(command.args(arguments));
            let report: serde_json::Value = serde_json::from_str(&report).expect("a report in JSON");
            assert_eq!(report.get("error"), None, "{report:#}");
            let moved =
                |end: &str| report.pointer(&format!("/end/{end}/bytes")).and_then(|bytes| bytes.as_u64());
            // It stops counting at the receiver's end when the sender has sent its last, with or without us.
            assert!(moved("sum_sent").is_some_and(|sent| sent >= bytes), "{arguments:?}: {report:#}");
            assert!(
                moved("sum_received").is_some_and(|received| received > bytes / 4),
                "{arguments:?}: {report:#}"
            );
        }
    });
}

#[test]
fn a_file_goes_there_and_back_by_scp() {
    let dir = Dir::new("ssh");
    let key = |name: &str| {
        let path = dir.text(name);
        said(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &path]));
        path
    };
    let (host_key, user_key) = (key("host"), key("user"));
    fs::copy(format!("{user_key}.pub"), dir.file("authorized")).expect("a writable directory");
    fs::set_permissions(dir.file("authorized"), fs::Permissions::from_mode(0o600)).expect("our file");
    let address = free_address();
    let config = format!(
        "ListenAddress {address}\nHostKey {host_key}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
         UsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n\
         Subsystem sftp internal-sftp\n",
        dir.text("authorized")
    );
    fs::write(dir.file("sshd_config"), config).expect("a writable directory");
    // It changes its root there, and its package makes the directory only when it runs as a service.
    if geteuid().is_root() {
        fs::create_dir_all("/run/sshd").expect("root may");
    }
    let sshd = ["/usr/sbin/sshd", "/usr/bin/sshd"].into_iter().find(|path| Path::new(path).exists());
    let mut command = Command::new(sshd.expect("this test needs sshd (Debian: openssh-server)"));
    command.args(["-D", "-e", "-f", &dir.text("sshd_config")]);
    let server = Server::start(&mut command, address, dir);

    let sent = server.dir.file("sent");
    let bytes: Vec<u8> = (0_u32..6_000_000).flat_map(u32::to_le_bytes).collect();
    fs::write(&sent, &bytes).expect("a writable directory");
    on_both_drivers(|driver| {
        let engine = engine_before(driver, server.address);
        let port = engine.listener("db").port().to_string();
        let options =
            ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"];
        let user = said(Command::new("id").arg("-un"));
        let there = server.dir.file("there");
        let remote = format!("{}@127.0.0.1:{}", user.trim(), there.display());
        let back = server.dir.text("back");
        let sent = sent.display().to_string();
        for (from, to) in [(&sent, &remote), (&remote, &back)] {
            let mut command = Command::new("scp");
            command.args(["-q", "-F", "none", "-i", &user_key, "-P", &port]).args(options);
            said(command.args([from, to]));
        }
        assert!(fs::read(server.dir.file("back")).expect("a file") == bytes, "other bytes came back");
        let mut command = Command::new("ssh");
        command.args(["-F", "none", "-i", &user_key, "-p", &port]).args(options);
        let exit = command.args([&format!("{}@127.0.0.1", user.trim()), "exit 7"]).status().expect("ssh");
        assert_eq!(exit.code(), Some(7));
        for file in ["there", "back"] {
            fs::remove_file(server.dir.file(file)).expect("a file");
        }
    });
}
