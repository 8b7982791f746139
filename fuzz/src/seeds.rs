//! Which inputs get far into each target?
//!
//! Messages that are right, or wrong in one place: edits of these reach further than noise. Never the place for
//! what a parser must answer: that is the table of vectors.

use crate::vectors::{Side, load};

const REQUESTS: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\nGET /a?b HTTP/1.0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a:80\r\nContent-Length: 5\r\n\r\nhelloGET /b HTTP/1.1\r\nHost: b\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "PUT http://a.b:81/c?d HTTP/1.1\r\nHost:  A.b:81\t\r\ncontent-length: 007\r\nExpect: 100-continue\r\n\r\n1234567",
    "OPTIONS * HTTP/1.1\r\nHost: [::1]:1\r\nConnection: x, close\r\nX: 1\r\nKeep-Alive: 5\r\n\r\n",
    "OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://a?q HTTP/1.1\r\nHost: a:80\r\nTE: trailers, gzip\r\nConnection: TE\r\n\r\n",
    "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c, websocket\r\nHTTP2-Settings: x\r\n\r\n",
    "GET / HTTP/1.7\r\nHost: a\r\nVia: 1.0 x\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for=x\r\nX-Request-ID: 7\r\nX_Forwarded_Y: z\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n1\r\na\r\n00\r\nContent-Length: 3\r\n\r\n",
];

const RESPONSES: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\nVia: 1.1 x\r\n\r\na;b\r\n0123456789\r\n0\r\nX: y\r\n\r\nHTTP/1.1 204 x\r\n\r\n",
    "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
    "HTTP/1.1 304 Not Modified\r\nContent-Length: 17\r\nETag: \"x\"\r\n\r\nHTTP/1.1 200 OK\r\n\r\nuntil close",
    "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "HTTP/1.1 426 \r\nConnection: Upgrade, X\r\nUpgrade: HTTP/3\r\nX: y\r\nContent-Length:0\r\n\r\n",
    "HTTP/1.1 205 Reset\r\nTransfer-Encoding: Chunked\r\nTrailer: X\r\n\r\n0\r\n\r\n",
];

const CHUNKED: &[&str] = &[
    "0\r\n\r\n",
    "5\r\nhello\r\n0\r\n\r\nrest",
    "0005;a=b ; c = \"d\\\"e\" ;f\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
    "a\r\n0123456789\r\nA\r\nabcdefghij\r\n0;last\r\nX-Sum: 12\r\nY: \r\n\r\n",
    "1;\r\n;\r\n000\r\nHost: a\r\n\r\n",
    "7fffffffffffffff\r\na",
    "2\r\n\r\n\r\n0\r\n\r\n",
];

const PROXY_HEADERS: &[&[u8]] = &[
    b"PROXY TCP4 192.0.2.1 198.51.100.2 12345 443\r\nGET /",
    b"PROXY TCP6 2001:DB8::1 ::ffff:1.2.3.4 0 65535\r\n",
    b"PROXY UNKNOWN anything\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00GET /",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x02\x30\x39\x01\xbb",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x18\xc0\x00\x02\x01\xc6\x33\x64\x02\x30\x39\x01\xbb\x01\x00\x02h2\x02\x00\x01a\x04\x00\x00",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x21\x00\x240000000000000000111111111111111122333\x00\x01x",
];

/// Fixed fields of a hello up to its extensions, whose record and lengths are put in front.
const HELLO_BODIES: &[&[u8]] = &[
    b"0011111111111111111111111111111111\x00\x00\x02cc\x01\x00",
    b"0011111111111111111111111111111111\x02ss\x00\x02cc\x01\x00\x00\x12\x00\x00\x00\x0e\x00\x0c\x00\x00\x09a.Example",
    b"0011111111111111111111111111111111\x00\x00\x04ccdd\x01\x00\x00\x1f\xff\x01\x00\x01\x00\x00\x00\x00\x08\x00\x06\x00\x00\x03a.b\x00\x10\x00\x0a\x00\x08\x02h2\x04quic",
];

const CONFIGURATIONS: &[&str] = &[
    include_str!("../../config/src/default.toml"),
    include_str!("../../config/examples/quickstart.toml"),
    include_str!("../../config/examples/channels.toml"),
    r#"{"listener": {"web": {"bind": "127.0.0.1:${PORT}"}}, "channel": {"a": {"respond": {"status": 204}}}}"#,
];

/// The seeds of the target of this name, those of the table of vectors among them; none if there is no such target.
///
/// # Panics
/// When the table of vectors cannot be read: it lies beside this crate.
#[must_use]
pub fn seeds_of(target: &str) -> Vec<Vec<u8>> {
    let texts = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>();
    // The first byte chooses who asks.
    let asked = |inputs: Vec<Vec<u8>>| inputs.iter().map(|input| [b"\0", &input[..]].concat()).collect();
    match target {
        "request_head" | "request_stream" => [texts(REQUESTS), vectors_of(Side::Request)].concat(),
        "response_head" => [texts(RESPONSES), vectors_of(Side::Reply)].concat(),
        "response_stream" => asked([texts(RESPONSES), vectors_of(Side::Reply)].concat()),
        "chunked_body" => [texts(CHUNKED), bodies(&vectors_of(Side::Request))].concat(),
        "proxy_header" => PROXY_HEADERS.iter().map(|header| header.to_vec()).collect(),
        "client_hello" => HELLO_BODIES.iter().flat_map(|body| [64, 7].map(|len| hello(body, len))).collect(),
        "config_text" => texts(CONFIGURATIONS),
        _ => Vec::new(),
    }
}

/// A ClientHello in records of at most `fragment_len` bytes.
fn hello(body: &[u8], fragment_len: usize) -> Vec<u8> {
    let length = u8::try_from(body.len()).expect("a short body");
    let message = [&[1, 0, 0, length][..], body].concat();
    let record = |part: &[u8]| [&[22, 3, 1, 0, part.len() as u8][..], part].concat();
    message.chunks(fragment_len).flat_map(record).collect()
}

/// Longest vector that is a seed: those that break a bound by their length cost time at every cut.
const VECTOR_BYTES_MAX: usize = 512;

fn vectors_of(side: Side) -> Vec<Vec<u8>> {
    let tables = load(concat!(env!("CARGO_MANIFEST_DIR"), "/../engine/proto/tests/http1_vectors"));
    let vectors = tables.into_iter().flat_map(|table| table.vectors);
    let inputs = vectors.filter(|vector| vector.side == side).map(|vector| vector.input);
    inputs.filter(|input| input.len() <= VECTOR_BYTES_MAX).collect()
}

/// What follows the head of each message that is said to be chunked.
fn bodies(messages: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let body = |message: &Vec<u8>| {
        let text = String::from_utf8_lossy(message);
        let (head, body) = text.split_once("\r\n\r\n")?;
        (head.ends_with("Transfer-Encoding: chunked") && !body.is_empty()).then(|| body.as_bytes().to_vec())
    };
    messages.iter().filter_map(body).collect()
}
