//! How would somebody read HTTP/1 who has the standard open and all the time in the world?
//!
//! Shares no line with the parser it is compared with, and accepts nothing but the grammar of RFC 9110 and
//! RFC 9112: whoever forwards a message must have it read by this as it was meant.

/// What came of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read<T> {
    Whole(T),
    Unfinished,
    Broken,
}

/// A head: the start line's words, and the field lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head<'a> {
    pub(crate) start_line: &'a [u8],
    pub(crate) fields: Vec<Field<'a>>,
    pub(crate) bytes: usize,
}

/// A field line's name and value.
pub(crate) type Field<'a> = (&'a [u8], &'a [u8]);

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

impl Head<'_> {
    /// The three parts of the start line, RFC 9112 §3 and §4.
    pub(crate) fn words(&self) -> Option<[&[u8]; 3]> {
        let mut words = self.start_line.splitn(3, |&byte| byte == b' ');
        Some([words.next()?, words.next()?, words.next()?])
    }

    pub(crate) fn values<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'h [u8]> {
        let named = self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name.as_bytes()));
        named.map(|(_, value)| *value)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.values(name).next().is_some()
    }

    /// The body that the fields declare, or `None` if two readers could differ.
    pub(crate) fn declared_body(&self, absent: Body) -> Option<Body> {
        let lengths: Vec<_> = self.values("content-length").collect();
        let codings: Vec<_> = self.values("transfer-encoding").collect();
        match (&lengths[..], &codings[..]) {
            ([], []) => Some(absent),
            ([length], []) => number(length, 10).map(Body::Length),
            ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Some(Body::Chunked),
            _ => None,
        }
    }
}

/// Digits and nothing else, below 2^63.
fn number(text: &[u8], radix: u32) -> Option<u64> {
    let is_plain = !text.is_empty() && text.iter().all(|&byte| char::from(byte).is_digit(radix));
    let text = str::from_utf8(text).ok().filter(|_| is_plain)?;
    u64::from_str_radix(text, radix).ok().filter(|&number| i64::try_from(number).is_ok())
}

fn is_token(text: &[u8]) -> bool {
    let is_token_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_token_byte)
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn after_space(text: &[u8]) -> &[u8] {
    &text[text.iter().position(|&byte| !is_space(byte)).unwrap_or(text.len())..]
}

fn without_space(text: &[u8]) -> &[u8] {
    let text = after_space(text);
    &text[..text.iter().rposition(|&byte| !is_space(byte)).map_or(0, |last| last + 1)]
}

fn is_text(text: &[u8]) -> bool {
    text.iter().all(|&byte| byte == b'\t' || (byte >= 0x20 && byte != 0x7f))
}

/// The line at the start of `bytes` without its CRLF, which has no other CR or LF in it.
fn line(bytes: &[u8]) -> Read<&[u8]> {
    match bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        Some(end) if bytes[end..].starts_with(b"\r\n") => Read::Whole(&bytes[..end]),
        Some(end) if bytes[end..] == *b"\r" => Read::Unfinished,
        Some(_) => Read::Broken,
        None => Read::Unfinished,
    }
}

/// A field line, RFC 9112 §5.
fn field(line: &[u8]) -> Option<Field<'_>> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    let (name, value) = (&line[..colon], without_space(&line[colon + 1..]));
    (is_token(name) && is_text(value)).then_some((name, value))
}

/// Field lines up to and including the empty line; how many bytes they are.
fn fields(bytes: &[u8]) -> Read<(Vec<Field<'_>>, usize)> {
    let (mut fields, mut at) = (Vec::new(), 0);
    loop {
        let line = match line(&bytes[at..]) {
            Read::Whole(line) => line,
            Read::Unfinished => return Read::Unfinished,
            Read::Broken => return Read::Broken,
        };
        at += line.len() + 2;
        if line.is_empty() {
            return Read::Whole((fields, at));
        }
        let Some(field) = field(line) else { return Read::Broken };
        fields.push(field);
    }
}

