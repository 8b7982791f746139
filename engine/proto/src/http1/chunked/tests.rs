//! Are chunks read the one way there is, however they are split, and is nothing malformed ever completed?

use proptest::prelude::*;

use super::*;

/// What came of a whole body: bytes passed on, bytes consumed and bytes of data.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    passed: Vec<u8>,
    consumed: usize,
    body_bytes: u64,
    is_done: bool,
}

/// Feeds `input` in pieces of `piece` bytes, with room for `N` ranges at a time. What was passed on before a rule
/// was found broken comes with it.
fn scan<const N: usize>(input: &[u8], mode: Mode, piece: usize) -> Result<Outcome, (ChunkRejected, Vec<u8>)> {
    let mut scanner = ChunkedScanner::new();
    let mut passed = Vec::new();
    let mut consumed = 0;
    for part in input.chunks(piece.max(1)) {
        let mut rest = part;
        while !rest.is_empty() && !scanner.is_done() {
            let mut ranges = ArrayVec::<Range<usize>, N>::new();
            let progress = scanner.forward(rest, mode, &mut ranges).map_err(|rule| (rule, passed.clone()))?;
            assert!(progress.consumed > 0, "no progress in {rest:?}");
            assert_eq!(progress.is_done, scanner.is_done());
            ranges.iter().for_each(|range| passed.extend_from_slice(&rest[range.clone()]));
            rest = &rest[progress.consumed..];
            consumed += progress.consumed;
        }
    }
    Ok(Outcome { passed, consumed, body_bytes: scanner.body_bytes(), is_done: scanner.is_done() })
}

#[track_caller]
fn check(input: &str, framed: &str, data: &str) {
    for piece in 1..=input.len() {
        for (mode, expected) in [(Mode::Framed, framed), (Mode::DataOnly, data)] {
            let outcome = scan::<4>(input.as_bytes(), mode, piece).unwrap();
            assert_eq!(String::from_utf8_lossy(&outcome.passed), expected, "{input:?} by {piece}");
            assert_eq!(outcome.body_bytes, data.len() as u64, "{input:?}");
            assert!(outcome.is_done, "{input:?}");
        }
    }
}

#[track_caller]
fn reject(input: impl AsRef<[u8]>, expected: ChunkRejected) {
    let input = input.as_ref();
    for piece in [1, 2, 3, 7, input.len()] {
        for mode in [Mode::Framed, Mode::DataOnly] {
            let (rule, passed) = scan::<4>(input, mode, piece).expect_err("is rejected");
            assert_eq!(rule, expected, "{:?} by {piece}", String::from_utf8_lossy(input));
            assert!(!passed.ends_with(LAST_CHUNK), "completed {:?}", String::from_utf8_lossy(input));
        }
    }
}

#[test]
fn passes_chunks_as_they_are() {
    check("0\r\n\r\n", "0\r\n\r\n", "");
    check("3\r\nabc\r\n0\r\n\r\n", "3\r\nabc\r\n0\r\n\r\n", "abc");
    check("1\r\na\r\n0002\r\nbc\r\n000\r\n\r\n", "1\r\na\r\n0002\r\nbc\r\n000\r\n\r\n", "abc");
    check(
        "a\r\n0123456789\r\nA\r\n\r\n0\r\n\r\nxyz\r\n0\r\n\r\n",
        "a\r\n0123456789\r\nA\r\n\r\n0\r\n\r\nxyz\r\n0\r\n\r\n",
        "0123456789\r\n0\r\n\r\nxyz",
    );
}

#[test]
fn drops_extensions() {
    check("3;a=b;c=\"d e\"\r\nabc\r\n0;x\r\n\r\n", "3\r\nabc\r\n0\r\n\r\n", "abc");
    check("3 ; a \t = \"\\\"\t\u{e9}\" ;b\r\nabc\r\n0\t;\tx\r\n\r\n", "3\r\nabc\r\n0\r\n\r\n", "abc");
}

#[test]
fn passes_harmless_trailers_where_chunks_go() {
    let trailers = "X-Checksum: a b\r\nServer-Timing:\t1\r\nEmpty:\r\nX-Longer-Than-Any-Known-Name: y\r\n";
    let body = format!("1\r\na\r\n0\r\n{trailers}\r\n");
    check(&body, &body, "a");
}

