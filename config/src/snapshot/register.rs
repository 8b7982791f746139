//! How may a server make itself an endpoint, as control reads it?
//!
//! Never who has: that is known while the process runs.

use std::time::Duration;

use super::balance::SecretBytes;

/// How servers make themselves endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registering {
    /// How long one is an endpoint without saying so again.
    pub ttl: Duration,
    /// The longest such time that one may ask for, at least [`Self::ttl`].
    pub ttl_max: Duration,
    /// How many may be registered at a time.
    pub servers_max: u16,
    /// What one must show; `None` lets everybody in who reaches the admin listener.
    pub token: Option<SecretBytes>,
}
