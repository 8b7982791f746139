//! Which bytes come next when no coverage tells?
//!
//! Edits of inputs that are known to get far; the seed alone repeats a run. Never uses a clock or the system's
//! randomness.

/// Marsaglia's xorshift64*: any seed but zero replays its run.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Starts at `seed`; zero, which would stay zero, counts as one.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// A number below `bound`, or 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let random = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(random).expect("31 bits fit") % bound.max(1)
    }

    /// One of them.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Most bytes of an edited input; long ones cost time and find nothing new.
const INPUT_BYTES_MAX: usize = 4096;

/// What parsers of HTTP/1, and of what may come before it, have been known to differ in.
const FRAGMENTS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\n\n",
    b"\r\r\n",
    b" ",
    b"\t",
    b"\0",
    b"\x0b",
    b"\x7f",
    b"\x80",
    b"\xff",
    b":",
    b" :",
    b": ",
    b",",
    b";",
    b"=",
    b"\"",
    b"#",
    b"?",
    b"/",
    b"//",
    b"@",
    b"%",
    b"%00",
    b"*",
    b"[::1]",
    b"..",
    b"\r\n ",
    b"\r\n\t",
    b"0\r\n\r\n",
    b"1\r\nA\r\n",
    b"0x1",
    b"+1",
    b"-1",
    b"1_0",
    b"00000000000000000",
    b"7fffffffffffffff",
    b"8000000000000000",
    b"ffffffffffffffff",
    b"9223372036854775807",
    b"18446744073709551616",
    b"chunked",
    b"xchunked",
    b"chunked, chunked",
    b"identity",
    b"gzip, chunked",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b"Transfer_Encoding: chunked\r\n",
    b"Host: b\r\n",
    b"Connection: close\r\n",
    b"Connection: Content-Length, X, TE\r\n",
    b"Expect: 100-continue\r\n",
    b"TE: trailers\r\n",
    b"Upgrade: h2c\r\n",
    b"Via: 1.1 x\r\n",
    b"X-Forwarded-For: x\r\n",
    b"HTTP/1.0",
    b"HTTP/1.1",
    b"HTTP/1.9",
    b"HTTP/2.0",
    b"GET ",
    b"HEAD ",
    b"CONNECT a:1 ",
    b"OPTIONS * ",
    b"http://a",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 304 x\r\n\r\n",
    b"HTTP/1.1 204\r\n",
    b"PROXY ",
    b"TCP4",
    b"UNKNOWN",
    b"1.2.3.4",
    b"\x00\x01",
    b"\x03\x00\x04",
    b"\x16\x03\x01",
    b"[listener.web]\n",
    b"${PORT}",
    b"${X:-1}",
    b"\"\"\"",
    b"{",
    b"}",
    b"1e9",
    b"\xf0\x9f\xa6\x80",
    b"s",
    b"KiB",
];

/// One to four edits of one of `seeds`: a piece removed, doubled, overwritten, put in, or joined with another seed.
#[must_use]
pub fn mutate(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = dice.pick(seeds).clone();
    for _ in 0..=dice.below(4) {
        let start = dice.below(bytes.len() + 1);
        let end = (start + 1 + dice.below(12)).min(bytes.len());
        let fragment = *dice.pick(FRAGMENTS);
        match dice.below(7) {
            0 => drop(bytes.drain(start..end)),
            1 => bytes.splice(start..start, bytes[start..end].to_vec()).for_each(drop),
            2 => bytes.splice(start..end, fragment.iter().copied()).for_each(drop),
            3 => bytes.splice(start..start, fragment.iter().copied()).for_each(drop),
            4 if start < bytes.len() => bytes[start] = dice.below(256) as u8,
            5 => bytes.truncate(start.max(bytes.len() / 2)),
            _ => {
                let other = dice.pick(seeds);
                bytes.truncate(start);
                bytes.extend_from_slice(&other[dice.below(other.len() + 1)..]);
            }
        }
    }
    bytes.truncate(INPUT_BYTES_MAX);
    bytes
}
