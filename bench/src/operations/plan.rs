//! Which configuration does the gateway get as the Nth? Each is another than the one before, in everything that may change live.
//!
//! Never by chance: the Nth is the same in every run, and every tenth has the shape of the first, so that their memory can be compared.

use std::fmt::Write as _;
use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bench::process::free_addr;

use crate::source::Source;

/// After how many reloads the shape of the configuration is the same.
pub(crate) const PERIOD: usize = 10;
/// Addresses of loopback that the one counting origin is an endpoint at.
const ADDRESSES: usize = 4;

/// What configurations speak of.
pub(crate) struct Places {
    pub(crate) admin: SocketAddr,
    /// Port of the origin that counts, at every address of loopback.
    pub(crate) origin: u16,
    pub(crate) source: Source,
    pub(crate) certificates: [PemFiles; 2],
    /// Further keys of `[process]` and `[node]`.
    pub(crate) process: String,
    pub(crate) node: String,
}

impl Places {
    /// Free ones, with certificates in `dir` that begin with `name`.
    pub(crate) fn find(
        dir: &Path,
        name: &str,
        origin: u16,
        process: String,
        node: String,
    ) -> anyhow::Result<Self> {
        let pem = |which: &str| PemFiles::create(dir, &format!("{name}-{which}"));
        let certificates = [pem("a")?, pem("b")?];
        Ok(Self { admin: free_addr()?, origin, source: Source::start()?, certificates, process, node })
    }
}

/// A certificate and its key.
pub(crate) struct PemFiles {
    certificate: PathBuf,
    key: PathBuf,
}

impl PemFiles {
    /// Makes them in `dir`.
    fn create(dir: &Path, name: &str) -> anyhow::Result<Self> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        let write = |end: &str, text: String| {
            let path = dir.join(format!("{name}.{end}"));
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            // A key that others can read is warned of.
            std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
            anyhow::Ok(path)
        };
        Ok(Self {
            certificate: write("pem", made.cert.pem())?,
            key: write("key", made.signing_key.serialize_pem())?,
        })
    }
}

/// What is to come of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Applied,
    /// It has a mistake, and nothing changes.
    Refused,
}

/// The configuration as the `number`th reload has it, and what is to come of it. The process begins with that of number 0.
pub(crate) fn step(places: &Places, number: usize) -> (String, Expected) {
    let good = configuration(places, number);
    if number % PERIOD != 7 {
        return (good, Expected::Applied);
    }
    let wrong = match number / PERIOD % 4 {
        0 => format!("{good}[channel.broken]\nupstraem = \"app\"\n"),
        1 => format!("{good}[listener.taken]\nbind = \"{}\"\n", places.source.echo),
        2 => good.replace(".pem\"", ".nowhere\""),
        _ => format!("{good}[channel.half\n"),
    };
    (wrong, Expected::Refused)
}

