//! Do two processes run the same configuration? One number to compare.
//!
//! Never depends on the format, the spelling of a value, or the order of tables whose order means nothing.

use crate::schema::Config;

/// FNV-1a, 64 bits: offset basis and prime of draft-eastlake-fnv.
const FNV_OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// Hash of the canonical JSON of the configuration with every default filled in.
pub(super) fn fingerprint(config: &Config) -> u64 {
    let mut canonical = config.clone();
    // Channels keep their order: between equal priorities it decides.
    canonical.listener.sort_by_name();
    canonical.upstream.sort_by_name();
    canonical.security.sort_by_name();
    canonical.access_log.sort_by_name();
    // One process's own.
    canonical.store = None;
    canonical.node.server_port_offset = 0;
    // Names are strings and no number is a float, so there is nothing that JSON could not hold.
    let json = serde_json::to_vec(&canonical).unwrap_or_default();
    fnv1a(&json)
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(FNV_OFFSET_BASIS, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_as_fnv1a_is_published() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
