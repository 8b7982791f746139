//! What is told of single requests, and to whom?
//!
//! Never whether there is somebody who wants to know.

use super::fields::Fields;
use crate::schema::telemetry::{Telemetry, Trace};
use crate::value::Refusal;
use crate::value::share::Share;

pub(super) fn read(fields: &mut Fields<'_>) -> Telemetry {
    let default = Telemetry::default();
    let known = [("off", Trace::Off), ("propagate", Trace::Propagate), ("make", Trace::Make)];
    let telemetry = Telemetry {
        trace: fields.word("trace", &known),
        sample: fields.share("sample", Share::from_percent(0)..=Share::from_percent(100), default.sample),
        trust_clients: fields.boolean("trust_clients", default.trust_clients),
        otlp: fields.parsed("otlp", |text| is_collector(text).then(|| text.to_owned()).ok_or(NoCollector)),
    };
    if telemetry.trace == Trace::Off && telemetry.otlp.is_some() {
        let suggestion = "write trace = \"propagate\" or trace = \"make\"".to_owned();
        fields.error("otlp", "no exchange is part of a trace", Some(suggestion));
    }
    telemetry
}

/// Whether something can be sent there: a scheme, a host, and nothing behind the path.
fn is_collector(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("http://") else { return false };
    let authority = rest.split('/').next().unwrap_or_default();
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"?#@\"<>".contains(&byte);
    !authority.is_empty() && !authority.starts_with(':') && rest.bytes().all(is_plain)
}

struct NoCollector;

impl std::fmt::Display for NoCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("this is not the URL of a collector that is spoken to in the clear")
    }
}

impl Refusal for NoCollector {
    fn suggestion(&self) -> Option<String> {
        Some("\"http://HOST:4318\"".to_owned())
    }
}
