//! What holds for every first flight of a TLS client?
//!
//! A hello that is accepted says the same to a reader that takes it apart piece by piece, however it was cut. Never
//! cares which rule refused it.

use proto::client_hello::{ClientHello, HelloRejected, parse};

use crate::naive::Read;
use crate::splits::assert_split_independent;

/// Every promise about ClientHellos.
pub fn client_hello(bytes: &[u8]) {
    let verdict = parse(bytes);
    let expected = naive(bytes);
    match (&verdict, &expected) {
        (Ok(Some(hello)), Read::Whole(found)) => assert_eq!(&said(hello), found),
        // What is broken is told at once, and may be told before the hello is whole.
        (Err(_), Read::Broken | Read::Unfinished) | (Ok(None), Read::Unfinished) => {}
        (Err(HelloRejected::TooLarge), Read::Whole(_)) => assert!(bytes.len() >= 1 << 14),
        _ => panic!("{verdict:?} instead of {expected:?}"),
    }
    assert_split_independent(bytes, None, |part, _| parse(part));
}

/// A name and the offered protocols.
type Said = (Option<String>, Vec<Vec<u8>>);

fn said(hello: &ClientHello) -> Said {
    let name = hello.server_name.map(|name| name.as_str().to_owned());
    (name, hello.protocols().map(<[u8]>::to_vec).collect())
}

/// Joins the records, then takes the message apart.
fn naive(bytes: &[u8]) -> Read<Said> {
    let (mut message, mut rest) = (Vec::new(), bytes);
    loop {
        let len = match message[..] {
            [1, a, b, c, ..] => 4 + usize::from(a) * 65536 + usize::from(b) * 256 + usize::from(c),
            [1, ..] | [] => usize::MAX,
            _ => return Read::Broken,
        };
        if message.len() >= len {
            message.truncate(len);
            return body(&message[4..]).map_or(Read::Broken, Read::Whole);
        }
        let Some((&[kind, major, _, high, low], behind)) = rest.split_first_chunk::<5>() else {
            return Read::Unfinished;
        };
        let len = usize::from(high) * 256 + usize::from(low);
        if kind != 22 || major != 3 || len == 0 || len > 1 << 14 {
            return Read::Broken;
        }
        let part = &behind[..len.min(behind.len())];
        message.extend_from_slice(part);
        rest = &behind[part.len()..];
    }
}

/// The next `len` bytes.
fn take<'b>(bytes: &mut &'b [u8], len: usize) -> Option<&'b [u8]> {
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken)
}

/// The next vector, whose length has so many bytes.
fn vector<'b>(bytes: &mut &'b [u8], width: usize) -> Option<&'b [u8]> {
    let len = take(bytes, width)?.iter().fold(0, |len, byte| len * 256 + usize::from(*byte));
    take(bytes, len)
}

fn body(mut rest: &[u8]) -> Option<Said> {
    take(&mut rest, 34)?;
    let session = vector(&mut rest, 1)?;
    let suites = vector(&mut rest, 2)?;
    let compressions = vector(&mut rest, 1)?;
    if session.len() > 32 || suites.is_empty() || suites.len() % 2 == 1 || compressions.is_empty() {
        return None;
    }
    let (mut names, mut protocols) = (Vec::new(), Vec::new());
    if !rest.is_empty() {
        let mut extensions = vector(&mut rest, 2)?;
        while !extensions.is_empty() {
            let kind = take(&mut extensions, 2)?;
            let value = vector(&mut extensions, 2)?;
            match kind {
                [0, 0] => names.push(name(value)?),
                [0, 16] => protocols.push(list(value)?),
                _ => {}
            }
        }
    }
    let is_right = rest.is_empty() && names.len() <= 1 && protocols.len() <= 1;
    is_right.then(|| (names.pop(), protocols.pop().unwrap_or_default()))
}

fn name(mut value: &[u8]) -> Option<String> {
    let mut list = vector(&mut value, 2)?;
    let kind = take(&mut list, 1)?;
    let text = String::from_utf8(vector(&mut list, 2)?.to_vec()).ok()?;
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() < 64
            && label.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_".contains(letter))
    };
    let is_right = kind == [0] && list.is_empty() && value.is_empty();
    (is_right && text.len() < 254 && text.split('.').all(is_label)).then(|| text.to_lowercase())
}

fn list(mut value: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut list = vector(&mut value, 2)?;
    let mut names = Vec::new();
    while !list.is_empty() {
        names.push(vector(&mut list, 1)?.to_vec());
    }
    (value.is_empty() && !names.is_empty() && names.iter().all(|name| !name.is_empty())).then_some(names)
}
