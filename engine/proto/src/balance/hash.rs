//! Which number stands for a key? The same on every core, in every process and after every restart.
//!
//! Never meant to withstand who looks for keys that collide: they lead to the same endpoint, and so does one key sent often.

/// Odd constants whose bits look random, from the fractional part of the golden ratio and of the square root of 3.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const STEP: u64 = 0xbb67_ae85_84ca_a73b;

/// Spreads what differs in any bit over all 64: the finalizer of splitmix64.
///
/// Source: Steele, Lea, Flood: Fast splittable pseudorandom number generators (2014), variant 13 of David Stafford.
#[inline]
#[must_use]
pub fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// The number of some bytes. Eight bytes at a time, in their order, the length last.
#[must_use]
pub fn of_bytes(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut state = SEED;
    for word in words {
        state = mix(state ^ u64::from_le_bytes(*word)).wrapping_mul(STEP);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    state = mix(state ^ u64::from_le_bytes(last)).wrapping_mul(STEP);
    mix(state ^ bytes.len() as u64)
}

/// A number of `number` that has nothing to do with those of other `purposes`.
#[inline]
#[must_use]
pub fn salted(number: u64, purpose: u64) -> u64 {
    mix(number ^ purpose.wrapping_mul(SEED))
}

/// Maps a number to one below `bound`, all alike.
///
/// Source: Lemire: Fast random integer generation in an interval (2019), without the last correction: bounds here are far
/// below 2³², where the error is below 2⁻³².
#[inline]
#[must_use]
pub fn below(number: u64, bound: u64) -> u64 {
    ((u128::from(number) * u128::from(bound)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Other processes of the node, and the next version, must find the same endpoint for the same key.
    #[test]
    fn never_changes() {
        for (bytes, expected) in [
            (&b""[..], 0x653f_95b8_7bd0_1a38_u64),
            (b"a", 0x06c7_269d_2331_3912),
            (b"/fhir/Patient/42", 0xa9ed_220c_4c2f_4fa2),
            (b"/fhir/Patient/42?_format=json", 0x45f5_c455_3683_386c),
        ] {
            assert_eq!(of_bytes(bytes), expected, "{:?}", bytes.escape_ascii().to_string());
        }
    }

    #[test]
    fn keys_that_differ_a_little_have_numbers_that_differ_a_lot() {
        let mut seen = HashSet::new();
        let mut bits = [0_u32; 64];
        for n in 0..10_000_u32 {
            let number = of_bytes(format!("/item/{n}").as_bytes());
            assert!(seen.insert(number));
            (0..64).for_each(|bit| bits[bit] += (number >> bit) as u32 & 1);
        }
        // Five standard deviations of 10,000 coins.
        assert!(bits.iter().all(|&ones| ones.abs_diff(5_000) < 250), "{bits:?}");
        for bytes in [&[0_u8][..], &[0; 2], &[0; 7], &[0; 8], &[0; 9], &[0; 16]] {
            assert!(seen.insert(of_bytes(bytes)), "{bytes:?}");
        }
    }

    #[test]
    fn a_number_below_a_bound_is_any_of_them_alike() {
        assert_eq!(below(0, 7), 0);
        assert_eq!(below(u64::MAX, 7), 6);
        let mut counted = [0_u32; 7];
        (0..7_000_u64).for_each(|n| counted[below(mix(n), 7) as usize] += 1);
        assert!(counted.iter().all(|count| count.abs_diff(1_000) < 150), "{counted:?}");
    }
}
