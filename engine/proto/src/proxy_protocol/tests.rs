//! Is a header read to the letter, however it is cut, and written so that it can be read again?

use super::*;

/// `Ok(None)`, or how far the header reaches, whom it names and its fields, the same for every cut.
type Verdict<'b> = Result<Option<(usize, Option<[&'b str; 2]>, &'b [u8])>, ProxyRejected>;

#[track_caller]
fn check(bytes: &[u8], expected: Verdict<'_>) {
    let expected = expected.map(|header| {
        header.map(|(len, addresses, tlvs)| {
            let addresses = addresses.map(|ends| ends.map(|end| end.parse().expect("an address and a port")));
            let addresses = addresses.map(|[source, destination]| Addresses { source, destination });
            Header { len, addresses, tlvs }
        })
    });
    assert_eq!(parse(bytes), expected, "{}", bytes.escape_ascii());
    for cut in 0..bytes.len() {
        match parse(&bytes[..cut]) {
            Ok(None) => {}
            early => assert_eq!(early, expected, "settled at {cut}: {}", bytes.escape_ascii()),
        }
    }
}

fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let len = (block.len() as u16).to_be_bytes();
    [SIGNATURE, &[command, family][..], &len[..], block].concat()
}

const V4: &[u8] = b"\xc0\x00\x02\x01\xc6\x33\x64\x02\x30\x39\x01\xbb";
const V4_ENDS: [&str; 2] = ["192.0.2.1:12345", "198.51.100.2:443"];

#[test]
fn reads_lines() {
    check(b"PROXY TCP4 192.0.2.1 198.51.100.2 12345 443\r\n", Ok(Some((45, Some(V4_ENDS), b""))));
    check(b"PROXY TCP4 192.0.2.1 198.51.100.2 12345 443\r\nGET /", Ok(Some((45, Some(V4_ENDS), b""))));
    check(
        b"PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n",
        Ok(Some((44, Some(["255.255.255.255:65535", "0.0.0.0:0"]), b""))),
    );
    check(b"PROXY TCP6 2001:DB8::1 ::2 1 2\r\n", Ok(Some((32, Some(["[2001:db8::1]:1", "[::2]:2"]), b""))));
    check(
        b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n",
        Ok(Some((37, Some(["[::ffff:192.0.2.1]:1", "[::1]:2"]), b""))),
    );
    check(b"PROXY UNKNOWN\r\n", Ok(Some((15, None, b""))));
    check(b"PROXY UNKNOWN  \xff \t1.2.3.4\r\nx", Ok(Some((27, None, b""))));
    // §2.1: the longest there can be.
    let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let line = format!("PROXY UNKNOWN {longest} {longest} 65535 65535\r\n");
    assert_eq!(line.len(), LINE_BYTES_MAX);
    check(line.as_bytes(), Ok(Some((LINE_BYTES_MAX, None, b""))));
}

#[test]
fn waits_for_the_rest_of_a_line() {
    for line in
        ["", "P", "PROXY", "PROXY ", "PROXY TCP4", "PROXY TCP4 1.2.3.4 1.2.3.4 1 1", "PROXY UNKNOWN\r"]
    {
        check(line.as_bytes(), Ok(None));
    }
    check(&[b"PROXY UNKNOWN ", &[b'x'; 92][..]].concat(), Ok(None));
}

