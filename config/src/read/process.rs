//! What may one process take for itself?
//!
//! Never looks at the machine: the same file is right or wrong everywhere.

use thiserror::Error;

use super::fields::Fields;
use crate::schema::Process;
use crate::value::Refusal;
use crate::value::duration::Timespan;
use crate::value::name;
use crate::value::size::ByteSize;

/// Below this a core could not serve a handful of connections.
const BUFFERS_MIN: u16 = 16;

/// One page; a head and a first piece of a body still fit.
const BUFFER_SIZE_MIN: ByteSize = ByteSize::from_kib(4);

/// Above this a read no longer gets faster, and 512 of them on each core are half a gigabyte.
const BUFFER_SIZE_MAX: ByteSize = ByteSize::from_kib(1024);

/// A longer busy wait would burn the core without serving anyone sooner.
const SPIN_MAX: Timespan = Timespan::from_millis(10);

const DRAIN_TIMEOUT_MAX: Timespan = Timespan::from_secs(3600);

/// A process needs some time to begin, and whoever waits for longer has something else to look at.
const UPGRADE_TIMEOUT_MIN: Timespan = Timespan::from_secs(1);
const UPGRADE_TIMEOUT_MAX: Timespan = Timespan::from_secs(600);

pub(super) fn read_process(fields: &mut Fields<'_>) -> Process {
    let default = Process::default();
    let zero = Timespan::from_secs(0);
    Process {
        buffers_per_core: fields.integer(
            "buffers_per_core",
            BUFFERS_MIN..=u16::MAX,
            default.buffers_per_core,
        ),
        buffer_size: fields.size("buffer_size", BUFFER_SIZE_MIN..=BUFFER_SIZE_MAX, default.buffer_size),
        spin: fields.duration("spin", zero..=SPIN_MAX, default.spin),
        accept_handoff: fields.boolean("accept_handoff", default.accept_handoff),
        drain_timeout: fields.duration("drain_timeout", zero..=DRAIN_TIMEOUT_MAX, default.drain_timeout),
        upgrade_timeout: fields.duration(
            "upgrade_timeout",
            UPGRADE_TIMEOUT_MIN..=UPGRADE_TIMEOUT_MAX,
            default.upgrade_timeout,
        ),
        watch: fields.boolean("watch", default.watch),
        zone: fields.parsed("zone", |text| name::check(text).map(|()| text.to_owned())),
        user: fields.parsed("user", identity),
        group: fields.parsed("group", identity),
    }
}

/// A user or a group, of whom the machine alone knows whether there is one.
fn identity(text: &str) -> Result<String, IdentityError> {
    let is_fine = !text.is_empty() && !text.contains([':', '/', '\0']) && !text.contains(char::is_whitespace);
    if is_fine { Ok(text.to_owned()) } else { Err(IdentityError) }
}

/// Why something cannot be a user or a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a user or a group has a name, without `:`, `/` and blanks, or a number")]
struct IdentityError;

impl Refusal for IdentityError {
    fn suggestion(&self) -> Option<String> {
        Some("for example \"nobody\"".to_owned())
    }
}
