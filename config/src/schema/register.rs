//! How may a server make itself an endpoint?
//!
//! Nothing here lets anybody in: that is asked at the admin listener, each time.

use schemars::JsonSchema;
use serde::Serialize;

use super::balance::Secret;
use crate::value::duration::Timespan;

/// Servers make themselves endpoints by the admin listener, say again and again that they are there, and are endpoints no longer
/// when they stop; `{}` lets them.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct Register {
    /// How long a server is an endpoint without saying so again, where it does not ask for another time. 1s to 1h.
    #[schemars(example = &"10s")]
    pub ttl: Timespan,
    /// The longest time that it may ask for. 1s to 24h.
    #[schemars(example = &"1m")]
    pub ttl_max: Timespan,
    /// Servers that may be registered at a time; `endpoints_max` bounds them too. 1 to 4096.
    #[schemars(range(min = 1, max = 4096), example = 8)]
    pub servers: u16,
    /// A file with what a server must show (`Authorization: Bearer …`), without the line end; read when the configuration is.
    /// Without it, everybody who reaches the admin listener may register.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", example = &"/etc/corelane/register.token")]
    pub token_file: Option<String>,
    /// What is in that file.
    #[serde(skip)]
    pub(crate) token: Option<Secret>,
}

impl Default for Register {
    fn default() -> Self {
        Self {
            ttl: Timespan::from_secs(30),
            ttl_max: Timespan::from_secs(300),
            servers: 64,
            token_file: None,
            token: None,
        }
    }
}
