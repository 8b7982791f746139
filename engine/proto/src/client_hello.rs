//! What does a TLS client ask for, before a word is private? Its ClientHello, read without answering it (RFC 8446 §4.1.2).
//!
//! Keeps nothing between two calls and needs the bytes as they came, records and all; never decides whether a server
//! would take the hello, only whether every reader would find the same name in it.

use arrayvec::ArrayString;

use crate::rule::rules;

/// Longest hello as received, the headers of its records included. With post-quantum key shares one has about 2 KiB; the
/// bound is one full record, which is what servers that read a hello whole allow for (RFC 8446 §5.1).
pub const HELLO_BYTES_MAX: usize = 16 << 10;

/// The answer to a name that nobody serves: a fatal alert `unrecognized_name`, RFC 6066 §3, in a record of its own.
pub const UNRECOGNIZED_NAME: [u8; 7] = alert(112);
/// The answer to a hello that is malformed: a fatal alert `decode_error`, RFC 8446 §6.2.
pub const DECODE_ERROR: [u8; 7] = alert(50);

const fn alert(description: u8) -> [u8; 7] {
    const FATAL: u8 = 2;
    [ALERT, 3, 3, 0, 2, FATAL, description]
}

/// Content types, RFC 8446 §5.1.
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const RECORD_HEADER_BYTES: usize = 5;
/// Longest fragment of a record, RFC 8446 §5.1.
const FRAGMENT_BYTES_MAX: usize = 1 << 14;
/// Handshake types and their header, RFC 8446 §4.
const CLIENT_HELLO: u8 = 1;
const MESSAGE_HEADER_BYTES: usize = 4;
/// RFC 8446 §4.1.2.
const RANDOM_BYTES: usize = 32;
const SESSION_ID_BYTES_MAX: usize = 32;
/// Extensions, RFC 8446 §4.2.
const SERVER_NAME: u16 = 0;
const PROTOCOLS: u16 = 16;
/// The one type of server name there is, RFC 6066 §3.
const HOST_NAME: u8 = 0;
/// Longest host name and longest label in text form, RFC 1035 §2.3.4.
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

rules! {
    /// A rule of the first bytes of a TLS connection.
    pub enum HelloRejected {
        /// The first bytes are not those of a handshake record of SSL 3.0 or later, RFC 8446 §5.1.
        NotTls = "not_tls",
        /// Another record before the hello is whole, RFC 8446 §5.1.
        RecordForeign = "record_foreign",
        /// A record without a fragment, RFC 8446 §5.1.
        RecordEmpty = "record_empty",
        /// A fragment of more than 2^14 bytes, RFC 8446 §5.1.
        RecordTooLong = "record_too_long",
        /// Another handshake message than a ClientHello, RFC 8446 §4.
        NotClientHello = "not_client_hello",
        /// More than [`HELLO_BYTES_MAX`].
        TooLarge = "too_large",
        /// Lengths that do not add up, or a field of a length it cannot have, RFC 8446 §3.4 and §4.1.2.
        LengthInvalid = "length_invalid",
        /// The extension of names or protocols a second time, RFC 8446 §4.2.
        ExtensionRepeated = "extension_repeated",
        /// More than one name, or none, or a type of name that does not exist, RFC 6066 §3.
        NameListInvalid = "name_list_invalid",
        /// Not the letters, digits, `-`, `_` and single dots of a host name, or a dot at its end, RFC 6066 §3.
        NameInvalid = "name_invalid",
        /// An empty list of protocols, or an empty one in it, RFC 7301 §3.1.
        ProtocolsInvalid = "protocols_invalid",
    }
}

/// A host name in lower case, without a final dot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerName(ArrayString<NAME_BYTES_MAX>);