#[test]
fn one_buffer_is_one_slice() {
    let mut ranges = ArrayVec::<Range<usize>, 1>::new();
    let body = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nGET /";
    let progress = ChunkedScanner::new().forward(body, Mode::Framed, &mut ranges).unwrap();
    assert_eq!(progress, Progress { consumed: body.len() - 5, is_done: true });
    assert_eq!(ranges.as_slice(), std::slice::from_ref(&(0..body.len() - 5)));
}

#[test]
fn stops_when_out_is_full_and_goes_on() {
    let body = b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n";
    for piece in 1..=body.len() {
        assert_eq!(scan::<1>(body, Mode::DataOnly, piece).unwrap().passed, b"abc");
    }
}

#[test]
fn sizes_refused() {
    use ChunkRejected as Rule;
    for size in
        ["", "x", "-1", "+1", " 1", "0x1", "0X1", "1_0", "1 ", "1\t", "1 a", ";a", "_1", "1.", "g", "\u{661}"]
    {
        reject(format!("{size}\r\na\r\n0\r\n\r\n"), Rule::SizeInvalid);
    }
    for size in [
        "8000000000000000",
        "ffffffffffffffff",
        "10000000000000000",
        "00000000000000001",
        "ffffffffffffffff1",
    ] {
        reject(format!("{size}\r\na\r\n0\r\n\r\n"), Rule::SizeOverflow);
        reject(format!("{size};a\r\na\r\n0\r\n\r\n"), Rule::SizeOverflow);
    }
    assert!(!scan::<4>(b"7fffffffffffffff\r\na", Mode::Framed, 1).unwrap().is_done);
    reject("1\na\r\n0\r\n\r\n", Rule::BareLineFeed);
    reject("1\r\r\na\r\n0\r\n\r\n", Rule::BareCarriageReturn);
    reject("1\ra\r\n0\r\n\r\n", Rule::BareCarriageReturn);
    reject("\r\n1\r\na\r\n0\r\n\r\n", Rule::SizeInvalid);
    reject("\n", Rule::SizeInvalid);
}

#[test]
fn extensions_refused() {
    use ChunkRejected as Rule;
    reject("1;a\nb\r\na\r\n0\r\n\r\n", Rule::BareLineFeed);
    reject("1;a\rb\r\na\r\n0\r\n\r\n", Rule::BareCarriageReturn);
    for malformed in [
        ";",
        "; ",
        ";;a",
        ";a;",
        ";=b",
        ";a=",
        ";a b",
        ";a=b c",
        ";a ",
        ";a=b ",
        ";\"a\"",
        ";a=\"b",
        ";a=\"b\"c",
        ";a@b",
        ";a=\"b\\\"",
        ";a=\u{e9}",
        ";a=\"\r\n",
    ] {
        reject(format!("1{malformed}\r\na\r\n0\r\n\r\n"), Rule::ExtensionMalformed);
    }
    reject("1;a=\"\n\"\r\na\r\n0\r\n\r\n", Rule::BareLineFeed);
    reject("1;a\0\r\na\r\n0\r\n\r\n", Rule::ExtensionByte);
    reject("0;a\x7f\r\n\r\n", Rule::ExtensionByte);
    let longest = "e".repeat(EXTENSION_BYTES_MAX as usize - 1);
    check(&format!("1;{longest}\r\na\r\n0\r\n\r\n"), "1\r\na\r\n0\r\n\r\n", "a");
    reject(format!("1;e{longest}\r\na\r\n0\r\n\r\n"), Rule::ExtensionTooLong);
    let one = format!("1;{longest}\r\na\r\n");
    reject(one.repeat(17), Rule::ExtensionsTooMany);
    let data = format!("400;{longest}\r\n{}\r\n", "a".repeat(0x400));
    assert!(
        scan::<4>(format!("{}0\r\n\r\n", data.repeat(40)).as_bytes(), Mode::Framed, 999).unwrap().is_done
    );
}

#[test]
fn data_ends_with_its_line_end() {
    use ChunkRejected as Rule;
    for body in [
        "1\r\nab\r\n0\r\n\r\n",
        "1\r\na\n0\r\n\r\n",
        "1\r\na\r0\r\n\r\n",
        "1\r\na0\r\n\r\n",
        "1\r\na\r\r\n0\r\n\r\n",
    ] {
        reject(body, Rule::DataEndMissing);
    }
}

