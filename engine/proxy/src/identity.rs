//! Who is the client that has shown a certificate, and for which host? Text that its requests take along.
//!
//! Never judges a certificate: the handshake did. Made once for a connection, not for each request.

use std::fmt::Write as _;
use std::net::IpAddr;

use proto::certificate::subject;
use proto::http1::rewrite::Proof;
use proto::matching::without_port;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use tls::TlsStream;

/// Longest certificate passed on whole: in base 64 it fills two thirds of the 16 KiB that servers commonly take as a head.
const CERTIFICATE_BYTES_MAX: usize = 8 * 1024;
/// Longest subject passed on; a longer one names nobody.
const SUBJECT_BYTES_MAX: usize = 1024;

/// What a listener that asks its clients for certificates knows of one connection.
#[derive(Debug)]
pub(crate) struct Identity {
    /// The name that the client asked for in the handshake, in small letters. Its certificate was shown to that name alone.
    server_name: Option<Box<str>>,
    /// Fields of each request; empty without a certificate, or where none are wanted.
    fields: Box<str>,
}

impl Identity {
    /// That of a client whose handshake is over.
    pub(crate) fn of(stream: &TlsStream, adds_fields: bool) -> Self {
        let server_name = stream.server_name().map(|name| name.to_ascii_lowercase().into());
        let certificates = stream.peer_certificates().filter(|_| adds_fields);
        let certificate = certificates.as_ref().and_then(|certificates| certificates.first());
        let fields = certificate.map_or_else(String::new, |certificate| fields_of(certificate));
        Self { server_name, fields: fields.into() }
    }

    /// The subject of its certificate, where its requests say it.
    pub(crate) fn subject(&self) -> Option<&str> {
        let (_, behind) = self.fields.split_once("X-Client-Certificate-Subject: ")?;
        behind.split_once("\r\n").map(|(subject, _)| subject)
    }

    /// What its requests say of it.
    pub(crate) fn proof(&self) -> Proof<'_> {
        Proof::Fields(&self.fields)
    }

    /// Whether a request to `authority` may come by this connection: what a client proves to one host is not meant for
    /// another (RFC 9110 §7.4). A client that dials an address names none in the handshake (RFC 6066 §3).
    pub(crate) fn serves(&self, authority: Option<&[u8]>) -> bool {
        let Some(host) = authority.map(without_port) else { return true };
        match &self.server_name {
            Some(name) => name.as_bytes().eq_ignore_ascii_case(host),
            None => is_address(host),
        }
    }
}

fn is_address(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.parse::<IpAddr>().is_ok()
}

/// The certificate itself (RFC 9440 §2.2), its subject (RFC 4514) and its fingerprint, which say the same more handily.
fn fields_of(certificate: &[u8]) -> String {
    let mut fields = String::new();
    if certificate.len() <= CERTIFICATE_BYTES_MAX {
        fields.push_str("Client-Cert: :");
        push_base64(certificate, &mut fields);
        fields.push_str(":\r\n");
    }
    if let Some(subject) = subject(certificate).filter(|subject| subject.len() <= SUBJECT_BYTES_MAX) {
        fields.extend(["X-Client-Certificate-Subject: ", &subject, "\r\n"]);
    }
    if let Some(suite) = TLS13_AES_128_GCM_SHA256.tls13() {
        fields.push_str("X-Client-Certificate-Fingerprint: sha256:");
        for byte in suite.common.hash_provider.hash(certificate).as_ref() {
            write!(fields, "{byte:02x}").expect("memory takes what is written");
        }
        fields.push_str("\r\n");
    }
    fields
}

/// RFC 4648 §4.
fn push_base64(bytes: &[u8], out: &mut String) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for digit in 0..4 {
            let is_padding = digit > group.len();
            let index = (bits >> (18 - 6 * digit)) as usize % 64;
            out.push(if is_padding { '=' } else { char::from(DIGITS[index]) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        // RFC 4648 §10.
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (bytes, expected) in vectors {
            let mut text = String::new();
            push_base64(bytes.as_bytes(), &mut text);
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn a_connection_serves_the_host_that_its_handshake_named() {
        let serves = |name: Option<&str>, authority: Option<&str>| {
            let identity = Identity { server_name: name.map(Into::into), fields: "".into() };
            identity.serves(authority.map(str::as_bytes))
        };
        assert!(serves(Some("a.example"), Some("A.example:8443")));
        assert!(serves(Some("a.example"), None), "HTTP/1.0 names no host");
        assert!(!serves(Some("a.example"), Some("b.example")));
        assert!(!serves(Some("a.example"), Some("127.0.0.1")));
        assert!(serves(None, Some("127.0.0.1:8443")));
        assert!(serves(None, Some("[::1]:8443")));
        assert!(!serves(None, Some("a.example")));
    }
}