impl ServerName {
    /// Takes `text` for a host name.
    ///
    /// # Errors
    /// [`HelloRejected::NameInvalid`] if it is none.
    pub fn new(text: &[u8]) -> Result<Self, HelloRejected> {
        let is_name_byte = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let is_label =
            |label: &[u8]| (1..=LABEL_BYTES_MAX).contains(&label.len()) && label.iter().all(is_name_byte);
        if !text.split(|&byte| byte == b'.').all(is_label) {
            return Err(HelloRejected::NameInvalid);
        }
        let text = str::from_utf8(text).map_err(|_| HelloRejected::NameInvalid)?;
        let mut name = ArrayString::from(text).map_err(|_| HelloRejected::NameInvalid)?;
        name.make_ascii_lowercase();
        Ok(Self(name))
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientHello {
    /// Whom it wants to reach, if it says so.
    pub server_name: Option<ServerName>,
    /// Protocols it offers, each behind a byte that is its length, RFC 7301 §3.1; empty without.
    protocols: Vec<u8>,
}

impl ClientHello {
    /// The protocols it offers, in its order of preference.
    pub fn protocols(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.protocols[..];
        std::iter::from_fn(move || {
            let (&len, names) = rest.split_first()?;
            let (name, behind) = names.split_at_checked(usize::from(len))?;
            rest = behind;
            Some(name)
        })
    }
}

/// Reads the hello at the start of a connection. `Ok(None)` asks for more bytes, never past [`HELLO_BYTES_MAX`]. Bytes behind
/// the hello are not looked at.
///
/// # Errors
/// [`HelloRejected`] names the broken rule: of records at once, of what is in them when the hello is whole.
pub fn parse(bytes: &[u8]) -> Result<Option<ClientHello>, HelloRejected> {
    let bounded = &bytes[..bytes.len().min(HELLO_BYTES_MAX)];
    let Some(body_len) = find_message(bounded)? else {
        return if bytes.len() < HELLO_BYTES_MAX { Ok(None) } else { Err(HelloRejected::TooLarge) };
    };
    let mut reader = Reader { bytes: bounded, record_left: 0, left: MESSAGE_HEADER_BYTES + body_len };
    reader.skip(MESSAGE_HEADER_BYTES)?;
    parse_body(&mut reader).map(Some)
}

/// How long the message is, without its header, if all of it is there.
fn find_message(bytes: &[u8]) -> Result<Option<usize>, HelloRejected> {
    let mut rest = bytes;
    let mut header = [0; MESSAGE_HEADER_BYTES];
    let mut arrived = 0;
    loop {
        let foreign =
            if rest.len() == bytes.len() { HelloRejected::NotTls } else { HelloRejected::RecordForeign };
        if rest.first().is_some_and(|&kind| kind != HANDSHAKE) || rest.get(1).is_some_and(|&major| major != 3)
        {
            return Err(foreign);
        }
        let Some((&[_, _, _, high, low], behind)) = rest.split_first_chunk::<RECORD_HEADER_BYTES>() else {
            return Ok(None);
        };
        let fragment_len = usize::from(u16::from_be_bytes([high, low]));
        match fragment_len {
            0 => return Err(HelloRejected::RecordEmpty),
            1..=FRAGMENT_BYTES_MAX => {}
            _ => return Err(HelloRejected::RecordTooLong),
        }
        let fragment = &behind[..behind.len().min(fragment_len)];
        for (to, from) in header.iter_mut().skip(arrived).zip(fragment) {
            *to = *from;
        }
        arrived += fragment.len();
        if arrived > 0 && header[0] != CLIENT_HELLO {
            return Err(HelloRejected::NotClientHello);
        }
        if arrived >= MESSAGE_HEADER_BYTES {
            let body_len = u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize;
            if RECORD_HEADER_BYTES + MESSAGE_HEADER_BYTES + body_len > HELLO_BYTES_MAX {
                return Err(HelloRejected::TooLarge);
            }
            if arrived >= MESSAGE_HEADER_BYTES + body_len {
                return Ok(Some(body_len));
            }
        }
        let Some(behind) = behind.get(fragment_len..) else { return Ok(None) };
        rest = behind;
    }
}

/// Goes over the bytes of a message that is there, from record to record.
struct Reader<'b> {
    /// From the next byte, or from the header of the next record, on.
    bytes: &'b [u8],
    record_left: usize,
    /// Bytes left of the innermost vector.
    left: usize,
}

impl<'b> Reader<'b> {
    /// At most `max` of the bytes that come next, in one piece; none at the end of the vector.
    fn piece(&mut self, max: usize) -> Result<&'b [u8], HelloRejected> {
        if self.record_left == 0 {
            let (header, behind) =
                self.bytes.split_first_chunk::<RECORD_HEADER_BYTES>().ok_or(HelloRejected::LengthInvalid)?;
            self.record_left = usize::from(u16::from_be_bytes([header[3], header[4]]));
            self.bytes = behind;
        }
        let len = max.min(self.left).min(self.record_left);
        let (piece, behind) = self.bytes.split_at_checked(len).ok_or(HelloRejected::LengthInvalid)?;
        self.bytes = behind;
        self.record_left -= len;
        self.left -= len;
        Ok(piece)
    }

    /// Hands out the next `len` bytes piece by piece.
    fn pieces(&mut self, mut len: usize, mut take: impl FnMut(&[u8])) -> Result<(), HelloRejected> {
        if self.left < len {
            return Err(HelloRejected::LengthInvalid);
        }
        while len > 0 {
            let piece = self.piece(len)?;
            take(piece);
            len -= piece.len();
        }
        Ok(())
    }

    fn skip(&mut self, len: usize) -> Result<(), HelloRejected> {
        self.pieces(len, |_| ())
    }

