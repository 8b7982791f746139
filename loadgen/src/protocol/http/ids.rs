//! Which request is this, among all that any run ever sent?
//!
//! An id is written once and read by comparison: never stored, never looked up.

use std::fmt;
use std::str::FromStr;

/// The field that carries a request's id there and back.
pub(crate) const ID_FIELD: &str = "X-Loadgen-Id";
/// Where an origin says how often it was sent each id of a run; the run follows.
pub(crate) const REPORT_PATH: &str = "/loadgen-ids?run=";

/// The part of an id that all requests of a run share: 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunId(pub(crate) u64);

impl RunId {
    /// Whether `id` is that of this run's request `number`.
    pub(crate) fn is_of(self, number: u64, id: &[u8]) -> bool {
        parse_id(id) == Some((self, number))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

impl FromStr for RunId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let is_run = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_run { u64::from_str_radix(text, 16).map(Self).map_err(drop) } else { Err(()) }
    }
}

/// Takes an id apart into its run and its request's number.
pub(crate) fn parse_id(id: &[u8]) -> Option<(RunId, u64)> {
    let (run, number) = std::str::from_utf8(id).ok()?.split_once('-')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    Some((run.parse().ok()?, if is_number { number.parse().ok()? } else { return None }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_run_and_a_number() {
        let run = RunId(0x00ab_0000_0000_00ff);
        assert_eq!(parse_id(format!("{run}-17").as_bytes()), Some((run, 17)));
        assert!(run.is_of(17, b"00ab0000000000ff-17") && !run.is_of(18, b"00ab0000000000ff-17"));
        for id in [
            "",
            "-",
            "00ab0000000000ff",
            "00ab0000000000ff-",
            "00ab0000000000ff-+1",
            "ab-1",
            "+0ab0000000000ff-1",
        ] {
            assert_eq!(parse_id(id.as_bytes()), None, "{id}");
        }
    }
}