#[test]
fn trailers_refused() {
    use ChunkRejected as Rule;
    for name in [
        "Transfer-Encoding",
        "content-length",
        "HOST",
        "Connection",
        "Authorization",
        "Cookie",
        "Set-Cookie",
        "Trailer",
        "TE",
        "Upgrade",
        "Expect",
        "Via",
        "X-Forwarded-For",
        "X-Forwarded-Anything-At-All",
        "x_forwarded_for",
        "Content-Type",
        "Content-Encoding",
        "Content-Range",
        "Cache-Control",
        "Range",
        "If-Match",
        "Max-Forwards",
        "Proxy-Authorization",
        "If-Unmodified-Since",
        "Location",
        "Date",
    ] {
        reject(format!("0\r\nX-A: b\r\n{name}: c\r\n\r\n"), Rule::TrailerForbidden);
        reject(format!("0\r\n{name}:\r\n\r\n"), Rule::TrailerForbidden);
    }
    for (trailer, rule) in [
        (" a: b", Rule::TrailerFolded),
        ("a: b\r\n c", Rule::TrailerFolded),
        (": b", Rule::TrailerNameEmpty),
        ("a : b", Rule::TrailerNameByte),
        ("a", Rule::TrailerNameByte),
        ("a\0: b", Rule::TrailerNameByte),
        ("\u{e9}: b", Rule::TrailerNameByte),
        ("a: \0", Rule::TrailerValueByte),
        ("a: b\nc: d", Rule::BareLineFeed),
        ("a\n: b", Rule::BareLineFeed),
        ("\n", Rule::BareLineFeed),
        ("a: b\rc", Rule::BareCarriageReturn),
        ("\rX: y", Rule::BareCarriageReturn),
    ] {
        reject(format!("0\r\n{trailer}\r\n\r\n"), rule);
    }
    let line = format!("A: {}\r\n", "b".repeat(1000));
    reject(format!("0\r\n{}\r\n", line.repeat(10)), Rule::TrailersTooLarge);
    let lines = |count: u16| format!("0\r\n{}\r\n", "A: b\r\n".repeat(usize::from(count)));
    check(&lines(TRAILERS_MAX), &lines(TRAILERS_MAX), "");
    reject(lines(TRAILERS_MAX + 1), Rule::TrailersTooMany);
    reject(format!("0\r\nA: {}", "b".repeat(9000)), Rule::TrailersTooLarge);
    reject(format!("0\r\n{}", "b".repeat(9000)), Rule::TrailersTooLarge);
}

#[test]
fn an_early_end_is_never_done() {
    let body = b"3\r\nabc\r\n0\r\nA: b\r\n\r\n";
    for len in 0..body.len() {
        assert!(!scan::<4>(&body[..len], Mode::Framed, len).unwrap().is_done, "{len}");
    }
}

#[test]
fn a_rejected_body_stays_rejected() {
    let mut scanner = ChunkedScanner::new();
    let mut ranges = ArrayVec::<Range<usize>, 4>::new();
    assert_eq!(scanner.forward(b"1\r\nabc", Mode::Framed, &mut ranges), Err(ChunkRejected::DataEndMissing));
    ranges.clear();
    assert_eq!(scanner.forward(b"0\r\n\r\n", Mode::Framed, &mut ranges), Err(ChunkRejected::DataEndMissing));
    assert!(!scanner.is_done());
}

#[test]
fn data_may_be_moved_past_the_scanner() {
    let mut scanner = ChunkedScanner::new();
    let mut ranges = ArrayVec::<Range<usize>, 4>::new();
    assert_eq!(scanner.data_left(), 0);
    scanner.forward(b"a\r\n01", Mode::Framed, &mut ranges).unwrap();
    assert_eq!(scanner.data_left(), 8);
    scanner.skip_data(0);
    scanner.skip_data(5);
    assert_eq!((scanner.data_left(), scanner.body_bytes()), (3, 7));
    scanner.skip_data(3);
    assert_eq!(scanner.data_left(), 0);
    scanner.skip_data(0);
    let progress = scanner.forward(b"\r\n0\r\n\r\n", Mode::Framed, &mut ranges);
    assert_eq!(progress, Ok(Progress { consumed: 7, is_done: true }));
    assert_eq!(scanner.body_bytes(), 10);
}

