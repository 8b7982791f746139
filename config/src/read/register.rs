//! How may servers make themselves endpoints?
//!
//! Never takes a token that could be guessed.

use super::balance::read_secret_file;
use super::fields::Fields;
use crate::schema::register::Register;
use crate::value::duration::Timespan;

/// Said more often, it is a load of its own; more seldom, a dead server stays for too long.
const TTL_MIN: Timespan = Timespan::from_secs(1);
const TTL_DEFAULT_MAX: Timespan = Timespan::from_secs(3600);
const TTL_MAX: Timespan = Timespan::from_secs(24 * 3600);

pub(super) fn read(fields: &mut Fields<'_>) -> Register {
    let default = Register::default();
    let ttl = fields.duration("ttl", TTL_MIN..=TTL_DEFAULT_MAX, default.ttl);
    let is_given = fields.has("ttl_max");
    let ttl_max = fields.duration("ttl_max", TTL_MIN..=TTL_MAX, default.ttl_max.max(ttl));
    // A shorter one bounds the default too, unless both were written.
    let (ttl, is_short) = match (ttl_max < ttl, fields.has("ttl")) {
        (true, false) => (ttl_max, false),
        (is_short, _) => (ttl, is_short),
    };
    if is_given && is_short {
        fields.error("ttl_max", "is shorter than ttl", Some(format!("at least \"{ttl}\"")));
    }
    Register {
        ttl,
        ttl_max,
        servers: fields.integer("servers", 1..=4096, default.servers),
        token_file: fields.text("token_file").map(str::to_owned),
        token: read_secret_file(fields, "token_file"),
    }
}