/// A head, whatever its start line says.
pub(crate) fn head(bytes: &[u8]) -> Read<Head<'_>> {
    let start_line = match line(bytes) {
        Read::Whole(line) => line,
        Read::Unfinished => return Read::Unfinished,
        Read::Broken => return Read::Broken,
    };
    let start = start_line.len() + 2;
    match fields(&bytes[start..]) {
        Read::Whole((fields, length)) => Read::Whole(Head { start_line, fields, bytes: start + length }),
        Read::Unfinished => Read::Unfinished,
        Read::Broken => Read::Broken,
    }
}

/// A decoded body and the bytes it took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content<'a> {
    pub(crate) data: Vec<u8>,
    pub(crate) trailers: Vec<Field<'a>>,
    pub(crate) bytes: usize,
}

/// Whether `text` is what may follow a chunk's size: `*( BWS ";" BWS name [ BWS "=" BWS value ] )`, RFC 9112 §7.1.1.
fn is_extensions(mut text: &[u8]) -> bool {
    while !text.is_empty() {
        let Some(rest) = after_space(text).strip_prefix(b";") else { return false };
        let Some(rest) = after_token(after_space(rest)) else { return false };
        text = match after_space(rest).strip_prefix(b"=").map(after_space) {
            None => rest,
            Some(value) => match value.strip_prefix(b"\"").map_or_else(|| after_token(value), after_quoted) {
                Some(rest) => rest,
                None => return false,
            },
        };
    }
    true
}

fn after_token(text: &[u8]) -> Option<&[u8]> {
    let end = text.iter().position(|&byte| !is_token(&[byte])).unwrap_or(text.len());
    (end > 0).then(|| &text[end..])
}

/// What follows a quoted string whose first quote is gone, RFC 9110 §5.6.4.
fn after_quoted(text: &[u8]) -> Option<&[u8]> {
    match text {
        [b'"', rest @ ..] => Some(rest),
        [b'\\', byte, rest @ ..] if is_text(&[*byte]) => after_quoted(rest),
        [byte, rest @ ..] if is_text(&[*byte]) && *byte != b'\\' => after_quoted(rest),
        _ => None,
    }
}

/// A chunked body, RFC 9112 §7.1.
pub(crate) fn chunked(bytes: &[u8]) -> Read<Content<'_>> {
    let mut content = Content::default();
    loop {
        let line = match line(&bytes[content.bytes..]) {
            Read::Whole(line) => line,
            Read::Unfinished => return Read::Unfinished,
            Read::Broken => return Read::Broken,
        };
        let size_end = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
        let size =
            number(&line[..size_end], 16).filter(|_| size_end <= 16 && is_extensions(&line[size_end..]));
        let Some(size) = size else { return Read::Broken };
        content.bytes += line.len() + 2;
        if size == 0 {
            break;
        }
        let rest = &bytes[content.bytes..];
        let Some(size) = usize::try_from(size).ok().filter(|size| rest.len() >= 2 && *size <= rest.len() - 2)
        else {
            return Read::Unfinished;
        };
        if rest[size..size + 2] != *b"\r\n" {
            return Read::Broken;
        }
        content.data.extend_from_slice(&rest[..size]);
        content.bytes += size + 2;
    }
    match fields(&bytes[content.bytes..]) {
        Read::Whole((trailers, length)) => {
            Read::Whole(Content { trailers, bytes: content.bytes + length, ..content })
        }
        Read::Unfinished => Read::Unfinished,
        Read::Broken => Read::Broken,
    }
}

/// The content of a body that ends so; `UntilClose` takes everything.
pub(crate) fn content(bytes: &[u8], body: Body) -> Read<Content<'_>> {
    let plain =
        |length: usize| Content { data: bytes[..length].to_vec(), bytes: length, ..Content::default() };
    match body {
        Body::None => Read::Whole(Content::default()),
        Body::UntilClose => Read::Whole(plain(bytes.len())),
        Body::Chunked => chunked(bytes),
        Body::Length(length) => match usize::try_from(length) {
            Ok(length) if length <= bytes.len() => Read::Whole(plain(length)),
            _ => Read::Unfinished,
        },
    }
}
