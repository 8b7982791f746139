//! Which clients are taken for one? Those whose addresses agree in their first bits.
//!
//! Never looks at a port: a client has many.

use std::net::IpAddr;

use super::hash::mix;

/// How many leading bits of an address say who a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceMask {
    /// Of IPv4: 0 to 32.
    pub bits4: u8,
    /// Of IPv6: 0 to 128.
    pub bits6: u8,
}

impl SourceMask {
    /// Every address for itself.
    pub const ALL: Self = Self { bits4: 32, bits6: 128 };

    /// The number of the client at this address. An address of IPv4 within IPv6 is one of IPv4.
    #[must_use]
    pub fn number(self, address: IpAddr) -> u64 {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits4.min(32))).unwrap_or(0);
                mix(u64::from(address.to_bits() & mask) | 4 << 32)
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits6.min(128))).unwrap_or(0);
                let bits = address.to_bits() & mask;
                mix(mix((bits >> 64) as u64) ^ bits as u64)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bits4: u8, bits6: u8, one: &str, other: &str, expected: bool) {
        let mask = SourceMask { bits4, bits6 };
        let [one_number, other_number] = [one, other].map(|text| mask.number(text.parse().expect(text)));
        assert_eq!(one_number == other_number, expected, "{one} {other}");
    }

    #[test]
    fn addresses_that_agree_in_the_leading_bits_are_one_client() {
        check(32, 128, "10.0.0.1", "10.0.0.1", true);
        check(32, 128, "10.0.0.1", "10.0.0.2", false);
        check(24, 128, "10.0.0.1", "10.0.0.254", true);
        check(24, 128, "10.0.0.1", "10.0.1.1", false);
        check(0, 128, "10.0.0.1", "192.0.2.1", true);
        check(32, 128, "10.0.0.1", "::ffff:10.0.0.1", true);
        check(32, 128, "2001:db8::1", "2001:db8::2", false);
        check(32, 64, "2001:db8::1", "2001:db8::2", true);
        check(32, 64, "2001:db8::1", "2001:db8:0:1::1", false);
        check(32, 0, "2001:db8::1", "fe80::1", true);
        check(0, 0, "10.0.0.1", "2001:db8::1", false);
        check(255, 255, "10.0.0.1", "10.0.0.2", false);
    }
}
