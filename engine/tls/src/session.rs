//! What does rustls make of the bytes? Records opened in place, in the caller's buffer; records sealed, as far as bounded.
//!
//! Never does IO and never waits. The only file that knows how rustls holds its bytes: its buffered connections copy every
//! record in and out again, which those of 0.24, whose buffers are the caller's, will not.

use std::io::{self, BufRead, IoSlice, Read, Write};
use std::ops::Deref;

use rustls::{CommonState, Connection, Error};

use crate::record::{Front, front};

/// Plaintext taken while the kernel takes nothing: as much as four records hold. What it is sealed into is a little more.
pub(crate) const UNSENT_BYTES_MAX: usize = 64 * 1024;

/// The alert with which rustls ends a handshake whose name has no certificate, access_denied, as a record of its own.
const NO_CERTIFICATE_ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];
/// What such an alert is to say instead: unrecognized_name (RFC 6066 §3).
const UNRECOGNIZED_NAME: u8 = 112;

/// One side of a TLS connection.
pub(crate) struct Session {
    connection: Connection,
    has_peer_closed: bool,
    /// A server that had no certificate for the name it was asked for.
    lacks_certificate: bool,
}

/// What became of received bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Opened {
    /// Bytes at the front that were whole records; the others begin the next.
    pub(crate) consumed: usize,
    /// Bytes at the front that are plaintext now.
    pub(crate) plaintext: usize,
}

impl Session {
    pub(crate) fn new(mut connection: Connection) -> Self {
        connection.set_buffer_limit(Some(UNSENT_BYTES_MAX));
        Self { connection, has_peer_closed: false, lacks_certificate: false }
    }

    /// Opens the whole records at the front of `bytes` and puts their plaintext there instead. A record's plaintext is
    /// shorter than the record, so it never overtakes what is still to be opened.
    ///
    /// # Errors
    /// Whatever is wrong with the records, or with the peer. An alert is left to be sent.
    pub(crate) fn open(&mut self, bytes: &mut [u8]) -> Result<Opened, Error> {
        let mut opened = Opened::default();
        while !self.has_peer_closed {
            match front(&bytes[opened.consumed..]) {
                Front::Partial => return Ok(opened),
                Front::Whole(len) => {
                    let next = opened.consumed + len;
                    self.take_in(&bytes[opened.consumed..next])?;
                    opened.consumed = next;
                }
                Front::Malformed => {
                    // rustls says best what is wrong, and leaves the alert.
                    self.take_in(&bytes[opened.consumed..])?;
                    return Err(Error::General("bytes that are no TLS record".into()));
                }
            }
            opened.plaintext += self.take_out(&mut bytes[opened.plaintext..opened.consumed]);
        }
        // What follows a peer's close_notify is ignored (RFC 8446 §6.1).
        opened.consumed = bytes.len();
        Ok(opened)
    }

    /// Gives rustls ciphertext, a record at most.
    fn take_in(&mut self, mut record: &[u8]) -> Result<(), Error> {
        while !record.is_empty() {
            // It takes 4 KiB at a time; nothing, or an error, when a handshake message is longer than it allows.
            match self.connection.read_tls(&mut record) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        match self.connection.process_new_packets() {
            Ok(state) => self.has_peer_closed |= state.peer_has_closed(),
            Err(error) => {
                self.lacks_certificate = is_lack_of_certificate(&error);
                return Err(error);
            }
        }
        if record.is_empty() || self.has_peer_closed {
            return Ok(());
        }
        Err(Error::General("a handshake message of more than 64 KiB".into()))
    }

    /// Fetches plaintext from rustls.
    fn take_out(&mut self, room: &mut [u8]) -> usize {
        let mut count = 0;
        while count < room.len() {
            match self.connection.reader().read(&mut room[count..]) {
                Ok(0) | Err(_) => break, // the end, or nothing left
                Ok(read) => count += read,
            }
        }
        debug_assert!(self.connection.reader().fill_buf().is_ok_and(<[u8]>::is_empty) || count < room.len());
        count
    }

    /// Seals as much plaintext as [`UNSENT_BYTES_MAX`] leaves room for, and says how much that was.
    pub(crate) fn seal(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.connection.writer().write_vectored(slices)
    }

    /// Hands what is sealed to `wire` until that takes no more.
    ///
    /// # Errors
    /// Those of `wire`, `WouldBlock` among them.
    pub(crate) fn transmit(&mut self, wire: &mut dyn Write) -> io::Result<()> {
        if self.lacks_certificate {
            return self.transmit_refusal(wire);
        }
        while self.connection.wants_write() {
            self.connection.write_tls(wire)?;
        }
        Ok(())
    }

    /// Hands out the last alert of a handshake that has no certificate, under the name that clients know. It is in the
    /// clear: nothing is sealed before a certificate is chosen.
    fn transmit_refusal(&mut self, wire: &mut dyn Write) -> io::Result<()> {
        let mut unsent = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut unsent)?;
        }
        if unsent.ends_with(&NO_CERTIFICATE_ALERT) {
            unsent.splice(unsent.len() - 1.., [UNRECOGNIZED_NAME]);
        }
        // All at once or not at all: the connection is over.
        if unsent.is_empty() { Ok(()) } else { wire.write(&unsent).map(drop) }
    }

    /// Seals the message that says that nothing more follows.
    pub(crate) fn close(&mut self) {
        self.connection.send_close_notify();
    }

    /// Whether the peer has said that nothing more follows.
    pub(crate) fn has_peer_closed(&self) -> bool {
        self.has_peer_closed
    }

    /// Whether the handshake ended because there is no certificate for the name that the client asked for.
    pub(crate) fn lacks_certificate(&self) -> bool {
        self.lacks_certificate
    }

    /// The name that a client asked for.
    pub(crate) fn server_name(&self) -> Option<&str> {
        match &self.connection {
            Connection::Server(server) => server.server_name(),
            Connection::Client(_) => None,
        }
    }
}

