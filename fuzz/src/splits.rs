//! Where may a message be cut in two, and does it still say the same?
//!
//! Never skips a cut near a line end: that is where parsers differ.

use std::fmt::Debug;

/// Inputs up to this many bytes are cut everywhere.
const CUT_EVERYWHERE_BYTES_MAX: usize = 160;

/// Every place, or in long inputs those around line ends and some between.
fn cuts(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let is_near_line_end = |at: usize| {
        bytes[at.saturating_sub(2)..bytes.len().min(at + 2)].iter().any(|byte| matches!(byte, b'\r' | b'\n'))
    };
    let stride = bytes.len() / CUT_EVERYWHERE_BYTES_MAX + 1;
    let budget = CUT_EVERYWHERE_BYTES_MAX * 2;
    (0..bytes.len()).filter(move |&at| at % stride == 0 || is_near_line_end(at)).take(budget)
}

/// Holds a parser against its own verdict on the whole input, for every cut and for input that trickles in.
///
/// `parse` is given bytes and how many of them an earlier call found incomplete; `Ok(None)` asks for more. With an
/// `ending`, which ends any message for sure, a refusal may come as late as that, but may not be another one.
pub(crate) fn assert_split_independent<T, E>(
    bytes: &[u8],
    ending: Option<&[u8]>,
    mut parse: impl FnMut(&[u8], usize) -> Result<Option<T>, E>,
) where
    T: PartialEq + Debug,
    E: PartialEq + Debug,
{
    let whole = parse(bytes, 0);
    let may_be_late = whole.is_err() && ending.is_some();
    let ended = [bytes, ending.unwrap_or_default()].concat();
    let mut feed = |part: &[u8], examined| match parse(part, examined) {
        Ok(None) if may_be_late && part.len() == bytes.len() => parse(&ended, examined),
        verdict => verdict,
    };
    for cut in cuts(bytes) {
        match feed(&bytes[..cut], 0) {
            Ok(None) => assert_eq!(feed(bytes, cut), whole, "resumed at {cut}"),
            begun => assert_eq!(begun, whole, "settled at {cut}"),
        }
    }
    for pieces in [512, 7] {
        let piece = bytes.len().div_ceil(pieces);
        let (mut examined, mut verdict) = (0, Ok(None));
        while examined < bytes.len() && matches!(verdict, Ok(None)) {
            let end = bytes.len().min(examined + piece);
            verdict = feed(&bytes[..end], examined);
            examined = end;
        }
        assert!(
            bytes.is_empty() || verdict == whole,
            "{verdict:?} instead of {whole:?} in pieces of {piece}"
        );
    }
}
