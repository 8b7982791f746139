//! What is the checksum of a header? CRC-32C (Castagnoli), RFC 9260 appendix A.
//!
//! A table of one byte at a time: it runs once for a connection, over some hundred bytes. Never anything to rely on
//! against a liar.

/// The polynomial with its bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut rest = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            rest = if rest & 1 == 1 { rest >> 1 ^ POLYNOMIAL } else { rest >> 1 };
            bit += 1;
        }
        table[byte] = rest;
        byte += 1;
    }
    table
};

fn update(sum: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(sum, |sum, byte| TABLE[usize::from(sum as u8 ^ byte)] ^ sum >> 8)
}

/// The checksum of `header`, whose four bytes at `at` count as zero: they hold it.
pub(super) fn of_header(header: &[u8], at: usize) -> u32 {
    let sum = update(u32::MAX, &header[..at]);
    !update(update(sum, &[0; 4]), &header[at + 4..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_published_check_values() {
        // RFC 3720 appendix B.4, as numbers.
        let ascending: Vec<u8> = (0..32).collect();
        for (bytes, expected) in [
            (&b"123456789"[..], 0xe306_9283),
            (&[0; 32], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&ascending, 0x46dd_794e),
        ] {
            assert_eq!(!update(u32::MAX, bytes), expected);
        }
    }

    #[test]
    fn its_own_bytes_count_as_zero() {
        assert_eq!(of_header(b"12\xaa\xbb\xcc\xdd34", 2), !update(u32::MAX, b"12\0\0\0\x0034"));
    }
}
