//! Who is this among others, and where is what they share?
//!
//! Never what a request is decided by: a node's processes differ in nothing that a client could see.

use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use crate::value::duration::Timespan;

/// Who this is.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct Node {
    /// Node ID: 1 to 30 of `A-Z a-z 0-9 _ - .`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_.-]{1,30}$|\$\{"), example = &"edge")]
    pub id: String,
    /// Which of the node's processes serve: all of them, or one at a time while the others stand by.
    #[schemars(example = &"active_passive")]
    pub mode: Mode,
    /// How long the word of a process counts that is not heard of any more: after that others take it for gone, and another one
    /// serves where only one does. 1s to 5m.
    #[schemars(example = &"5s")]
    pub lease: Timespan,
    /// How often a process asks the store what has changed, and says that it is there. At most a quarter of `lease`. 50ms to 30s.
    #[schemars(example = &"200ms")]
    pub poll: Timespan,
    /// How long a process that drains says so on `/endpoint-health` before it closes its listeners: as long as balancers in front
    /// need to notice. 0s to 5m.
    #[schemars(example = &"5s")]
    pub drain_delay: Timespan,
    /// Added to every port of this process alone, admin's too, as `--port-offset` is; never goes into the store. 0 to 65535.
    #[schemars(range(min = 0, max = 65_535), example = 10_000)]
    pub server_port_offset: u16,
}

/// Which processes of a node serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// All of them.
    #[default]
    ActiveActive,
    /// One at a time, the holder of the node's lease.
    ActivePassive,
}

/// Where the processes of a cluster keep what they share. Each process is told of it; it never goes into the store itself.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Store {
    /// `sqlite:PATH` for processes of one host, `postgres://USER@HOST/DATABASE` for those of several.
    #[serde(serialize_with = "without_password")]
    #[schemars(example = &"sqlite:state/cluster.db")]
    pub url: String,
    /// File of the key that secrets in the store are encrypted with, the same for all processes; made when it is not there. Left
    /// out, it stands beside the database of `sqlite:PATH`, as `PATH.key`; with `postgres://` there is none then, and nothing secret is shared.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "String", example = &"state/store.key")]
    pub key_file: Option<String>,
    /// Where this process keeps a copy of the last configuration that it ran, to start from while the store is away.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "String", example = &"state")]
    pub state_dir: Option<String>,
    /// How long an answer of the store is waited for. 100ms to 1m.
    #[schemars(default = "timeout_default", example = &"2s")]
    pub timeout: Timespan,
    /// Connections to the store.
    #[schemars(default)]
    pub connectionpool: ConnectionPool,
}

/// Connections to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct ConnectionPool {
    /// As many as there may be. 1 to 100.
    #[schemars(range(min = 1, max = 100), example = 4)]
    pub maxtotal: u32,
    /// As many as are kept that nobody uses, at most `maxtotal`. 0 to 100.
    #[schemars(range(min = 0, max = 100), example = 1)]
    pub maxidle: u32,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            id: "gateway".to_owned(),
            mode: Mode::default(),
            lease: Timespan::from_secs(3),
            poll: Timespan::from_millis(500),
            drain_delay: Timespan::from_secs(0),
            server_port_offset: 0,
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self {
            url: String::new(),
            key_file: None,
            state_dir: None,
            timeout: timeout_default(),
            connectionpool: ConnectionPool::default(),
        }
    }
}

impl Default for ConnectionPool {
    fn default() -> Self {
        Self { maxtotal: 8, maxidle: 2 }
    }
}

fn timeout_default() -> Timespan {
    Timespan::from_secs(3)
}

/// What is written out must not tell the password to whoever reads it.
fn without_password<S: Serializer>(url: &str, serializer: S) -> Result<S::Ok, S::Error> {
    let Some((before, rest)) = url.split_once("://") else { return serializer.serialize_str(url) };
    // Of the part before the path, what stands before its last @, and of that what stands behind the first colon.
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    match authority.rfind('@').and_then(|at| authority[..at].find(':').map(|colon| (colon, at))) {
        Some((colon, at)) => {
            serializer.serialize_str(&format!("{before}://{}:***{}", &rest[..colon], &rest[at..]))
        }
        None => serializer.serialize_str(url),
    }
}
