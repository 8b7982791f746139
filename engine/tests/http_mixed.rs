//! Do exchanges on one connection stay apart, whatever mix of them follows one another?
//!
//! Never the same twice: a failure names its seed, and `SEED=… cargo test --test http_mixed` replays it.

mod common;

use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use common::connection::Connection;
use common::engine::{Config, Engine};
use common::message::{Framing, Head};
use common::on_both_drivers;
use common::origin::{Origin, Peer};
use common::pattern::{self, Check};

const CLIENTS: u64 = 4;
const EXCHANGES: u64 = 60;

/// Numbers that a seed determines: xorshift64, Marsaglia 2003.
#[derive(Clone, Debug)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    /// A length around the sizes of segments and buffers, mostly small.
    fn length(&mut self) -> u64 {
        match self.roll(6) {
            0 => 0,
            1 | 2 => self.roll(100),
            3 => self.roll(5_000),
            4 => 65_536 - 50 + self.roll(100),
            _ => self.roll(300_000),
        }
    }

    fn pieces(&mut self) -> Vec<u64> {
        (0..5).map(|_| 1 + self.length()).collect()
    }
}

/// What one exchange is like; its target says it all, so that the origin knows what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Exchange {
    method: &'static str,
    number: u64,
    up: u64,
    is_up_chunked: bool,
    down: u64,
    /// How the answer ends: by length, by chunks, by closing, by length and `Connection: close`.
    ending: u64,
    /// Interim answers before the final one.
    interim: u64,
}

impl Exchange {
    fn rolled(number: u64, dice: &mut Dice) -> Self {
        let method = ["GET", "POST", "PUT", "HEAD"][dice.roll(4) as usize];
        let has_body = ["POST", "PUT"].contains(&method);
        Self {
            method,
            number,
            up: if has_body { dice.length() } else { 0 },
            is_up_chunked: has_body && dice.roll(2) == 0,
            down: dice.length(),
            ending: dice.roll(4),
            interim: dice.roll(8).saturating_sub(5),
        }
    }

    fn request(&self, dice: &mut Dice) -> Vec<u8> {
        let Self { method, number, up, is_up_chunked, down, ending, interim } = self;
        let framing = match is_up_chunked {
            true => "Transfer-Encoding: chunked\r\n".to_owned(),
            false if ["POST", "PUT"].contains(method) => format!("Content-Length: {up}\r\n"),
            false => String::new(),
        };
        let head = format!(
            "{method} /{number}/{up}/{down}/{ending}/{interim} HTTP/1.1\r\nHost: test\r\n{framing}\r\n"
        );
        let mut request = head.into_bytes();
        append_body(&mut request, *up, *is_up_chunked, dice);
        request
    }
}

fn append_body(message: &mut Vec<u8>, length: u64, is_chunked: bool, dice: &mut Dice) {
    pattern::send(length, &dice.pieces(), |piece| {
        if is_chunked {
            message.extend_from_slice(&pattern::chunk(piece));
        } else {
            message.extend_from_slice(piece);
        }
        true
    });
    if is_chunked {
        message.extend_from_slice(b"0\r\n\r\n");
    }
}

/// Does what the request's target says.
fn answer(peer: &mut Peer, seed: u64) -> Option<()> {
    let head = peer.head()?;
    let told: Vec<u64> = head.target()[1..].split('/').map(|word| word.parse().expect("a number")).collect();
    let [number, up, down, ending, interim] = told[..] else { panic!("not ours: {head:?}") };
    check_body(&mut peer.wire, head.request_framing(), up);
    let mut dice = Dice(seed ^ (number + 1));
    let mut message = Vec::new();
    for _ in 0..interim {
        message.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
    }
    let fields = match ending {
        0 => format!("Content-Length: {down}\r\n"),
        1 => "Transfer-Encoding: chunked\r\n".to_owned(),
        2 => String::new(),
        _ => format!("Connection: close\r\nContent-Length: {down}\r\n"),
    };
    message.extend_from_slice(format!("HTTP/1.1 200 OK\r\nX-Number: {number}\r\n{fields}\r\n").as_bytes());
    if head.method() != "HEAD" {
        append_body(&mut message, down, ending == 1, &mut dice);
    }
    send_in_pieces(&message, &dice.pieces(), |piece| peer.wire.send(piece));
    // A HEAD is not answered by closing: that connection may be used again.
    (ending < 2 || (ending == 2 && head.method() == "HEAD")).then_some(())
}

/// Sends all of `bytes` in writes of these sizes, in turn, unless a write fails.
fn send_in_pieces(mut bytes: &[u8], sizes: &[u64], send: impl Fn(&[u8]) -> bool) {
    for &size in sizes.iter().cycle() {
        let (piece, rest) = bytes.split_at(bytes.len().min(size as usize));
        if piece.is_empty() || !send(piece) {
            return;
        }
        bytes = rest;
    }
}

fn check_body(from: &mut Connection, framing: Framing, length: u64) {
    let mut check = Check::default();
    let end = from.body(framing, |bytes| check.take(bytes));
    assert_eq!((check.length(), end.is_complete), (length, true));
}

/// Pipelines all exchanges over one connection and checks each answer.
fn run_client(engine: &Engine, seed: u64, client_number: u64) {
    let mut dice = Dice(seed ^ (client_number << 32));
    let first = client_number * EXCHANGES;
    let exchanges: Vec<Exchange> =
        (first..first + EXCHANGES).map(|number| Exchange::rolled(number, &mut dice)).collect();
    let stream: Vec<u8> = exchanges.iter().flat_map(|exchange| exchange.request(&mut dice)).collect();
    let sizes = dice.pieces();
    let mut client = engine.connect();
    let sender = client.sender();
    // Answers are read meanwhile: neither end can hold all of them.
    let upload = thread::spawn(move || send_in_pieces(&stream, &sizes, |piece| sender.send(piece)));
    for exchange in &exchanges {
        let head = final_head(&mut client, exchange);
        let number = exchange.number.to_string();
        assert_eq!((head.status(), head.value("X-Number")), (200, Some(number.as_str())), "{exchange:?}");
        if exchange.method != "HEAD" {
            check_body(&mut client, head.response_framing(exchange.method), exchange.down);
        }
    }
    upload.join().expect("no panic");
    client.assert_open();
}

fn final_head(client: &mut Connection, exchange: &Exchange) -> Head {
    for _ in 0..exchange.interim {
        assert_eq!(client.head().expect("an interim answer").status(), 103, "{exchange:?}");
    }
    client.head().unwrap_or_else(|| panic!("no answer to {exchange:?}"))
}

#[test]
fn any_mix_of_exchanges_is_answered_in_order_and_to_the_byte() {
    let given = std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
    let seed: u64 = given.unwrap_or(clock | 1);
    eprintln!("replay with SEED={seed}");
    on_both_drivers(|driver| {
        let origin = Origin::start(move |peer| while answer(peer, seed).is_some() {});
        let config = Config { endpoints: &[origin.address], ..Config::default() };
        let engine = Engine::start_on_cores(driver, 2, config);
        thread::scope(|scope| {
            for client in 0..CLIENTS {
                let engine = &engine;
                scope.spawn(move || run_client(engine, seed, client));
            }
        });
        assert!(engine.faults().is_empty(), "{:?}", engine.faults());
        engine.assert_counter("/totals/requests", CLIENTS * EXCHANGES);
    });
}