#[test]
fn refuses_lines_that_are_not_to_the_letter() {
    use ProxyRejected::*;
    for (line, rule) in [
        ("GET / HTTP/1.1\r\n", HeaderMissing),
        ("proxy TCP4 1.2.3.4 1.2.3.4 1 1\r\n", HeaderMissing),
        ("PROXY\tTCP4", HeaderMissing),
        ("\r\nPROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\n", HeaderMissing),
        ("\x16\x03\x01", HeaderMissing),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n", LineEndInvalid),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r1\r\n", LineEndInvalid),
        ("PROXY UNKNOWN\r\r\n", LineEndInvalid),
        ("PROXY \r\n", ProtocolUnknown),
        ("PROXY  TCP4 1.2.3.4 1.2.3.4 1 1\r\n", ProtocolUnknown),
        ("PROXY TCP5 1.2.3.4 1.2.3.4 1 1\r\n", ProtocolUnknown),
        ("PROXY tcp4 1.2.3.4 1.2.3.4 1 1\r\n", ProtocolUnknown),
        ("PROXY UNKNOWNS\r\n", ProtocolUnknown),
        ("PROXY UDP4 1.2.3.4 1.2.3.4 1 1\r\n", ProtocolUnknown),
        ("PROXY TCP4\r\n", LineMalformed),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", LineMalformed),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1\r\n", LineMalformed),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 1 \r\n", LineMalformed),
        ("PROXY TCP4  1.2.3.4 1.2.3.4 1 1\r\n", LineMalformed),
        ("PROXY TCP4 1.2.3.4 1.2.3.\u{e9} 1 1\r\n", AddressInvalid),
        ("PROXY TCP4 1.2.3.04 1.2.3.4 1 1\r\n", AddressInvalid),
        ("PROXY TCP4 1.2.3.256 1.2.3.4 1 1\r\n", AddressInvalid),
        ("PROXY TCP4 1.2.3 1.2.3.4 1 1\r\n", AddressInvalid),
        ("PROXY TCP4 ::1 ::1 1 1\r\n", AddressInvalid),
        ("PROXY TCP4 1.2.3.4 ::1 1 1\r\n", AddressInvalid),
        ("PROXY TCP6 1.2.3.4 1.2.3.4 1 1\r\n", AddressInvalid),
        ("PROXY TCP6 [::1] ::1 1 1\r\n", AddressInvalid),
        ("PROXY TCP6 fe80::1%lo ::1 1 1\r\n", AddressInvalid),
        ("PROXY TCP6 1::2::3 ::1 1 1\r\n", AddressInvalid),
        ("PROXY TCP4 1.2.3.4 1.2.3.4  1\r\n", PortInvalid),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 65536 1\r\n", PortInvalid),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 +1 1\r\n", PortInvalid),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 01\r\n", PortInvalid),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 -\r\n", PortInvalid),
    ] {
        check(line.as_bytes(), Err(rule));
    }
    check(b"PROXY TCP4 \xff \xff 1 1\r\n", Err(LineMalformed));
    let unending = [b"PROXY UNKNOWN ", &[b'x'; 93][..]].concat();
    check(&unending, Err(LineTooLong));
    check(&[&unending[..106], b"\r\n"].concat(), Err(LineTooLong));
}

#[test]
fn reads_binary_headers() {
    let with_tlv = [V4, b"\x01\x00\x02h2\xe0\x00\x00"].concat();
    let v6 = [&[0; 15][..], &[1], &[0; 15], &[2], b"\x00\x01\xff\xff"].concat();
    let unix = [&[b'/'; 216][..], b"\x04\x00\x01\x00"].concat();
    let v4 = binary(0x21, 0x11, V4);
    check(&v4, Ok(Some((28, Some(V4_ENDS), b""))));
    check(&[&v4[..], b"GET /"].concat(), Ok(Some((28, Some(V4_ENDS), b""))));
    let tlvs = b"\x01\x00\x02h2\xe0\x00\x00";
    check(&binary(0x21, 0x11, &with_tlv), Ok(Some((36, Some(V4_ENDS), tlvs))));
    check(&binary(0x21, 0x21, &v6), Ok(Some((52, Some(["[::1]:1", "[::2]:65535"]), b""))));
    check(&binary(0x21, 0x31, &unix), Ok(Some((236, None, b"\x04\x00\x01\x00"))));
}

#[test]
fn skips_what_says_nothing_of_this_client() {
    // LOCAL: "discard the protocol block including the family which is ignored".
    check(&binary(0x20, 0x00, b""), Ok(Some((16, None, b""))));
    check(&binary(0x20, 0x11, V4), Ok(Some((28, None, b""))));
    check(&binary(0x20, 0xff, b"whatever"), Ok(Some((24, None, b""))));
    // The combinations that a receiver may take as unspecified.
    for family in [0x00, 0x12, 0x22, 0x32] {
        check(&binary(0x21, family, b"whatever"), Ok(Some((24, None, b""))));
    }
}

#[test]
fn waits_for_the_rest_of_a_binary_header() {
    let header = binary(0x21, 0x11, V4);
    check(&header[..header.len() - 1], Ok(None));
    let longest = binary(0x20, 0, &[0; HEADER_BYTES_MAX - 16]);
    assert_eq!(parse(&longest).map(|header| header.map(|header| header.len)), Ok(Some(HEADER_BYTES_MAX)));
}

#[test]
fn refuses_binary_headers_that_are_not_to_the_letter() {
    use ProxyRejected::*;
    let behind = |tlvs: &[u8]| binary(0x21, 0x11, &[V4, tlvs].concat());
    for (header, rule) in [
        (binary(0x11, 0x11, V4), VersionUnsupported),
        (binary(0x31, 0x11, V4), VersionUnsupported),
        (binary(0x22, 0x11, V4), CommandUnknown),
        (binary(0x2f, 0x11, V4), CommandUnknown),
        (binary(0x21, 0x01, V4), FamilyUnknown),
        (binary(0x21, 0x10, V4), FamilyUnknown),
        (binary(0x21, 0x13, V4), FamilyUnknown),
        (binary(0x21, 0x41, V4), FamilyUnknown),
        (binary(0x21, 0x11, &V4[..11]), AddressesTruncated),
        (binary(0x21, 0x21, V4), AddressesTruncated),
        (binary(0x21, 0x31, &[0; 215]), AddressesTruncated),
        (behind(b"\x01"), FieldTruncated),
        (behind(b"\x01\x00"), FieldTruncated),
        (behind(b"\x01\x00\x01"), FieldTruncated),
        (behind(b"\x01\x00\x00\x02\xff\xff1"), FieldTruncated),
        (behind(b"\x03\x00\x03abc"), ChecksumMalformed),
        (behind(b"\x03\x00\x04abcd"), ChecksumWrong),
        (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), HeaderMissing),
        (b"\r\n\r\n\r\n".to_vec(), HeaderMissing),
    ] {
        check(&header, Err(rule));
    }
    let too_long = binary(0x20, 0, &[0; HEADER_BYTES_MAX - 15]);
    assert_eq!(parse(&too_long[..FIXED_BYTES]), Err(HeaderTooLong), "before it is there");
}

