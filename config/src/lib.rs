//! What did the operator write, and is it right? Text in, an immutable [`snapshot::Snapshot`] out.
//!
//! This is the only home of the configuration format. Past [`load_file`] no user mistake can be represented,
//! and no core ever sees a key, a name to look up or an unparsed value.

pub mod schema;
pub mod snapshot;

mod document;
mod value;

mod check;
mod compile;
mod read;

mod problem;
mod report;
mod suggest;

mod load;
mod modules;
mod port_offset;
mod shared;
mod text;

pub use document::Format;
pub use load::{
    Loaded, check_zone, default_config, dump, json_schema, load_file, load_str, parse_address,
    parse_duration, quick_proxy,
};
pub use port_offset::{PortOffsetError, apply_port_offset};
pub use problem::{Problem, Problems, Severity};
pub use shared::{load_sent, load_shared, shared_document, whole_document};
pub use text::{Files, Text};
pub use value::duration::Timespan;
pub use value::size::ByteSize;
