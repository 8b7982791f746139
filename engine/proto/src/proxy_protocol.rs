//! Who is the client that a proxy in front speaks for? PROXY protocol, versions 1 and 2 ("The PROXY protocol", W. Tarreau,
//! HAProxy's `proxy-protocol.txt`).
//!
//! Never guesses: what is no header by the letter is refused, and never decides whom to believe. Sections cited are
//! those of that document.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::rule::rules;

mod checksum;
mod write;

pub use write::{Version, write, write_local};

/// Longest line of version 1 with its end, §2.1.
pub const LINE_BYTES_MAX: usize = 107;
/// Longest header of version 2: HAProxy's own bound, which wants a header whole in a buffer of 16 KiB. The format would
/// allow 64 KiB, and nobody sends more than some hundred bytes but those who pass a client's certificate on.
pub const HEADER_BYTES_MAX: usize = 16 << 10;

const LINE_PREFIX: &[u8] = b"PROXY ";
/// §2.2: chosen to break whoever takes it for something else.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length: §2.2.
const FIXED_BYTES: usize = 16;
/// Both paths of a family of Unix sockets, §2.2.
const UNIX_ADDRESSES_BYTES: usize = 2 * 108;
/// Type and length of a field behind the addresses, §2.2.
const TLV_HEAD_BYTES: usize = 3;
/// `PP2_TYPE_CRC32C`, §2.2.3.
const TLV_CHECKSUM: u8 = 0x03;

rules! {
    /// A rule of PROXY headers.
    pub enum ProxyRejected {
        /// The connection begins with neither version's first bytes, §2.
        HeaderMissing = "header_missing",
        /// No line end within [`LINE_BYTES_MAX`], §2.1.
        LineTooLong = "line_too_long",
        /// A line feed alone or a carriage return alone, §2.1.
        LineEndInvalid = "line_end_invalid",
        /// Neither `TCP4`, `TCP6` nor `UNKNOWN`, §2.1.
        ProtocolUnknown = "protocol_unknown",
        /// Not two addresses and two ports with one space between them, §2.1.
        LineMalformed = "line_malformed",
        /// An address that is none of its family, §2.1.
        AddressInvalid = "address_invalid",
        /// A port that is not 0 to 65535 in plain digits, §2.1.
        PortInvalid = "port_invalid",
        /// The binary header says another version than 2, §2.2.
        VersionUnsupported = "version_unsupported",
        /// A command besides LOCAL and PROXY, §2.2.
        CommandUnknown = "command_unknown",
        /// A pair of family and transport that version 2 does not have, §2.2.
        FamilyUnknown = "family_unknown",
        /// More than [`HEADER_BYTES_MAX`].
        HeaderTooLong = "header_too_long",
        /// The header is shorter than the addresses of its family, §2.2.
        AddressesTruncated = "addresses_truncated",
        /// A field behind the addresses reaches beyond the header's end, §2.2.
        FieldTruncated = "field_truncated",
        /// A checksum that is not of four bytes, or a second one, §2.2.3.
        ChecksumMalformed = "checksum_malformed",
        /// The checksum is another than that of the header, §2.2.3.
        ChecksumWrong = "checksum_wrong",
    }
}

/// Both ends of the connection that the proxy in front accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The client.
    pub source: SocketAddr,
    /// What it connected to.
    pub destination: SocketAddr,
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'b> {
    /// How many bytes it takes; what follows is the client's.
    pub len: usize,
    /// `None` where the connection's own addresses hold: it is the proxy's own (LOCAL), or the proxy does not know
    /// (UNKNOWN), or the client came by something that has no IP addresses.
    pub addresses: Option<Addresses>,
    /// The fields behind the addresses of version 2, as received: type, length, value, each whole. Empty where the header
    /// is to be skipped.
    pub tlvs: &'b [u8],
}

