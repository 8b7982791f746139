//! What holds for every chunked body?
//!
//! A body that is accepted is one to a strict decoder, with the same content and the same end; what is passed on
//! of one that is not never looks complete. Never cares which rule refused it.

use std::ops::Range;

use arrayvec::ArrayVec;
use proto::http1::chunked::{ChunkRejected, ChunkedScanner, Mode};
use proto::http1::field::KnownField;

use crate::naive::{self, Read};
use crate::splits::assert_split_independent;

/// Every promise about chunked bodies.
pub fn chunked_body(bytes: &[u8]) {
    let passed = pass(bytes, Mode::Framed, bytes.len().max(1));
    let expected = naive::chunked(bytes);
    match (&passed.end, &expected) {
        (End::Done, Read::Whole(content)) => {
            assert_eq!(passed.consumed, content.bytes);
            assert_eq!(passed.body_bytes, content.data.len() as u64);
            let is_harmless = |name: &[u8]| KnownField::classify(name) == KnownField::Other;
            assert!(content.trailers.iter().all(|(name, _)| is_harmless(name)));
            assert_passed_on(&passed.bytes, content);
            assert_eq!(pass(bytes, Mode::DataOnly, bytes.len().max(1)).bytes, content.data);
        }
        (End::Rejected(rule), Read::Whole(_)) => {
            assert!(is_limit(*rule), "{rule:?}: {}", bytes.escape_ascii());
        }
        // What is broken is told at once, and may be told before the line is whole.
        (End::Rejected(_), Read::Unfinished | Read::Broken) | (End::Unfinished, Read::Unfinished) => {}
        _ => panic!("{passed:?} instead of {expected:?}"),
    }
    if !matches!(passed.end, End::Done) {
        assert!(!matches!(naive::chunked(&passed.bytes), Read::Whole(_)), "looks complete: {passed:?}");
    }
    assert_cut_alike(bytes);
}

/// Rules beyond the grammar: bounds, and names that have no business after a body.
fn is_limit(rule: ChunkRejected) -> bool {
    matches!(
        rule,
        ChunkRejected::ExtensionTooLong
            | ChunkRejected::ExtensionsTooMany
            | ChunkRejected::TrailerForbidden
            | ChunkRejected::TrailersTooLarge
            | ChunkRejected::TrailersTooMany
    )
}

/// What goes on decodes to the same, without extensions.
fn assert_passed_on(passed: &[u8], content: &naive::Content<'_>) {
    let Read::Whole(again) = naive::chunked(passed) else {
        panic!("no body to a strict decoder: {}", passed.escape_ascii());
    };
    assert_eq!((&again.data, &again.trailers), (&content.data, &content.trailers));
    assert_eq!(again.bytes, passed.len());
    let has_extension = |bytes: &[u8]| bytes.contains(&b';');
    assert!(!has_extension(passed) || has_extension(&again.data) || !again.trailers.is_empty());
}

/// How a body ended, as far as it came.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    Done,
    Unfinished,
    Rejected(ChunkRejected),
}

/// What was passed on of a body, and how it ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Passed {
    pub(crate) bytes: Vec<u8>,
    pub(crate) consumed: usize,
    pub(crate) body_bytes: u64,
    pub(crate) end: End,
}

/// Passes a body on as the data plane does: piece by piece, nothing of the piece in which a rule is broken, data
/// moved past the scanner where that is possible.
pub(crate) fn pass(bytes: &[u8], mode: Mode, piece: usize) -> Passed {
    let mut scanner = ChunkedScanner::new();
    let mut passed = Passed { bytes: Vec::new(), consumed: 0, body_bytes: 0, end: End::Unfinished };
    while passed.consumed < bytes.len() && passed.end == End::Unfinished {
        let rest = &bytes[passed.consumed..];
        let unseen = usize::try_from(scanner.data_left()).unwrap_or(usize::MAX).min(rest.len());
        // Every other piece: both ways must come to the same.
        if unseen > 1 && passed.consumed % 2 == 1 {
            scanner.skip_data(unseen as u64);
            passed.bytes.extend_from_slice(&rest[..unseen]);
            passed.consumed += unseen;
            continue;
        }
        let part = &rest[..rest.len().min(piece)];
        let mut ranges: ArrayVec<Range<usize>, 3> = ArrayVec::new();
        match scanner.forward(part, mode, &mut ranges) {
            Ok(progress) => {
                assert!(progress.consumed > 0, "no progress");
                ranges.into_iter().for_each(|range| passed.bytes.extend_from_slice(&part[range]));
                passed.consumed += progress.consumed;
                passed.end = if progress.is_done { End::Done } else { End::Unfinished };
            }
            Err(rule) => passed.end = End::Rejected(rule),
        }
    }
    passed.body_bytes = scanner.body_bytes();
    passed
}

fn assert_cut_alike(bytes: &[u8]) {
    assert_split_independent(bytes, None, |part, examined| {
        let mut scanner = ChunkedScanner::new();
        let mut at = 0;
        for end in [examined, part.len()] {
            while at < end {
                let mut ranges: ArrayVec<Range<usize>, 2> = ArrayVec::new();
                let progress = scanner.forward(&part[at..end], Mode::Framed, &mut ranges)?;
                at += progress.consumed;
                if progress.is_done {
                    return Ok(Some((at, scanner.body_bytes())));
                }
            }
        }
        Ok::<_, ChunkRejected>(None)
    });
    let whole = pass(bytes, Mode::Framed, bytes.len().max(1));
    for piece in [1, 2, 5] {
        let split = pass(bytes, Mode::Framed, piece);
        // Of a refused body more may have gone on, never less.
        match whole.end {
            End::Rejected(_) => assert!(split.end == whole.end && split.bytes.starts_with(&whole.bytes)),
            End::Done | End::Unfinished => assert_eq!(split, whole),
        }
        if whole.end != End::Done {
            assert!(!matches!(naive::chunked(&split.bytes), Read::Whole(_)), "looks complete: {split:?}");
        }
    }
}
