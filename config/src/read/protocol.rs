//! Which keys does a listener need for its protocol, and which mean something for it?
//!
//! Never lets a key pass that would do nothing: who wrote it believes that it does something.

use super::fields::Fields;
use crate::schema::{Framing, Protocol};

const PROTOCOLS: [(&str, Option<Protocol>); 4] = [
    ("http", Some(Protocol::Http)),
    ("https", Some(Protocol::Https)),
    ("tcp", Some(Protocol::Tcp)),
    ("tls", Some(Protocol::Tls)),
];

const FRAMINGS: [(&str, Framing); 3] =
    [("raw", Framing::Raw), ("line", Framing::Line), ("mllp", Framing::Mllp)];

/// Keys of listeners that read requests.
const HTTP_KEYS: [&[&str]; 16] = [
    &["retry_after"],
    &["forwarding"],
    &["error_page"],
    &["limits", "head_bytes"],
    &["limits", "fields"],
    &["limits", "target_bytes"],
    &["limits", "body_bytes"],
    &["limits", "body_rate"],
    &["limits", "trailer_bytes"],
    &["limits", "trailers"],
    &["limits", "pipelined"],
    &["limits", "requests"],
    &["timeouts", "head"],
    &["timeouts", "idle"],
    &["timeouts", "body"],
    &["timeouts", "send"],
];

/// `None` for a word that is none, which has its message already.
pub(super) fn read_protocol(fields: &mut Fields<'_>) -> Option<Protocol> {
    if fields.has("protocol") { fields.word("protocol", &PROTOCOLS) } else { Some(Protocol::default()) }
}

pub(super) fn read_framing(fields: &mut Fields<'_>) -> Framing {
    fields.word("framing", &FRAMINGS)
}

/// Names what is missing and what is too much.
pub(super) fn check_keys(fields: &Fields<'_>, protocol: Protocol) {
    let wanted = |suggestion: &str| Some(format!("did you mean protocol = {suggestion:?}?"));
    if !protocol.is_http() {
        for key in HTTP_KEYS {
            let suggestion =
                if key.ends_with(&["idle"]) { "did you mean \"tunnel\"?" } else { "leave it out" };
            refuse(fields, protocol, key, Some(suggestion.to_owned()));
        }
    }
    match protocol {
        Protocol::Http => {
            refuse(fields, protocol, &["tls"], wanted("https"));
            refuse_relayed(fields, protocol);
        }
        Protocol::Https => {
            fields.require("tls", "{ certificates = [{ certificate = \"web.pem\", key = \"web.key\" }] }");
            refuse_relayed(fields, protocol);
        }
        Protocol::Tcp => {
            fields.require("upstream", "\"NAME\"");
            refuse(fields, protocol, &["sni"], wanted("tls"));
            refuse(fields, protocol, &["tls"], wanted("https"));
        }
        Protocol::Tls => {
            if !fields.has("upstream") {
                fields.require("sni", "{ \"a.example\" = \"NAME\" }");
            }
            refuse(fields, protocol, &["framing"], wanted("tcp"));
            refuse(fields, protocol, &["tls"], wanted("https"));
        }
    }
}

/// What listeners have that take no requests.
fn refuse_relayed(fields: &Fields<'_>, protocol: Protocol) {
    let channel = "requests find theirs by a channel: [channel.NAME] upstream = …";
    refuse(fields, protocol, &["upstream"], Some(channel.to_owned()));
    refuse(fields, protocol, &["framing"], Some("did you mean protocol = \"tcp\"?".to_owned()));
    refuse(fields, protocol, &["sni"], Some("did you mean protocol = \"tls\"?".to_owned()));
}

fn refuse(fields: &Fields<'_>, protocol: Protocol, key: &[&str], suggestion: Option<String>) {
    if fields.has_below(key) {
        let cause = format!("means nothing with protocol = {:?}", protocol.name());
        fields.error_below(key, cause, suggestion);
    }
}