    /// The next bytes as one number, most significant first.
    fn number(&mut self, bytes: usize) -> Result<usize, HelloRejected> {
        let mut number = 0;
        self.pieces(bytes, |piece| {
            number = piece.iter().fold(number, |number, &byte| number << 8 | usize::from(byte));
        })?;
        Ok(number)
    }

    /// Reads a vector of `len` bytes, which `read` must use up.
    fn within<T>(
        &mut self,
        len: usize,
        read: impl FnOnce(&mut Self) -> Result<T, HelloRejected>,
    ) -> Result<T, HelloRejected> {
        let behind = self.left.checked_sub(len).ok_or(HelloRejected::LengthInvalid)?;
        self.left = len;
        let value = read(self)?;
        if self.left > 0 {
            return Err(HelloRejected::LengthInvalid);
        }
        self.left = behind;
        Ok(value)
    }
}

/// RFC 8446 §4.1.2; the same in all earlier versions.
fn parse_body(reader: &mut Reader<'_>) -> Result<ClientHello, HelloRejected> {
    const VERSION_BYTES: usize = 2;
    let or_invalid = |is_valid: bool| if is_valid { Ok(()) } else { Err(HelloRejected::LengthInvalid) };
    reader.skip(VERSION_BYTES + RANDOM_BYTES)?;
    let session_id_len = reader.number(1)?;
    or_invalid(session_id_len <= SESSION_ID_BYTES_MAX)?;
    reader.skip(session_id_len)?;
    let suites_len = reader.number(2)?;
    or_invalid(suites_len >= 2 && suites_len.is_multiple_of(2))?;
    reader.skip(suites_len)?;
    let compressions_len = reader.number(1)?;
    or_invalid(compressions_len >= 1)?;
    reader.skip(compressions_len)?;
    let mut hello = ClientHello { server_name: None, protocols: Vec::new() };
    // Before TLS 1.3 a hello may end here, RFC 5246 §7.4.1.2.
    if reader.left > 0 {
        let extensions_len = reader.number(2)?;
        reader.within(extensions_len, |reader| parse_extensions(reader, &mut hello))?;
        or_invalid(reader.left == 0)?;
    }
    Ok(hello)
}

fn parse_extensions(reader: &mut Reader<'_>, hello: &mut ClientHello) -> Result<(), HelloRejected> {
    while reader.left > 0 {
        let kind = reader.number(2)?;
        let len = reader.number(2)?;
        if kind == usize::from(SERVER_NAME) {
            let name = reader.within(len, parse_name)?;
            if hello.server_name.replace(name).is_some() {
                return Err(HelloRejected::ExtensionRepeated);
            }
        } else if kind == usize::from(PROTOCOLS) {
            let protocols = reader.within(len, parse_protocols)?;
            if !std::mem::replace(&mut hello.protocols, protocols).is_empty() {
                return Err(HelloRejected::ExtensionRepeated);
            }
        } else {
            reader.within(len, |reader| reader.skip(len))?;
        }
    }
    Ok(())
}

/// The one name of the list, RFC 6066 §3.
fn parse_name(reader: &mut Reader<'_>) -> Result<ServerName, HelloRejected> {
    let list_len = reader.number(2)?;
    reader.within(list_len, |reader| {
        if reader.left == 0 || reader.number(1)? != usize::from(HOST_NAME) {
            return Err(HelloRejected::NameListInvalid);
        }
        let len = reader.number(2)?;
        if len > reader.left {
            return Err(HelloRejected::LengthInvalid);
        }
        if len < reader.left {
            return Err(HelloRejected::NameListInvalid);
        }
        let mut text = arrayvec::ArrayVec::<u8, NAME_BYTES_MAX>::new();
        let mut is_whole = true;
        reader.pieces(len, |piece| is_whole &= text.try_extend_from_slice(piece).is_ok())?;
        if is_whole { ServerName::new(&text) } else { Err(HelloRejected::NameInvalid) }
    })
}

/// The list of protocols as received, each of at least one byte, RFC 7301 §3.1.
fn parse_protocols(reader: &mut Reader<'_>) -> Result<Vec<u8>, HelloRejected> {
    let list_len = reader.number(2)?;
    reader.within(list_len, |reader| {
        let mut protocols = Vec::with_capacity(reader.left);
        while reader.left > 0 {
            let len = reader.number(1)?;
            if len == 0 {
                return Err(HelloRejected::ProtocolsInvalid);
            }
            protocols.push(len as u8);
            reader.pieces(len, |piece| protocols.extend_from_slice(piece))?;
        }
        if protocols.is_empty() { Err(HelloRejected::ProtocolsInvalid) } else { Ok(protocols) }
    })
}

#[cfg(test)]
mod tests;
