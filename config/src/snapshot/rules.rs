//! What does a channel demand of its requests, and do to them?
//!
//! Never anything for a channel that has no rules: it has none of this, and pays for the question alone.

use std::time::Duration;

use proto::access::AccessTable;
use proto::http1::edit::HeadEdits;
use proto::http1::path::PathRewrite;
use proto::rate::Pace;

use super::UpstreamId;
use super::security::TokenRule;

/// All rules of one channel; at least one.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Who may come in: 403.
    pub access: Option<AccessTable>,
    /// How often requests may come, each of which must let one in: 429.
    pub rates: Box<[RateLimit]>,
    /// How many exchanges may be in progress: 503, or 429 where it is one address that has too many.
    pub concurrency: Concurrency,
    /// What the token says that a request has to bring: 401, or 403.
    pub token: Option<Box<TokenRule>>,
    /// The path that the endpoint sees.
    pub path: Option<PathRewrite>,
    /// Changes to the fields of requests.
    pub request_edits: Option<HeadEdits>,
    /// Changes to the fields of answers.
    pub answer_edits: Option<HeadEdits>,
    /// Faults made on purpose, if any.
    pub faults: Option<Faults>,
    /// Who gets copies of requests, if anybody.
    pub mirror: Option<Mirror>,
}

/// Faults made on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    /// How long requests are let wait, and how many of a hundred.
    pub delay: Option<(Duration, u32)>,
    /// What requests are answered with, and how many of a hundred.
    pub abort: Option<(u16, u32)>,
}

/// Copies of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Who gets them.
    pub upstream: UpstreamId,
    /// How many of a hundred.
    pub percent: u32,
    /// Longest body of one.
    pub body_bytes_max: usize,
    /// Whether requests are copied that may have effects.
    pub unsafe_methods: bool,
}

/// How often requests may come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Whose are counted together.
    pub by: RateKey,
    /// How often.
    pub pace: Pace,
    /// Keys that are told apart at a time; nothing where there are none.
    pub slots: u32,
}

/// Whose requests are counted together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RateKey {
    /// All of the channel's.
    Channel,
    /// Those of one client address.
    Address,
    /// Those with the same value of this field.
    Header(Box<str>),
}

/// How many exchanges may be in progress at a time, over all cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Concurrency {
    /// Of the channel.
    pub channel_max: Option<u32>,
    /// Of one client address.
    pub address_max: Option<u32>,
}

impl Concurrency {
    /// Whether any number may be.
    #[must_use]
    pub fn is_unbounded(&self) -> bool {
        *self == Self::default()
    }
}
