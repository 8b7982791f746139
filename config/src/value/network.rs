//! Which addresses does "10.0.0.0/8" stand for?
//!
//! Never accepts a range that would not match what it seems to say, such as one with bits behind its prefix.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use thiserror::Error;

use super::Refusal;
use crate::snapshot::Network;

/// Why a network was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum NetworkError {
    #[error("a network is an IP address with a prefix length, found {text:?}")]
    NoAddress { text: String },
    #[error("a prefix length of this family is 0 to {max}, found {found:?}")]
    PrefixLen { found: String, max: u8 },
    #[error("{address} has bits set after the first {}", meant.prefix_len)]
    BitsAfterPrefix { address: IpAddr, meant: Network },
    #[error("IPv4-mapped addresses are compared as IPv4")]
    Mapped { meant: Option<Network> },
}

impl Refusal for NetworkError {
    fn suggestion(&self) -> Option<String> {
        match self {
            Self::NoAddress { .. } => Some("for example \"10.0.0.0/8\" or \"fd00::/8\"".to_owned()),
            Self::PrefixLen { .. } => None,
            Self::BitsAfterPrefix { meant, .. } => Some(format!("did you mean \"{meant}\"?")),
            Self::Mapped { meant } => meant.map(|meant| format!("write \"{meant}\"")),
        }
    }
}

/// Reads a network in CIDR notation; an address without prefix length stands for itself.
pub(crate) fn parse(text: &str) -> Result<Network, NetworkError> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let no_address = |_| NetworkError::NoAddress { text: text.to_owned() };
    let address: IpAddr = address.parse().map_err(no_address)?;
    let max = if address.is_ipv4() { 32 } else { 128 };
    let prefix_len = match prefix {
        None => max,
        Some(digits) => parse_prefix_len(digits, max)
            .ok_or_else(|| NetworkError::PrefixLen { found: digits.to_owned(), max })?,
    };
    if let IpAddr::V6(mapped) = address
        && let Some(v4) = mapped.to_ipv4_mapped()
    {
        // The first 96 bits are the mapping itself.
        let meant = prefix_len.checked_sub(96).map(|len| first_of(IpAddr::V4(v4), len));
        return Err(NetworkError::Mapped { meant });
    }
    let meant = first_of(address, prefix_len);
    if meant.address == address { Ok(meant) } else { Err(NetworkError::BitsAfterPrefix { address, meant }) }
}

fn parse_prefix_len(digits: &str, max: u8) -> Option<u8> {
    // `u8::from_str` would take a sign as well.
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|&len| plain && len <= max)
}

/// The network of this length that holds `address`.
fn first_of(address: IpAddr, prefix_len: u8) -> Network {
    let address = match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix_len)).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix_len)).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    };
    Network { address, prefix_len }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Network {
    fn schema_name() -> Cow<'static, str> {
        "Network".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "An address range in CIDR notation; an address alone stands for itself.",
            "type": "string",
            "examples": ["10.0.0.0/8", "fd00::/8", "192.0.2.7"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_cidr_notation_and_single_addresses() {
        for (text, canonical) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("fd00::/8", "fd00::/8"),
            ("::/0", "::/0"),
            ("0:0:0::1", "::1/128"),
        ] {
            assert_eq!(parse(text).map(|network| network.to_string()), Ok(canonical.to_owned()));
        }
    }

    #[test]
    fn a_network_holds_its_addresses_and_no_other() {
        let network = parse("10.1.0.0/16").unwrap();
        assert!(network.contains("10.1.255.255".parse().unwrap()));
        assert!(network.contains("::ffff:10.1.0.1".parse().unwrap()));
        assert!(!network.contains("10.2.0.0".parse().unwrap()));
        assert!(!network.contains("::1".parse().unwrap()));
    }

    #[test]
    fn refuses_ranges_that_do_not_mean_what_they_say() {
        let check = |text: &str, cause: &str, suggestion: Option<&str>| {
            let error = parse(text).unwrap_err();
            assert_eq!((error.to_string().as_str(), error.suggestion().as_deref()), (cause, suggestion));
        };
        let example = Some("for example \"10.0.0.0/8\" or \"fd00::/8\"");
        check("lan", "a network is an IP address with a prefix length, found \"lan\"", example);
        check("10.0.0/8", "a network is an IP address with a prefix length, found \"10.0.0/8\"", example);
        check("10.0.0.0/33", "a prefix length of this family is 0 to 32, found \"33\"", None);
        check("10.0.0.0/+8", "a prefix length of this family is 0 to 32, found \"+8\"", None);
        check("10.0.0.0/", "a prefix length of this family is 0 to 32, found \"\"", None);
        check("fd00::/129", "a prefix length of this family is 0 to 128, found \"129\"", None);
        let meant = Some("did you mean \"10.0.0.0/8\"?");
        check("10.0.0.1/8", "10.0.0.1 has bits set after the first 8", meant);
        let mapped = "IPv4-mapped addresses are compared as IPv4";
        check("::ffff:10.0.0.0/104", mapped, Some("write \"10.0.0.0/8\""));
    }
}