fn configuration(places: &Places, number: usize) -> String {
    let Places { admin, origin, source, process, node, .. } = places;
    // What has another value in each, and what makes another shape.
    let (turn, shape) = (number, number % PERIOD);
    let mut text = format!(
        "[admin]\nbind = \"{admin}\"\n[process]\n{process}\naccept_handoff = {}\n[node]\n{node}\n",
        shape != 4
    );
    add_listeners(&mut text, places, turn, shape);

    // Channels come, go and take other names.
    let name = ["all", "every", "whole"][shape % 3];
    let _ = write!(
        text,
        "[channel.{name}]\nupstream = \"app\"\nresponse_headers = {{ set = {{ X-Number = \"{turn}\" }} }}\n"
    );
    if shape % 2 == 1 {
        let _ = write!(
            text,
            "request_headers = {{ set = {{ X-Turn = \"{turn}\" }} }}\nconcurrency = {{ channel = {} }}\n\
             rate = [{{ rate = \"{}/s\", burst = 100000 }}]\n",
            10_000 + turn,
            100_000 + turn
        );
    }
    text += "[channel.long]\npriority = 1\nmatch = { path = \"^/(long/|up|idle)\" }\nupstream = \"long\"\n";
    for extra in 0..shape % 4 {
        let _ = write!(
            text,
            "[channel.more{extra}]\npriority = {}\nmatch = {{ path_prefix = \"/more{extra}/\", host = \"{turn}.example\" }}\n\
             respond = {{ status = 204 }}\n",
            extra + 2
        );
    }

    // One origin at several addresses: each delivery is counted wherever it goes.
    let endpoints: Vec<String> = (0..ADDRESSES)
        .filter(|nth| nth % ADDRESSES != shape % (ADDRESSES + 1))
        .map(|nth| {
            format!("{{ address = \"127.0.0.{}:{origin}\", weight = {} }}", nth + 1, 1 + (turn + nth) % 5)
        })
        .collect();
    let balance = ["round_robin", "least_connections", "random_two", "source_hash", "least_time"][shape % 5];
    let _ = write!(
        text,
        "[upstream.app]\nendpoints = [{}]\nbalance = \"{balance}\"\nidle_timeout = \"{}s\"\n\
         timeouts = {{ connect = \"{}s\", first_byte = \"{}s\" }}\n",
        endpoints.join(", "),
        20 + turn % 7,
        2 + turn % 3,
        20 + turn % 5
    );
    if shape % 3 == 1 {
        let _ = write!(
            text,
            "limits = {{ in_flight = {}, pending = 10000 }}\nretry = {{ tries = 2 }}\n\
             health = {{ protocol = \"tcp\", interval = \"{}ms\" }}\n",
            10_000 + turn,
            500 + turn
        );
    }
    let _ = write!(text, "[upstream.long]\nendpoints = [\"{}\"]\n", source.http);
    if shape % 2 == 0 {
        let _ = writeln!(text, "idle_connections = {}", 100 + turn);
    }
    let _ = write!(text, "[upstream.bytes]\nendpoints = [\"{}\"]\n", source.echo);
    if shape == 3 {
        text += "balance = \"least_connections\"\n";
    }
    text
}

/// Those that the load goes by keep their addresses; what they allow changes. Others come, go, and change what they speak.
fn add_listeners(text: &mut String, places: &Places, turn: usize, shape: usize) {
    let certificate = &places.certificates[turn % 2];
    let tls = format!(
        "tls = {{ certificates = [{{ certificate = \"{}\", key = \"{}\" }}] }}\n",
        certificate.certificate.display(),
        certificate.key.display()
    );
    let _ = write!(
        text,
        "[listener.web]\nbind = \"127.0.0.1:0\"\nbacklog = {}\nlimits = {{ connections = {}, fields = {} }}\n\
         timeouts = {{ head = \"{}s\", idle = \"{}s\" }}\n",
        1024 + turn % 3,
        50_000 + turn,
        90 + turn % 5,
        10 + turn % 3,
        60 + turn % 4
    );
    if shape % 2 == 1 {
        *text += "forwarding = { forwarded = true, via = false }\n";
    }
    let _ = write!(
        text,
        "[listener.tls]\nbind = \"127.0.0.1:0\"\nprotocol = \"https\"\n{tls}\
         [listener.bytes]\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nupstream = \"bytes\"\n\
         timeouts = {{ tunnel = \"{}m\" }}\n",
        30 + turn % 9
    );
    // Visited as long as it is there.
    if shape % 4 < 2 {
        let _ = write!(
            text,
            "[listener.visited]\nbind = \"127.0.0.1:0\"\nlimits = {{ requests = {} }}\n",
            1_000 + turn
        );
    }
    match shape % 3 {
        0 => *text += "[listener.other]\nbind = \"127.0.0.1:0\"\n",
        1 => *text += "[listener.other]\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nupstream = \"bytes\"\n",
        _ => {
            let _ = write!(text, "[listener.other]\nbind = \"127.0.0.1:0\"\nprotocol = \"https\"\n{tls}");
        }
    }
}

/// What the listener `other` speaks by the configuration of this number.
pub(crate) fn other_is_http(number: usize) -> bool {
    (number % PERIOD).is_multiple_of(3)
}