/// What rustls says when the resolver of certificates has none.
fn is_lack_of_certificate(error: &Error) -> bool {
    matches!(error, Error::General(reason) if reason == "no server certificate chain resolved")
}

impl Deref for Session {
    type Target = CommonState;

    fn deref(&self) -> &CommonState {
        &self.connection
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
    use rustls::version::{TLS12, TLS13};
    use rustls::{
        ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
        SupportedProtocolVersion,
    };

    use super::*;

    /// A session with what it was sent and has not opened, as a stream keeps it.
    struct Side {
        session: Session,
        begun: Vec<u8>,
        plaintext: Vec<u8>,
    }

    impl Side {
        fn new(connection: impl Into<Connection>) -> Self {
            Self { session: Session::new(connection.into()), begun: Vec::new(), plaintext: Vec::new() }
        }

        fn receive(&mut self, bytes: &[u8]) -> Result<(), Error> {
            self.begun.extend_from_slice(bytes);
            let opened = self.session.open(&mut self.begun)?;
            self.plaintext.extend_from_slice(&self.begun[..opened.plaintext]);
            self.begun.drain(..opened.consumed);
            Ok(())
        }

        fn send(&mut self) -> Vec<u8> {
            let mut wire = Vec::new();
            self.session.transmit(&mut wire).expect("a vector takes everything");
            wire
        }
    }

    fn sides(version: &'static SupportedProtocolVersion) -> (Side, Side) {
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let certificate = key.cert.der().clone();
        let private = PrivatePkcs8KeyDer::from(key.signing_key.serialize_der());
        let server = ServerConfig::builder_with_protocol_versions(&[version])
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], private.into())
            .expect("a server");
        let mut roots = RootCertStore::empty();
        roots.add(certificate).expect("a root");
        let client = ClientConfig::builder_with_protocol_versions(&[version])
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        let client = ClientConnection::new(Arc::new(client), name).expect("a client");
        let server = ServerConnection::new(Arc::new(server)).expect("a server");
        (Side::new(client), Side::new(server))
    }

    /// Lets both sides talk, in pieces of `piece` bytes, until neither has anything to say.
    fn talk(client: &mut Side, server: &mut Side, piece: usize) {
        loop {
            let (up, down) = (client.send(), server.send());
            if up.is_empty() && down.is_empty() {
                return;
            }
            up.chunks(piece).for_each(|bytes| server.receive(bytes).expect("the server opens it"));
            down.chunks(piece).for_each(|bytes| client.receive(bytes).expect("the client opens it"));
        }
    }

    #[test]
    fn records_may_be_cut_at_every_place() {
        for version in [&TLS12, &TLS13] {
            for piece in [1, 2, 3, 4, 5, 6, 7, 11, 100, 1_000, 16_384, 100_000] {
                let (mut client, mut server) = sides(version);
                talk(&mut client, &mut server, piece);
                assert!(!client.session.is_handshaking() && !server.session.is_handshaking());
                let bytes: Vec<u8> = (0..40_000_usize).map(|at| (at * 31 + at / 251) as u8).collect();
                assert_eq!(client.session.seal(&[IoSlice::new(&bytes)]).expect("room"), bytes.len());
                server.session.seal(&[IoSlice::new(b"short")]).expect("room");
                talk(&mut client, &mut server, piece);
                assert!(server.plaintext == bytes && client.plaintext == b"short", "in pieces of {piece}");
            }
        }
    }

    #[test]
    fn any_two_pieces_of_three_records_are_opened() {
        let (mut client, mut server) = sides(&TLS13);
        talk(&mut client, &mut server, usize::MAX);
        for cut in 0.. {
            server.plaintext.clear();
            for part in ["one", "and two", "three"] {
                client.session.seal(&[IoSlice::new(part.as_bytes())]).expect("room");
            }
            let wire = client.send();
            let (front, rear) = wire.split_at(cut.min(wire.len()));
            server.receive(front).expect("the front");
            server.receive(rear).expect("the rear");
            assert_eq!(server.plaintext, b"oneand twothree", "cut at {cut}");
            if cut > wire.len() {
                break;
            }
        }
    }

    #[test]
    fn no_more_is_taken_than_the_bound() {
        let (mut client, mut server) = sides(&TLS13);
        talk(&mut client, &mut server, usize::MAX);
        let bytes = vec![7; 10 * UNSENT_BYTES_MAX];
        assert_eq!(client.session.seal(&[IoSlice::new(&bytes)]).expect("room"), UNSENT_BYTES_MAX);
        assert_eq!(client.session.seal(&[IoSlice::new(&bytes)]).expect("none"), 0);
        let sealed = client.send().len();
        assert!(sealed < UNSENT_BYTES_MAX + 1_024, "{sealed} bytes");
    }

    #[test]
    fn what_follows_the_end_is_ignored() {
        for version in [&TLS12, &TLS13] {
            let (mut client, mut server) = sides(version);
            talk(&mut client, &mut server, usize::MAX);
            client.session.seal(&[IoSlice::new(b"last")]).expect("room");
            client.session.close();
            let mut wire = client.send();
            wire.extend_from_slice(b"nonsense");
            server.receive(&wire).expect("an end");
            assert!(server.session.has_peer_closed() && server.begun.is_empty());
            assert_eq!(server.plaintext, b"last");
        }
    }

    #[test]
    fn a_forged_byte_is_refused_with_an_alert() {
        for version in [&TLS12, &TLS13] {
            let (mut client, mut server) = sides(version);
            talk(&mut client, &mut server, usize::MAX);
            client.session.seal(&[IoSlice::new(b"genuine")]).expect("room");
            let mut wire = client.send();
            *wire.last_mut().expect("a record") ^= 1;
            assert_eq!(server.receive(&wire), Err(Error::DecryptError));
            assert!(server.plaintext.is_empty() && !server.send().is_empty());
        }
    }

    #[test]
    fn bytes_go_on_after_the_keys_have_changed() {
        let (mut client, mut server) = sides(&TLS13);
        talk(&mut client, &mut server, usize::MAX);
        for round in 1..=3 {
            client.session.connection.refresh_traffic_keys().expect("TLS 1.3 has key updates");
            client.session.seal(&[IoSlice::new(b"up ")]).expect("room");
            server.session.seal(&[IoSlice::new(b"down ")]).expect("room");
            talk(&mut client, &mut server, 7);
            assert_eq!(server.plaintext, b"up ".repeat(round));
            assert_eq!(client.plaintext, b"down ".repeat(round));
        }
    }

    /// rustls has no way to say it: should it change what it says instead, this fails.
    #[test]
    fn a_name_without_certificate_is_told_to_be_unknown() {
        use crate::names::{NameTable, ServerNames, UnknownName};
        use crate::server::{ServerSettings, VersionMin, server_config};
        let (mut client, _) = sides(&TLS13);
        let names = Arc::new(ServerNames::new(NameTable::new(&[], UnknownName::Refused)));
        let settings =
            ServerSettings { version_min: VersionMin::Tls12, alpn: &[], names, tickets: None, clients: None };
        let config = server_config(settings).expect("a server");
        let mut server = Side::new(ServerConnection::new(config).expect("a server"));
        server.receive(&client.send()).expect_err("no certificate");
        let alert = server.send();
        assert_eq!(alert, [21, 3, 3, 0, 2, 2, 112]);
        assert_eq!(
            client.receive(&alert),
            Err(Error::AlertReceived(rustls::AlertDescription::UnrecognisedName))
        );
    }

    #[test]
    fn plain_text_is_refused_at_once() {
        let (_, mut server) = sides(&TLS13);
        server.receive(b"GET / HTTP/1.1\r\n").expect_err("no TLS");
    }
}