/// Reads the header at the start of a connection. `Ok(None)` asks for more bytes, never past the header's bound.
///
/// # Errors
/// [`ProxyRejected`] names the broken rule, as early as the bytes show it.
pub fn parse(bytes: &[u8]) -> Result<Option<Header<'_>>, ProxyRejected> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(byte, expected)| byte == expected);
    if begins(SIGNATURE) {
        if bytes.len() < FIXED_BYTES { check_fixed(bytes).map(|()| None) } else { parse_binary(bytes) }
    } else if begins(LINE_PREFIX) {
        parse_line(bytes)
    } else {
        Err(ProxyRejected::HeaderMissing)
    }
}

/// Version 1, §2.1.
fn parse_line(bytes: &[u8]) -> Result<Option<Header<'_>>, ProxyRejected> {
    let bounded = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = bounded.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return if bytes.len() < LINE_BYTES_MAX { Ok(None) } else { Err(ProxyRejected::LineTooLong) };
    };
    match bytes[end..] {
        [b'\r'] if end + 1 < LINE_BYTES_MAX => return Ok(None),
        [b'\r', b'\n', ..] if end + 1 < LINE_BYTES_MAX => {}
        [b'\r', ..] if end + 1 >= LINE_BYTES_MAX => return Err(ProxyRejected::LineTooLong),
        _ => return Err(ProxyRejected::LineEndInvalid),
    }
    let fields = &bytes[LINE_PREFIX.len().min(end)..end];
    let (protocol, rest) = match fields.iter().position(|&byte| byte == b' ') {
        Some(space) => (&fields[..space], Some(&fields[space + 1..])),
        None => (fields, None),
    };
    let addresses = match (protocol, rest) {
        // Whatever follows is to be ignored.
        (b"UNKNOWN", _) => None,
        (b"TCP4", Some(rest)) => Some(parse_addresses::<Ipv4Addr>(rest)?),
        (b"TCP6", Some(rest)) => Some(parse_addresses::<Ipv6Addr>(rest)?),
        (b"TCP4" | b"TCP6", None) => return Err(ProxyRejected::LineMalformed),
        _ => return Err(ProxyRejected::ProtocolUnknown),
    };
    Ok(Some(Header { len: end + 2, addresses, tlvs: &[] }))
}

/// `source destination port port`, one space between them.
fn parse_addresses<A: FromStr + Into<std::net::IpAddr>>(fields: &[u8]) -> Result<Addresses, ProxyRejected> {
    let fields = str::from_utf8(fields).map_err(|_| ProxyRejected::LineMalformed)?;
    let mut fields = fields.split(' ');
    let (Some(source), Some(destination), Some(source_port), Some(destination_port), None) =
        (fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(ProxyRejected::LineMalformed);
    };
    let address = |text: &str| text.parse::<A>().map_err(|_| ProxyRejected::AddressInvalid);
    let (source, destination) = (address(source)?, address(destination)?);
    let end = |address: A, port: &str| Ok(SocketAddr::new(address.into(), parse_port(port)?));
    Ok(Addresses { source: end(source, source_port)?, destination: end(destination, destination_port)? })
}

fn parse_port(text: &str) -> Result<u16, ProxyRejected> {
    // `u16::from_str` would take a sign and zeros in front as well.
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain).ok_or(ProxyRejected::PortInvalid)
}

/// What follows the fixed part of version 2.
#[derive(Clone, Copy)]
enum Family {
    /// To be skipped: LOCAL, or a client whose address does not matter here.
    Skipped,
    Ipv4,
    Ipv6,
    Unix,
}

/// Whether the fixed part of version 2 is right as far as it is there, §2.2.
fn check_fixed(bytes: &[u8]) -> Result<(), ProxyRejected> {
    if let Some(&command) = bytes.get(12) {
        if command >> 4 != 2 {
            return Err(ProxyRejected::VersionUnsupported);
        }
        if command & 0xf > 1 {
            return Err(ProxyRejected::CommandUnknown);
        }
        if let Some(&family) = bytes.get(13) {
            family_of(command, family)?;
        }
    }
    Ok(())
}

