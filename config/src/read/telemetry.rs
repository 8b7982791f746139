//! What is told of single requests, and to whom?
//!
//! Never whether there is somebody who wants to know.

use super::fields::Fields;
use crate::schema::telemetry::{Telemetry, Trace};
use crate::value::share::Share;

pub(super) fn read(fields: &mut Fields<'_>) -> Telemetry {
    let default = Telemetry::default();
    let known = [("off", Trace::Off), ("propagate", Trace::Propagate), ("make", Trace::Make)];
    Telemetry {
        trace: fields.word("trace", &known),
        sample: fields.share("sample", Share::from_percent(0)..=Share::from_percent(100), default.sample),
        trust_clients: fields.boolean("trust_clients", default.trust_clients),
    }
}
