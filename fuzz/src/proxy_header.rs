//! What holds for every PROXY header?
//!
//! One that is accepted names the same client to a naive reader, and again when it was written anew; its end does not
//! depend on how it was cut. Never cares which rule refused it.

use std::net::{IpAddr, SocketAddr};

use proto::proxy_protocol::{Addresses, HEADER_BYTES_MAX, Header, ProxyRejected, Version, parse, write};

use crate::naive::Read;
use crate::splits::assert_split_independent;

/// Every promise about PROXY headers.
pub fn proxy_header(bytes: &[u8]) {
    let verdict = parse(bytes);
    let expected = if bytes.starts_with(b"P") { line(bytes) } else { binary(bytes) };
    match (&verdict, &expected) {
        (Ok(Some(header)), Read::Whole(naive)) => {
            let named = header.addresses.map(|addresses| [addresses.source, addresses.destination]);
            assert_eq!((header.len, named, header.tlvs), (naive.len, naive.named, &naive.tlvs[..]));
            assert!(header.len <= HEADER_BYTES_MAX);
            assert_written(header);
        }
        // What is broken is told at once, and may be told before the header is whole.
        (Err(_), Read::Broken | Read::Unfinished) | (Ok(None), Read::Unfinished) => {}
        (Err(ProxyRejected::HeaderTooLong), Read::Whole(naive)) => assert!(naive.len > HEADER_BYTES_MAX),
        _ => panic!("{verdict:?} instead of {expected:?}"),
    }
    assert_split_independent(bytes, None, |part, _| {
        parse(part).map(|header| header.map(|header| (header.len, header.addresses, header.tlvs.to_vec())))
    });
}

/// What was received can be said to the next server.
fn assert_written(header: &Header<'_>) {
    let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
    let plain = |addresses: Option<Addresses>| {
        addresses.map(|addresses| [canonical(addresses.source), canonical(addresses.destination)])
    };
    for version in [Version::V1, Version::V2] {
        let mut written = Vec::new();
        write(version, header.addresses, header.tlvs, &mut written);
        let again = parse(&written).expect("what is written is right").expect("and whole");
        assert_eq!((again.len, plain(again.addresses)), (written.len(), plain(header.addresses)));
        if version == Version::V2 && header.addresses.is_some() {
            let is_kept = again.tlvs.len() == header.tlvs.len();
            assert!(is_kept || header.len + 24 > HEADER_BYTES_MAX, "fields lost");
        }
    }
}

/// What the naive readers find.
#[derive(Debug)]
struct Found {
    len: usize,
    named: Option<[SocketAddr; 2]>,
    tlvs: Vec<u8>,
}

/// Version 1, by splitting text.
fn line(bytes: &[u8]) -> Read<Found> {
    if !bytes.iter().zip(b"PROXY ").all(|(one, other)| one == other) {
        return Read::Broken;
    }
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(107)]).into_owned();
    let Some((line, _)) = text.split_once("\r\n") else {
        return if bytes.len() < 107 { Read::Unfinished } else { Read::Broken };
    };
    if line.contains(['\r', '\n']) {
        return Read::Broken;
    }
    let words: Vec<&str> = line.split(' ').collect();
    let end = |address: &str, port: &str| -> Option<SocketAddr> {
        let address: IpAddr = address.parse().ok()?;
        let is_of_family = address.is_ipv4() == (words[1] == "TCP4");
        let number: u16 = port.parse().ok()?;
        (is_of_family && number.to_string() == port).then(|| SocketAddr::new(address, number))
    };
    let named = match words[1..] {
        ["UNKNOWN", ..] => None,
        ["TCP4" | "TCP6", from, to, from_port, to_port] => match (end(from, from_port), end(to, to_port)) {
            (Some(from), Some(to)) => Some([from, to]),
            _ => return Read::Broken,
        },
        _ => return Read::Broken,
    };
    let len = bytes.windows(2).position(|pair| pair == b"\r\n").map_or(0, |at| at + 2);
    Read::Whole(Found { len, named, tlvs: Vec::new() })
}

/// Version 2, field by field.
fn binary(bytes: &[u8]) -> Read<Found> {
    let signature = b"\r\n\r\n\0\r\nQUIT\n";
    if bytes.len() < 16 {
        return if bytes.iter().zip(signature).all(|(one, other)| one == other) {
            Read::Unfinished
        } else {
            Read::Broken
        };
    }
    let len = 16 + usize::from(bytes[14]) * 256 + usize::from(bytes[15]);
    let is_local = bytes[12] == 0x20;
    let is_known = is_local || (bytes[12] == 0x21 && b"\x00\x11\x12\x21\x22\x31\x32".contains(&bytes[13]));
    if !bytes.starts_with(signature) || !is_known {
        return Read::Broken;
    }
    if bytes.len() < len {
        return Read::Unfinished;
    }
    let block = &bytes[16..len];
    let size = match bytes[13] {
        0x11 if !is_local => 12,
        0x21 if !is_local => 36,
        0x31 if !is_local => 216,
        _ => return Read::Whole(Found { len, named: None, tlvs: Vec::new() }),
    };
    if block.len() < size {
        return Read::Broken;
    }
    let half = (size - 4) / 2;
    let address = |at: usize| -> IpAddr {
        if size == 12 {
            IpAddr::from(<[u8; 4]>::try_from(&block[at..at + 4]).expect("four bytes"))
        } else {
            IpAddr::from(<[u8; 16]>::try_from(&block[at..at + 16]).expect("sixteen bytes"))
        }
    };
    let port = |at: usize| u16::from(block[at]) * 256 + u16::from(block[at + 1]);
    let named = (size != 216).then(|| {
        [SocketAddr::new(address(0), port(size - 4)), SocketAddr::new(address(half), port(size - 2))]
    });
    if are_fields_right(&bytes[..len], 16 + size) {
        Read::Whole(Found { len, named, tlvs: block[size..].to_vec() })
    } else {
        Read::Broken
    }
}

/// Whether the fields from `at` on fill the header, and its checksum, if there is one, is right.
fn are_fields_right(header: &[u8], mut at: usize) -> bool {
    let mut sums = Vec::new();
    while at < header.len() {
        if at + 3 > header.len() {
            return false;
        }
        let len = usize::from(header[at + 1]) * 256 + usize::from(header[at + 2]);
        if header[at] == 3 {
            sums.push((at + 3, len));
        }
        at += 3 + len;
    }
    let is_right = |&(place, len): &(usize, usize)| {
        let mut zeroed = header.to_vec();
        len == 4 && place + 4 <= header.len() && {
            zeroed[place..place + 4].fill(0);
            crc32c(&zeroed).to_be_bytes() == header[place..place + 4]
        }
    };
    at == header.len() && sums.len() <= 1 && sums.iter().all(is_right)
}

/// CRC-32C bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 };
        }
    }
    !sum
}