/// What kind of addresses follow.
fn family_of(command: u8, family: u8) -> Result<Family, ProxyRejected> {
    match (command & 0xf, family) {
        // "Discard the protocol block including the family which is ignored".
        (0, _) => Ok(Family::Skipped),
        (_, 0x11) => Ok(Family::Ipv4),
        (_, 0x21) => Ok(Family::Ipv6),
        (_, 0x31) => Ok(Family::Unix),
        // Not said, and datagrams, which no stream came as: valid, and taken as not said.
        (_, 0x00 | 0x12 | 0x22 | 0x32) => Ok(Family::Skipped),
        _ => Err(ProxyRejected::FamilyUnknown),
    }
}

/// Version 2, §2.2; the fixed part is there.
fn parse_binary(bytes: &[u8]) -> Result<Option<Header<'_>>, ProxyRejected> {
    check_fixed(bytes)?;
    let family = family_of(bytes[12], bytes[13])?;
    let len = FIXED_BYTES + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if len > HEADER_BYTES_MAX {
        return Err(ProxyRejected::HeaderTooLong);
    }
    let addresses_len = match family {
        Family::Skipped => 0,
        Family::Ipv4 => 12,
        Family::Ipv6 => 36,
        Family::Unix => UNIX_ADDRESSES_BYTES,
    };
    if len < FIXED_BYTES + addresses_len {
        return Err(ProxyRejected::AddressesTruncated);
    }
    let Some(header) = bytes.get(..len) else { return Ok(None) };
    let (block, tlvs) = header[FIXED_BYTES..].split_at(addresses_len);
    let addresses = match family {
        Family::Skipped => return Ok(Some(Header { len, addresses: None, tlvs: &[] })),
        Family::Ipv4 => {
            let address = |at: usize| Ipv4Addr::from(fixed::<4>(block, at));
            Some(addresses_of(address(0), address(4), block))
        }
        Family::Ipv6 => {
            let address = |at: usize| Ipv6Addr::from(fixed::<16>(block, at));
            Some(addresses_of(address(0), address(16), block))
        }
        Family::Unix => None,
    };
    if let Some(at) = checksum_place(tlvs)? {
        let at = FIXED_BYTES + addresses_len + at;
        if checksum::of_header(header, at) != u32::from_be_bytes(fixed(header, at)) {
            return Err(ProxyRejected::ChecksumWrong);
        }
    }
    Ok(Some(Header { len, addresses, tlvs }))
}

/// The ports are the last four bytes of a block.
fn addresses_of<A: Into<std::net::IpAddr>>(source: A, destination: A, block: &[u8]) -> Addresses {
    let port = |at: usize| u16::from_be_bytes(fixed(block, at));
    Addresses {
        source: SocketAddr::new(source.into(), port(block.len() - 4)),
        destination: SocketAddr::new(destination.into(), port(block.len() - 2)),
    }
}

/// The `N` bytes at `at`, which the caller knows to be there.
fn fixed<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut fixed = [0; N];
    fixed.copy_from_slice(&bytes[at..at + N]);
    fixed
}

/// Where the value of the checksum lies among these fields, if there is one; each field is found whole.
fn checksum_place(tlvs: &[u8]) -> Result<Option<usize>, ProxyRejected> {
    let mut place = None;
    let mut at = 0;
    while at < tlvs.len() {
        let head = tlvs.get(at..at + TLV_HEAD_BYTES).ok_or(ProxyRejected::FieldTruncated)?;
        let value_at = at + TLV_HEAD_BYTES;
        let len = usize::from(u16::from_be_bytes([head[1], head[2]]));
        if tlvs.len() - value_at < len {
            return Err(ProxyRejected::FieldTruncated);
        }
        if head[0] == TLV_CHECKSUM {
            if len != 4 || place.is_some() {
                return Err(ProxyRejected::ChecksumMalformed);
            }
            place = Some(value_at);
        }
        at = value_at + len;
    }
    Ok(place)
}

#[cfg(test)]
mod tests;
