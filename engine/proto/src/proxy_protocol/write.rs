//! How is the next server told who the client is?
//!
//! Never passes on a checksum of another header, and never invents an address: what is not known is said to be so.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use super::{Addresses, FIXED_BYTES, HEADER_BYTES_MAX, SIGNATURE, checksum, checksum_place};

/// Form of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// Appends a header to `out`. `tlvs` are those of a header that was received, empty without one; version 1 has no place
/// for them. Their checksum is made anew. Addresses of two families both become IPv6.
///
/// Fields that would make the header longer than a receiver must take are left out, all of them.
pub fn write(version: Version, addresses: Option<Addresses>, tlvs: &[u8], out: &mut Vec<u8>) {
    match version {
        Version::V1 => write_line(addresses, out),
        Version::V2 => write_binary(addresses, tlvs, out),
    }
}

/// Appends a header of version 2 that says that the connection is the sender's own, as a probe's is: `LOCAL`.
pub fn write_local(out: &mut Vec<u8>) {
    out.extend_from_slice(SIGNATURE);
    out.extend_from_slice(&[0x20, 0x00, 0, 0]);
}

/// Two addresses of one family.
fn of_one_family(addresses: Addresses) -> (IpAddr, IpAddr) {
    let Addresses { source, destination } = addresses;
    match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(source), IpAddr::V6(destination)) => (source.to_ipv6_mapped().into(), destination.into()),
        (IpAddr::V6(source), IpAddr::V4(destination)) => (source.into(), destination.to_ipv6_mapped().into()),
        pair => pair,
    }
}

fn write_line(addresses: Option<Addresses>, out: &mut Vec<u8>) {
    let written = match addresses {
        Some(addresses) => {
            let (source, destination) = of_one_family(addresses);
            let protocol = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            let (from, to) = (addresses.source.port(), addresses.destination.port());
            write!(out, "PROXY {protocol} {source} {destination} {from} {to}\r\n")
        }
        None => out.write_all(b"PROXY UNKNOWN\r\n"),
    };
    written.expect("a vector takes what is written");
}

fn write_binary(addresses: Option<Addresses>, tlvs: &[u8], out: &mut Vec<u8>) {
    let begin = out.len();
    out.extend_from_slice(SIGNATURE);
    // Version 2, PROXY; the family and the length follow when they are known.
    out.extend_from_slice(&[0x21, 0x00, 0, 0]);
    if let Some(addresses) = addresses {
        out[begin + 13] = write_addresses(addresses, out);
    }
    let tlvs_at = out.len() - begin;
    if tlvs_at + tlvs.len() <= HEADER_BYTES_MAX {
        out.extend_from_slice(tlvs);
    }
    let header = &mut out[begin..];
    let len = u16::try_from(header.len() - FIXED_BYTES).expect("the bound of a header is below 64 KiB");
    header[14..16].copy_from_slice(&len.to_be_bytes());
    if let Ok(Some(at)) = checksum_place(&header[tlvs_at..]) {
        let at = tlvs_at + at;
        let sum = checksum::of_header(header, at);
        header[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Appends both addresses and ports; says their family and transport.
fn write_addresses(addresses: Addresses, out: &mut Vec<u8>) -> u8 {
    let (source, destination) = of_one_family(addresses);
    for address in [source, destination] {
        match address {
            IpAddr::V4(address) => out.extend_from_slice(&address.octets()),
            IpAddr::V6(address) => out.extend_from_slice(&address.octets()),
        }
    }
    let port = |end: SocketAddr| end.port().to_be_bytes();
    out.extend_from_slice(&port(addresses.source));
    out.extend_from_slice(&port(addresses.destination));
    if source.is_ipv4() { 0x11 } else { 0x21 }
}