#[test]
#[should_panic(expected = "skips chunk data that is there")]
fn no_more_than_a_chunk_may_be_moved() {
    ChunkedScanner::new().skip_data(1);
}

#[test]
fn headers_are_written_in_hexadecimal() {
    let mut buf = [0; CHUNK_HEADER_BYTES_MAX];
    for (len, expected) in [(1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (65_536, "10000\r\n")] {
        assert_eq!(chunk_header(NonZeroUsize::new(len).unwrap(), &mut buf), expected.as_bytes());
    }
    assert_eq!(chunk_header(NonZeroUsize::MAX, &mut buf), format!("{:x}\r\n", usize::MAX).as_bytes());
}

/// Bodies that are mostly well formed.
fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let chunk = prop::collection::vec(any::<u8>(), 1..40).prop_flat_map(|data| {
        let extension = prop_oneof![4 => Just(String::new()), 2 => "( ;|;)[a-z]{1,4}( ?=[a-z]{1,4}|=\"[ -!#-Z]{0,4}\")?", 1 => "[ ;\r\n\0a]{1,3}"];
        extension.prop_map(move |extension| {
            [format!("{:x}{extension}\r\n", data.len()).as_bytes(), &data, b"\r\n"].concat()
        })
    });
    let end = prop_oneof![
        Just("0\r\n\r\n".to_owned()),
        "0\r\n([A-Z]{1,4}: [a-z]{0,4}\r\n){0,3}\r\n",
        "0\r\n[A-Z: \r\n\0]{0,9}\r\n",
        Just("0\r\nHost: a\r\n\r\n".to_owned()),
    ];
    (prop::collection::vec(chunk, 0..6), end)
        .prop_map(|(chunks, end)| [chunks.concat(), end.into_bytes()].concat())
}

proptest! {
    #[test]
    fn split_anywhere_is_the_same_body(body in any_body(), piece in 1..50_usize, data_only: bool) {
        let mode = if data_only { Mode::DataOnly } else { Mode::Framed };
        let whole = scan::<64>(&body, mode, body.len());
        let split = scan::<1>(&body, mode, piece);
        match (whole, split) {
            (Err((whole, _)), Err((split, _))) => prop_assert_eq!(whole, split),
            (whole, split) => prop_assert_eq!(whole, split),
        }
    }

    #[test]
    fn what_is_written_is_read_back(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..8)) {
        let mut body = Vec::new();
        for part in &parts {
            let mut buf = [0; CHUNK_HEADER_BYTES_MAX];
            body.extend_from_slice(chunk_header(NonZeroUsize::new(part.len()).unwrap(), &mut buf));
            body.extend_from_slice(part);
            body.extend_from_slice(CHUNK_END);
        }
        body.extend_from_slice(LAST_CHUNK);
        let outcome = scan::<16>(&body, Mode::DataOnly, body.len()).unwrap();
        prop_assert_eq!((outcome.passed, outcome.consumed, outcome.is_done), (parts.concat(), body.len(), true));
        prop_assert_eq!(scan::<16>(&body, Mode::Framed, 7).unwrap().passed, body);
    }

    #[test]
    fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..200), piece in 1..20_usize) {
        let _ = scan::<2>(&noise, Mode::Framed, piece);
    }
}

#[test]
fn bounds_are_the_callers() {
    use ChunkRejected as Rule;
    let limits = Limits { body_bytes_max: 5, trailer_bytes_max: 16, trailers_max: 1 };
    let ended = |body: &str| {
        let mut ranges = ArrayVec::<Range<usize>, 16>::new();
        let mut scanner = ChunkedScanner::within(limits);
        scanner.forward(body.as_bytes(), Mode::Framed, &mut ranges).map(|progress| progress.is_done)
    };
    assert_eq!(ended("2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"), Ok(true));
    // The size alone tells, before a byte of the chunk has come.
    assert_eq!(ended("2\r\nab\r\n4\r\n"), Err(Rule::BodyTooLarge));
    assert_eq!(ended("7fffffffffffffff\r\n"), Err(Rule::BodyTooLarge));
    assert_eq!(ended("0\r\nA: 901234567\r\n\r\n"), Ok(true));
    assert_eq!(ended("0\r\nA: 9012345678\r\n\r\n"), Err(Rule::TrailersTooLarge));
    assert_eq!(ended("0\r\nA: b\r\nC: d\r\n\r\n"), Err(Rule::TrailersTooMany));
}
