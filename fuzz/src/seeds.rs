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
        "config_text" => texts(CONFIGURATIONS),
        _ => Vec::new(),
    }
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
