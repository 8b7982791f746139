//! Where does a record end? Read from its header alone.
//!
//! Never looks into a record, and never waits for the rest of one that rustls would refuse by its header.

/// Type, version and length (RFC 8446 §5.1).
const HEADER_BYTES: usize = 5;
/// Longest protected record: 2^14 bytes and 2,048 of expansion (RFC 5246 §6.2.3; RFC 8446 §5.2 allows less).
const PAYLOAD_BYTES_MAX: usize = 16_384 + 2_048;

/// What lies at the front of received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Front {
    /// A whole record of this many bytes.
    Whole(usize),
    /// Nothing, or the beginning of a record.
    Partial,
    /// No record at all.
    Malformed,
}

/// Looks for a record at the front of `bytes`.
pub(crate) fn front(bytes: &[u8]) -> Front {
    let Some(&kind) = bytes.first() else { return Front::Partial };
    // change_cipher_spec, alert, handshake, application_data (RFC 8446 §5.1).
    if !(20..=23).contains(&kind) {
        return Front::Malformed;
    }
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Front::Partial };
    let payload = usize::from(u16::from_be_bytes([header[3], header[4]]));
    if payload > PAYLOAD_BYTES_MAX {
        return Front::Malformed;
    }
    let whole = HEADER_BYTES + payload;
    if bytes.len() < whole { Front::Partial } else { Front::Whole(whole) }
}

/// The version that a client's first record asks for at most, where newer ones are not offered by an extension: a hello
/// (RFC 8446 §4.1.2) as far as that field. `None` where the record ends before it: the next one's header says something else.
pub(crate) fn hello_version(bytes: &[u8]) -> Option<u16> {
    const UP_TO_VERSION: u16 = 6;
    match bytes {
        [22, 3, _, high, low, 1, _, _, _, major, minor, ..]
            if u16::from_be_bytes([*high, *low]) >= UP_TO_VERSION =>
        {
            Some(u16::from_be_bytes([*major, *minor]))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_ends_where_its_header_says() {
        let record = [&[23, 3, 3, 0, 4][..], b"abcd"].concat();
        for cut in 0..record.len() {
            assert_eq!(front(&record[..cut]), Front::Partial, "{cut}");
        }
        assert_eq!(front(&record), Front::Whole(9));
        assert_eq!(front(&[&record[..], b"more"].concat()), Front::Whole(9));
        assert_eq!(front(&[23, 3, 3, 0, 0]), Front::Whole(5));
    }

    #[test]
    fn a_hello_says_its_version_once_it_is_there() {
        let hello = [22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 2, 9];
        assert_eq!(hello_version(&hello), Some(0x0302));
        assert_eq!(hello_version(&hello[..10]), None);
        assert_eq!(hello_version(&[23, 3, 1, 0, 200, 1, 0, 0, 196, 3, 2]), None);
    }

    #[test]
    fn the_version_of_a_hello_is_read_within_its_first_record() {
        let hello = |len: u8| [22, 3, 1, 0, len, 1, 0, 0, 40, 3, 3, 7, 7];
        assert_eq!(hello_version(&hello(8)), Some(0x0303));
        assert_eq!(hello_version(&hello(8)[..10]), None);
        // Cut into records of two bytes: what stands there is the next header's version.
        assert_eq!(hello_version(&[22, 3, 1, 0, 2, 1, 0, 22, 3, 1, 0, 2, 0, 40]), None);
        for len in 0..6 {
            assert_eq!(hello_version(&hello(len)), None, "{len}");
        }
    }

    #[test]
    fn what_is_no_record_is_known_from_its_front() {
        assert_eq!(front(b"G"), Front::Malformed);
        assert_eq!(front(&[19]), Front::Malformed);
        assert_eq!(front(&[24, 3, 3]), Front::Malformed);
        assert_eq!(front(&[23, 3, 3, 0x48, 0x00]), Front::Partial, "the longest");
        assert_eq!(front(&[23, 3, 3, 0x48, 0x01]), Front::Malformed);
    }
}
