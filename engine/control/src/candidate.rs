//! What is a process to run next? A configuration that was read and checked, as this process takes it.
//!
//! Never a mistake of its author's: whoever makes one of a text has told those before.

use std::net::SocketAddr;
use std::sync::Arc;

use config::Loaded;
use config::schema::Config;
use config::snapshot::{Admin, Snapshot};
use serde::Serialize;
use utoipa::ToSchema;

/// Where a configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Origin {
    /// The file's name, or what stands in its place.
    pub source: String,
    /// Number in the store, where that is the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// What this process does otherwise than is written, for its command line says so.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalTerms {
    /// Where its admin listener is.
    pub admin: Option<SocketAddr>,
    /// How far up its ports are moved.
    pub port_offset: u16,
}

/// A configuration that could be run: checked, the ports moved, modules taken out that are stopped.
#[derive(Debug)]
pub struct Candidate {
    /// What the cores read.
    pub snapshot: Arc<Snapshot>,
    /// Every key, to tell what is new.
    pub schema: Arc<Config>,
    /// Where it comes from.
    pub origin: Origin,
}

impl Candidate {
    /// What this process makes of a configuration.
    ///
    /// # Errors
    /// An admin listener that everybody could reach and that asks no one who he is; a port that would be above 65535. Each with the
    /// flag or key that it comes from.
    pub fn new(loaded: Loaded, terms: &LocalTerms, origin: Origin) -> Result<Self, String> {
        let Loaded { schema, mut snapshot, warnings: _ } = loaded;
        if let Some(bind) = terms.admin {
            let written = snapshot.admin.take();
            let admin = written.unwrap_or(Admin {
                bind,
                security: None,
                is_open_to_all: false,
                endpoint_series_max: schema.admin.endpoint_series_max,
            });
            let admin = Admin { bind, ..admin };
            if admin.is_exposed() {
                return Err(format!(
                    "--admin {bind}: the admin listener asks no one who he is and could be reached from the network; bind it to \
                     127.0.0.1, or see [admin] security and allow_open in docs/configuration.md"
                ));
            }
            snapshot.admin = Some(admin);
        }
        let (offset, owner) = match (terms.port_offset, schema.node.server_port_offset) {
            (0, written) => (written, "node.server_port_offset"),
            (given, _) => (given, "--port-offset"),
        };
        config::apply_port_offset(&mut snapshot, offset).map_err(|error| format!("{owner}: {error}"))?;
        Ok(Self { snapshot: Arc::new(snapshot), schema: Arc::new(schema), origin })
    }
}
