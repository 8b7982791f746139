//! What does one written value mean? A duration, a size, a network, an address or a name, each on its own.
//!
//! Nothing here knows where in the file the value stands or what stands beside it.

mod quantity;

pub(crate) mod address;
pub(crate) mod duration;
pub(crate) mod field;
pub(crate) mod fingerprint;
pub(crate) mod header;
pub(crate) mod log_format;
pub(crate) mod name;
pub(crate) mod network;
pub(crate) mod rate;
pub(crate) mod retry_cause;
pub(crate) mod server_name;
pub(crate) mod share;
pub(crate) mod size;
pub(crate) mod unix;

/// Why a value was refused, and what the operator may have meant.
pub(crate) trait Refusal: std::fmt::Display {
    /// What to write instead, if that can be guessed.
    fn suggestion(&self) -> Option<String>;
}

impl Refusal for proto::matching::HostPatternError {
    fn suggestion(&self) -> Option<String> {
        // Its words say what to write already.
        None
    }
}
