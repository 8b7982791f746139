//! What do the connections of a scenario begin with, and what must their server see of it? PROXY headers and TLS hellos.
//!
//! Never uses the engine's own writer: what is expected is spelled out here.

use std::net::SocketAddr;

use crate::dice::Dice;

/// What comes before the bytes that are relayed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Opening {
    /// The client is behind a proxy that the engine trusts.
    header: Option<Form>,
    /// It asks for a name, and is relayed by it.
    by_name: bool,
    /// The server is told who the client is.
    told: Option<Form>,
}

/// Version of a PROXY header.
#[derive(Clone, Copy, Debug)]
enum Form {
    Line,
    Binary,
}

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const BEHIND: [u8; 4] = [203, 0, 113, 1];
/// A ClientHello for `a.example`.
const HELLO: &[u8] = b"\x16\x03\x01\x00\x41\x01\x00\x00\x3d\x03\x030123456789abcdef0123456789abcdef\x00\x00\x02\x13\x01\x01\x00\
    \x00\x12\x00\x00\x00\x0e\x00\x0c\x00\x00\x09a.example";

impl Opening {
    pub(crate) fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x6f70_656e);
        if dice.chance(40) {
            return Self::default();
        }
        let form = |dice: &mut Dice| dice.pick(&[None, Some(Form::Line), Some(Form::Binary)]);
        Self { header: form(&mut dice), by_name: dice.chance(50), told: form(&mut dice) }
    }

    /// Keys of the listener and of the upstream.
    pub(crate) fn settings(&self) -> [String; 2] {
        let header = self.header.map_or("", |_| "proxy_protocol = { from = [\"10.0.1.0/24\"] }\n");
        let protocol = if self.by_name {
            "protocol = \"tls\"\nsni = { \"*.example\" = \"servers\" }\n"
        } else {
            "protocol = \"tcp\"\nupstream = \"servers\"\n"
        };
        let told = match self.told {
            None => "",
            Some(Form::Line) => "proxy_protocol = \"v1\"\n",
            Some(Form::Binary) => "proxy_protocol = \"v2\"\n",
        };
        [format!("{header}{protocol}"), told.to_owned()]
    }

    fn hello(&self) -> &'static [u8] {
        if self.by_name { HELLO } else { b"" }
    }

    /// What the client of a connection says first.
    pub(crate) fn said(&self, number: usize) -> Vec<u8> {
        let header = self.header.map(|form| header(form, source(number), BEHIND, 443, &fields(number)));
        [&header.unwrap_or_default(), self.hello()].concat()
    }

    /// What its server must see first; the client's own address and the engine's count where nobody speaks for it.
    pub(crate) fn expected(&self, number: usize, client: SocketAddr, engine: SocketAddr) -> Vec<u8> {
        let header = self.told.map(|form| match self.header {
            None => header(form, client, octets(engine), engine.port(), b""),
            Some(Form::Line) => header(form, source(number), BEHIND, 443, b""),
            Some(Form::Binary) => header(form, source(number), BEHIND, 443, &fields(number)),
        });
        [&header.unwrap_or_default(), self.hello()].concat()
    }

    /// How long that is, once `bytes` show it.
    pub(crate) fn expected_len(&self, bytes: &[u8]) -> Option<usize> {
        let header = match self.told {
            None => 0,
            Some(Form::Line) => bytes.windows(2).position(|pair| pair == b"\r\n")? + 2,
            Some(Form::Binary) => 16 + usize::from(*bytes.get(14)?) * 256 + usize::from(*bytes.get(15)?),
        };
        Some(header + self.hello().len())
    }
}

/// Whom the proxy in front names.
fn source(number: usize) -> SocketAddr {
    let number = u16::try_from(number).expect("few connections");
    SocketAddr::from(([198, 51, 100, 1], 1000 + number))
}

/// A field for private use.
fn fields(number: usize) -> Vec<u8> {
    vec![0xe5, 0, 1, number as u8]
}

fn octets(address: SocketAddr) -> [u8; 4] {
    let SocketAddr::V4(address) = address else { unreachable!("all hosts are of IPv4") };
    address.ip().octets()
}

fn header(form: Form, from: SocketAddr, to: [u8; 4], to_port: u16, fields: &[u8]) -> Vec<u8> {
    let ports = [from.port().to_be_bytes(), to_port.to_be_bytes()].concat();
    match form {
        Form::Line => {
            let to = SocketAddr::from((to, to_port));
            format!("PROXY TCP4 {} {} {} {to_port}\r\n", from.ip(), to.ip(), from.port()).into_bytes()
        }
        Form::Binary => {
            let len = (12 + fields.len() as u16).to_be_bytes();
            [SIGNATURE, b"\x21\x11", &len, &octets(from), &to, &ports, fields].concat()
        }
    }
}
