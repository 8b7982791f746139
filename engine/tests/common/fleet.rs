//! What stands behind an engine that is to survive its loss? Origins as processes that can be killed, stopped, started again
//! or cut off, with one account of what any of them was sent; and the load that must not notice.
//!
//! Never loses a delivery: what an origin was sent is in a file before it answers, whatever becomes of it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// `loadgen`, which the workspace builds beside the engine.
fn loadgen() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_engine")).with_file_name("loadgen");
    assert!(path.exists(), "no {}: cargo build -p corelane-loadgen --bins", path.display());
    path
}

fn scratch(name: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{number}-{name}", std::process::id()))
}

/// Far beyond what any test takes.
const LOAD_MAX: &str = "10m";

/// An address of the loopback network for one server alone.
pub(crate) fn own_address() -> Ipv4Addr {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    let [.., high, low] = COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    Ipv4Addr::new(127, 1 + (std::process::id() % 250) as u8, high, low)
}

/// An account of deliveries, and who reports of it.
pub(crate) struct Account {
    file: PathBuf,
    clerk: Option<Member>,
}

impl Account {
    pub(crate) fn open() -> Self {
        let mut account = Self { file: scratch("ids"), clerk: None };
        account.clerk = Some(account.member());
        account
    }

    /// An origin that writes to it, at an address of the loopback network that is nobody else's: its port is free again when
    /// it is gone.
    pub(crate) fn member(&self) -> Member {
        Member::start(&self.file, &format!("{}:0", own_address()), None)
    }

    /// One on a host of its own.
    pub(crate) fn member_on(&self, host: &Host) -> Member {
        Member::start(&self.file, &format!("{}:0", host.address), Some(&host.namespace))
    }

    /// An origin that is sent nothing and never dies.
    fn clerk(&self) -> SocketAddr {
        self.clerk.as_ref().expect("there is always one").address
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
    }
}

/// An origin, killed when dropped.
pub(crate) struct Member {
    pub(crate) address: SocketAddr,
    file: PathBuf,
    namespace: Option<String>,
    child: Child,
}

impl Member {
    fn start(file: &Path, listen: &str, namespace: Option<&str>) -> Self {
        let mut command = match namespace {
            None => Command::new(loadgen()),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(loadgen());
                command
            }
        };
        // A ring outlives its process for a moment, and its sockets with it.
        command.args(["origin", "--driver", "epoll", "--ids", "--listen", listen, "--ids-file"]).arg(file);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("loadgen can be run");
        let mut line = String::new();
        let mut said = BufReader::new(child.stdout.take().expect("piped"));
        said.read_line(&mut line).expect("a line about where it listens");
        let address = line.trim().rsplit_once("://").and_then(|(_, address)| address.parse().ok());
        Self {
            address: address.unwrap_or_else(|| panic!("the origin at {listen} said {line:?}")),
            file: file.to_owned(),
            namespace: namespace.map(str::to_owned),
            child,
        }
    }

    /// Ends it the way `signal` does.
    pub(crate) fn end(&mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
        self.child.wait().expect("our child");
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Starts it again where it was.
    pub(crate) fn start_again(&mut self) {
        let again = Self::start(&self.file, &self.address.to_string(), self.namespace.as_deref());
        *self = again;
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A host of its own on this machine: a network namespace with an address and a cable, which can be cut.
pub(crate) struct Host {
    namespace: String,
    address: String,
}

impl Host {
    /// # Errors
    /// Why this machine has no room for one: it takes root, `ip` and leave to make namespaces.
    pub(crate) fn make() -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let namespace = format!("corelane-test-{process}-{number}");
        // 198.18.0.0/15 is for tests of networks (RFC 2544).
        let network = format!("198.18.{}.{}", process % 256, number % 64 * 4);
        let (stem, last) = network.rsplit_once('.').expect("four numbers");
        let last: u32 = last.parse().expect("a number");
        let [here, there] = [1, 2].map(|end| format!("{stem}.{}", last + end));
        ip(&["netns", "add", &namespace])?;
        let host = Self { namespace: namespace.clone(), address: there.clone() };
        let cable = format!("clt{:x}n{number}", process % 0xffff);
        ip(&["link", "add", &cable, "type", "veth", "peer", "name", "eth0", "netns", &namespace])?;
        ip(&["address", "add", &format!("{here}/30"), "dev", &cable])?;
        ip(&["link", "set", &cable, "up"])?;
        ip(&["-n", &namespace, "address", "add", &format!("{there}/30"), "dev", "eth0"])?;
        host.connect(true);
        Ok(host)
    }

    /// Connects the cable, or cuts it.
    pub(crate) fn connect(&self, is_connected: bool) {
        let state = if is_connected { "up" } else { "down" };
        ip(&["-n", &self.namespace, "link", "set", "eth0", state]).expect("it could be made");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = ip(&["netns", "del", &self.namespace]);
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let done = Command::new("ip").args(arguments).stdin(Stdio::null()).output();
    let done = done.map_err(|error| format!("ip: {error}"))?;
    let said = String::from_utf8_lossy(&done.stderr);
    if done.status.success() { Ok(()) } else { Err(format!("ip {}: {said}", arguments.join(" "))) }
}

/// What `loadgen` said of one run.
#[derive(Debug)]
pub(crate) struct Run {
    json: Value,
}

impl Run {
    #[track_caller]
    pub(crate) fn count(&self, pointer: &str) -> u64 {
        let value = self.json.pointer(pointer).and_then(Value::as_u64);
        value.unwrap_or_else(|| panic!("no count {pointer} in {:#}", self.json))
    }

    pub(crate) fn sent(&self) -> u64 {
        self.count("/requests/sent")
    }

    /// Failures of one kind.
    pub(crate) fn errors(&self, kind: &str) -> u64 {
        self.json["errors"]["by_kind"].get(kind).and_then(Value::as_u64).unwrap_or(0)
    }

    /// Failures by kind.
    pub(crate) fn failures(&self) -> String {
        format!("{} of statuses {}", self.json["errors"]["by_kind"], self.json["statuses"])
    }
}

/// A load under way.
pub(crate) struct Load {
    child: Child,
    json: PathBuf,
}

impl Load {
    /// `rate` requests a second until it is told to finish, each counted in `account`.
    pub(crate) fn start(account: &Account, engine: SocketAddr, method: &str, rate: u32) -> Self {
        let json = scratch("summary.json");
        let mut command = Command::new(loadgen());
        command
            .arg(format!("http://{engine}/"))
            .args(["-m", method, "-c", "64", "-t", "1", "--ids", "--ids-at"])
            .arg(format!("http://{}", account.clerk()))
            .args(["--rate", &rate.to_string(), "-d", LOAD_MAX, "--grace", "10s", "--json"])
            .arg(&json);
        if method == "POST" {
            command.args(["--body", "an effect"]);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self { child: child.expect("loadgen can be run"), json }
    }

    /// Ends it as Ctrl-C does: what was sent is waited for.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Run {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("it goes on until it is told");
        self.child.wait().expect("our child");
        let text = fs::read_to_string(&self.json).expect("a summary");
        let _ = fs::remove_file(&self.json);
        Run { json: serde_json::from_str(&text).expect("JSON") }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