#[test]
fn a_checksum_holds_or_the_header_is_refused() {
    let mut header = Vec::new();
    let ends = V4_ENDS.map(|end| end.parse().expect("an address and a port"));
    let addresses = Addresses { source: ends[0], destination: ends[1] };
    let tlvs = b"\x02\x00\x01a\x03\x00\x04\0\0\0\0\x05\x00\x01b";
    write(Version::V2, Some(addresses), tlvs, &mut header);
    assert_ne!(header[28 + 7..28 + 11], [0; 4], "the checksum was made");
    check(&header, Ok(Some((header.len(), Some(V4_ENDS), &header[28..]))));
    for at in 16..header.len() {
        let mut wrong = header.clone();
        wrong[at] ^= 0x40;
        // A byte of a type or a length may make other fields of it.
        if parse(&wrong).is_ok() {
            assert!(wrong[32] != TLV_CHECKSUM || wrong[28 + 1..28 + 3] != [0, 1], "flipped at {at}");
        }
    }
    let twice = b"\x03\x00\x04\0\0\0\0\x03\x00\x04\0\0\0\0";
    check(&binary(0x21, 0x11, &[V4, twice].concat()), Err(ProxyRejected::ChecksumMalformed));
}

#[track_caller]
fn check_written(version: Version, ends: Option<[&str; 2]>, tlvs: &[u8], expected: &[u8]) {
    let ends = ends.map(|ends| ends.map(|end| end.parse().expect("an address and a port")));
    let addresses = ends.map(|[source, destination]| Addresses { source, destination });
    let mut out = b"before".to_vec();
    write(version, addresses, tlvs, &mut out);
    assert_eq!(
        out.strip_prefix(b"before").map(<[u8]>::escape_ascii).map(|text| text.to_string()),
        Some(expected.escape_ascii().to_string())
    );
    let header = parse(expected).expect("a header").expect("a whole one");
    assert_eq!(header.len, expected.len());
}

#[test]
fn writes_what_it_reads() {
    check_written(Version::V1, Some(V4_ENDS), b"", b"PROXY TCP4 192.0.2.1 198.51.100.2 12345 443\r\n");
    check_written(
        Version::V1,
        Some(["[2001:db8::1]:1", "[::1]:2"]),
        b"",
        b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n",
    );
    check_written(Version::V1, None, b"\x01\x00\x00", b"PROXY UNKNOWN\r\n");
    check_written(Version::V2, Some(V4_ENDS), b"", &binary(0x21, 0x11, V4));
    let tlvs = b"\x01\x00\x02h2\xe0\x00\x00";
    check_written(Version::V2, Some(V4_ENDS), tlvs, &binary(0x21, 0x11, &[V4, tlvs].concat()));
    check_written(Version::V2, None, b"", &binary(0x21, 0x00, b""));
}

#[test]
fn addresses_are_written_in_one_family() {
    let mapped = Some(["[::ffff:192.0.2.1]:1", "192.0.2.2:2"]);
    check_written(Version::V1, mapped, b"", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n");
    check_written(
        Version::V1,
        Some(["192.0.2.1:1", "[2001:db8::2]:2"]),
        b"",
        b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n",
    );
    check_written(
        Version::V1,
        Some(["[2001:db8::2]:1", "192.0.2.1:2"]),
        b"",
        b"PROXY TCP6 2001:db8::2 ::ffff:192.0.2.1 1 2\r\n",
    );
}

#[test]
fn fields_that_would_be_too_long_are_left_out() {
    let tlvs = [b"\xe0\x3f\xe0", &[0; 0x3fe0][..]].concat();
    check_written(Version::V2, Some(V4_ENDS), &tlvs, &binary(0x21, 0x11, &[V4, &tlvs].concat()));
    let ends = Some(["[2001:db8::1]:1", "[::1]:2"]);
    let mut out = Vec::new();
    write(
        Version::V2,
        ends.map(|ends| Addresses {
            source: ends[0].parse().unwrap(),
            destination: ends[1].parse().unwrap(),
        }),
        &tlvs,
        &mut out,
    );
    assert_eq!(out.len(), FIXED_BYTES + 36);
}
