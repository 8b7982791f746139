//! What is known of an exchange when it has ended, as bytes? Numbers in a fixed order, texts behind them.
//!
//! Never refers to memory of the exchange: whoever reads it does so on another thread, when the exchange is long gone.

use std::net::{IpAddr, Ipv6Addr};

/// A number that is not there.
const NONE_U16: u16 = u16::MAX;
const NONE_U32: u32 = u32::MAX;

/// Bytes of the numbers of a record, the length of the whole in front.
const NUMBERS_BYTES: usize = 4 + 8 + 16 + 10 * 2 + 6 * 4 + 4 * 8 + 32 + 2;

/// Texts of a record: longer ones are cut, and none is added beyond.
pub(crate) const TEXTS_BYTES_MAX: usize = 24 * 1024;

/// The longest record.
pub(crate) const RECORD_BYTES_MAX: usize = NUMBERS_BYTES + TEXTS_BYTES_MAX;

/// What kind of exchange it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A request and its answer.
    #[default]
    Http,
    /// One that became a tunnel, whole.
    Tunnel,
    /// A relayed connection.
    Tcp,
    /// A relayed connection that found its upstream by server name.
    Tls,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Http, Self::Tunnel, Self::Tcp, Self::Tls];

    /// Its name in logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tunnel => "tunnel",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

/// What was found out of it besides numbers: the tag of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Text {
    Method = 0,
    Target = 1,
    Host = 2,
    Endpoint = 3,
    RequestId = 4,
    ServerName = 5,
    Certificate = 6,
}

/// Tags there are.
const OWN_TEXTS: usize = Text::Certificate as usize + 1;

/// From this tag on a text is the value of a field line, by [`config::snapshot::access_log::NotedId`].
const FIRST_NOTED: u8 = 16;

/// What of it is true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks(u16);

impl Marks {
    /// The client's connection has carried a request before.
    pub const CLIENT_REUSED: Self = Self(1);
    /// The endpoint's connection has.
    pub const ENDPOINT_REUSED: Self = Self(1 << 1);
    /// It came over TLS.
    pub const PRIVATE: Self = Self(1 << 2);
    /// In a session that was resumed.
    pub const RESUMED: Self = Self(1 << 3);
    /// The request's head was read.
    pub const HAS_HEAD: Self = Self(1 << 4);
    /// In HTTP/1.0.
    pub const HTTP10: Self = Self(1 << 5);
    /// A trace is known that it is part of.
    pub const TRACED: Self = Self(1 << 6);
    /// That trace is sampled.
    pub const SAMPLED: Self = Self(1 << 7);
    /// The exchange that it is of was cut off by the end of the process.
    pub const CUT: Self = Self(1 << 8);

    /// Whether all of these hold.
    #[must_use]
    pub const fn has(self, marks: Self) -> bool {
        self.0 & marks.0 == marks.0
    }

    /// These too.
    #[must_use]
    pub const fn with(self, marks: Self) -> Self {
        Self(self.0 | marks.0)
    }

    /// All but these.
    #[must_use]
    pub const fn without(self, marks: Self) -> Self {
        Self(self.0 & !marks.0)
    }

    /// These too, if it is so.
    #[must_use]
    pub const fn with_if(self, is_so: bool, marks: Self) -> Self {
        if is_so { self.with(marks) } else { self }
    }
}

/// The part of a trace that an exchange is (W3C Trace Context).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceIds {
    /// Of the whole.
    pub trace_id: [u8; 16],
    /// Of this part.
    pub span_id: [u8; 8],
    /// Of the part that it follows from; zero for none.
    pub parent_id: [u8; 8],
}

/// The numbers of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// When it began, in microseconds since 1970.
    pub began_us: u64,
    /// The client's address, and its port; unspecified for nobody's.
    pub client: IpAddr,
    /// Likewise.
    pub client_port: u16,
    /// [`config::snapshot::ListenerId`]
    pub listener: u16,
    /// [`config::snapshot::ChannelId`], once it was found.
    pub channel: Option<u16>,
    /// [`config::snapshot::UpstreamId`], once it was asked.
    pub upstream: Option<u16>,
    /// What was answered, if something was.
    pub status: Option<u16>,
    /// [`crate::outcome::Fault::index`], if it ended in one.
    pub fault: Option<u16>,
    /// How often it was sent again.
    pub retries: u16,
    /// Protocol version and cipher suite as TLS numbers them; 0 where there is none.
    pub tls_version: u16,
    /// Likewise.
    pub tls_cipher: u16,
    /// What of it is true.
    pub marks: Marks,
    /// Phases in microseconds, by [`crate::stats::Phase`]'s order: wait, connect, first byte, body, total.
    pub phases_us: [Option<u32>; 5],
    /// Number of its core.
    pub core: u32,
    /// Bytes received from the client, sent to it, and of both those of bodies.
    pub bytes_received: u64,
    /// Likewise.
    pub bytes_sent: u64,
    /// Likewise.
    pub body_bytes_received: u64,
    /// Likewise.
    pub body_bytes_sent: u64,
    /// See [`Marks::TRACED`].
    pub trace: TraceIds,
    /// What kind of exchange.
    pub kind: Kind,
}

/// A record as it is read.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Everything that is a number.
    pub numbers: Numbers,
    /// By [`Text`]: the one added last, as a request that was sent again went to more than one endpoint.
    own: [Option<&'a [u8]>; OWN_TEXTS],
    texts: &'a [u8],
}

impl<'a> Record<'a> {
    /// The method; empty where no head was read, as are the target and the host.
    #[must_use]
    pub fn method(&self) -> &'a [u8] {
        self.own[Text::Method as usize].unwrap_or_default()
    }

    /// The target as received.
    #[must_use]
    pub fn target(&self) -> &'a [u8] {
        self.own[Text::Target as usize].unwrap_or_default()
    }

    /// The host that was asked for, with its port.
    #[must_use]
    pub fn host(&self) -> &'a [u8] {
        self.own[Text::Host as usize].unwrap_or_default()
    }

    /// Name of the endpoint that it went to last.
    #[must_use]
    pub fn endpoint(&self) -> Option<&'a [u8]> {
        self.own[Text::Endpoint as usize]
    }

    /// The id that the request goes by, where it is wanted.
    #[must_use]
    pub fn request_id(&self) -> Option<&'a [u8]> {
        self.own[Text::RequestId as usize]
    }

    /// The server name that a TLS client asked for, where it is wanted.
    #[must_use]
    pub fn server_name(&self) -> Option<&'a [u8]> {
        self.own[Text::ServerName as usize]
    }

    /// The subject of the client's certificate, where it is wanted.
    #[must_use]
    pub fn certificate(&self) -> Option<&'a [u8]> {
        self.own[Text::Certificate as usize]
    }

    /// The value of a field line that is noted, if the message has it.
    #[must_use]
    pub fn noted(&self, id: u8) -> Option<&'a [u8]> {
        let wanted = FIRST_NOTED + id;
        texts_in(self.texts).filter(|(tag, _)| *tag == wanted).last().map(|(_, value)| value)
    }
}

/// Texts with their tags, one after the other.
fn texts_in(mut rest: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let [tag, low, high, behind @ ..] = rest else { return None };
        let (value, next) = behind.split_at_checked(usize::from(u16::from_le_bytes([*low, *high])))?;
        rest = next;
        Some((*tag, value))
    })
}

/// Adds a text to those of a record, as much of it as there may be; whether all of it was.
pub(crate) fn push_text(texts: &mut Vec<u8>, tag: u8, value: &[u8], bytes_max: usize) -> bool {
    let room = TEXTS_BYTES_MAX.saturating_sub(texts.len() + 3);
    let kept = &value[..value.len().min(bytes_max).min(room).min(usize::from(u16::MAX))];
    if room > 0 {
        texts.push(tag);
        texts.extend_from_slice(&(kept.len() as u16).to_le_bytes());
        texts.extend_from_slice(kept);
    }
    kept.len() == value.len()
}

/// The tag of a field line.
pub(crate) fn noted_tag(id: u8) -> u8 {
    FIRST_NOTED + id
}

/// Adds a record to `out`.
pub(crate) fn write(numbers: &Numbers, texts: &[u8], out: &mut Vec<u8>) {
    let len = NUMBERS_BYTES + texts.len();
    let or_none = |number: Option<u16>| number.unwrap_or(NONE_U16);
    let address = match numbers.client {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    let mut bytes = [0; NUMBERS_BYTES];
    let mut at = 0;
    let mut put = |part: &[u8]| {
        bytes[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    };
    put(&(len as u32).to_le_bytes());
    put(&numbers.began_us.to_le_bytes());
    put(&address.octets());
    for number in [
        numbers.client_port,
        numbers.listener,
        or_none(numbers.channel),
        or_none(numbers.upstream),
        or_none(numbers.status),
        or_none(numbers.fault),
        numbers.retries,
        numbers.tls_version,
        numbers.tls_cipher,
        numbers.marks.0,
    ] {
        put(&number.to_le_bytes());
    }
    for number in numbers.phases_us {
        put(&number.unwrap_or(NONE_U32).to_le_bytes());
    }
    put(&numbers.core.to_le_bytes());
    for number in
        [numbers.bytes_received, numbers.bytes_sent, numbers.body_bytes_received, numbers.body_bytes_sent]
    {
        put(&number.to_le_bytes());
    }
    put(&numbers.trace.trace_id);
    put(&numbers.trace.span_id);
    put(&numbers.trace.parent_id);
    put(&[numbers.kind as u8, 0]);
    out.extend_from_slice(&bytes);
    out.extend_from_slice(texts);
}

/// Takes the first record off `bytes`; `None` at their end.
pub(crate) fn read<'a>(bytes: &mut &'a [u8]) -> Option<Record<'a>> {
    let len = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
    let (record, rest) = bytes.split_at_checked(len)?;
    let (numbers, texts) = record.split_at_checked(NUMBERS_BYTES)?;
    let mut parts = Parts(&numbers[4..]);
    let began_us = parts.u64()?;
    let client = Ipv6Addr::from(parts.take::<16>()?).to_canonical();
    let [client_port, listener, channel, upstream, status, fault, retries, tls_version, tls_cipher, marks] =
        [(); 10].map(|()| parts.u16().unwrap_or(NONE_U16));
    let phases_us = [(); 5].map(|()| parts.u32().filter(|number| *number != NONE_U32));
    let core = parts.u32()?;
    let [bytes_received, bytes_sent, body_bytes_received, body_bytes_sent] =
        [(); 4].map(|()| parts.u64().unwrap_or_default());
    let trace = TraceIds { trace_id: parts.take()?, span_id: parts.take()?, parent_id: parts.take()? };
    let [kind, _] = parts.take::<2>()?;
    let some = |number: u16| (number != NONE_U16).then_some(number);
    let numbers = Numbers {
        began_us,
        client,
        client_port,
        listener,
        channel: some(channel),
        upstream: some(upstream),
        status: some(status),
        fault: some(fault),
        retries,
        tls_version,
        tls_cipher,
        marks: Marks(marks),
        phases_us,
        core,
        bytes_received,
        bytes_sent,
        body_bytes_received,
        body_bytes_sent,
        trace,
        kind: *Kind::ALL.get(usize::from(kind))?,
    };
    let mut own = [None; OWN_TEXTS];
    for (tag, value) in texts_in(texts) {
        if let Some(place) = own.get_mut(usize::from(tag)) {
            *place = Some(value);
        }
    }
    *bytes = rest;
    Some(Record { numbers, own, texts })
}

/// What is left of the numbers.
struct Parts<'a>(&'a [u8]);

impl Parts<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (part, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*part)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers() -> Numbers {
        Numbers {
            began_us: 1_700_000_000_123_456,
            client: IpAddr::from([10, 0, 0, 7]),
            client_port: 4711,
            listener: 1,
            channel: Some(2),
            upstream: None,
            status: Some(502),
            fault: Some(11),
            retries: 3,
            tls_version: 0x304,
            tls_cipher: 0x1301,
            marks: Marks::CLIENT_REUSED.with(Marks::PRIVATE),
            phases_us: [Some(0), None, Some(7), Some(8), Some(u32::MAX - 1)],
            core: 5,
            bytes_received: 1 << 40,
            bytes_sent: 2,
            body_bytes_received: 3,
            body_bytes_sent: 4,
            trace: TraceIds { trace_id: [1; 16], span_id: [2; 8], parent_id: [3; 8] },
            kind: Kind::Tunnel,
        }
    }

    #[test]
    fn what_is_written_is_read_one_after_the_other() {
        let mut texts = Vec::new();
        assert!(push_text(&mut texts, Text::Method as u8, b"GET", 10));
        assert!(push_text(&mut texts, Text::Endpoint as u8, b"first", 10));
        assert!(push_text(&mut texts, noted_tag(31), b"\xff\0", 10));
        assert!(push_text(&mut texts, Text::Endpoint as u8, b"second", 10));
        let mut bytes = Vec::new();
        write(&numbers(), &texts, &mut bytes);
        let v6 = Numbers { client: "2001:db8::1".parse().expect("one"), kind: Kind::Http, ..numbers() };
        write(&v6, &[], &mut bytes);
        let mut rest = bytes.as_slice();
        let first = read(&mut rest).expect("the first");
        assert_eq!(first.numbers, numbers());
        assert_eq!((first.method(), first.endpoint()), (&b"GET"[..], Some(&b"second"[..])));
        assert_eq!((first.noted(31), first.noted(30)), (Some(&b"\xff\0"[..]), None));
        assert_eq!(first.target(), b"");
        assert_eq!(read(&mut rest).expect("the second").numbers, v6);
        assert!(read(&mut rest).is_none());
    }

    #[test]
    fn however_much_there_is_to_say_a_record_has_its_bound() {
        let mut texts = Vec::new();
        assert!(!push_text(&mut texts, 1, &[b'a'; 100], 10));
        assert_eq!(texts.len(), 13);
        for _ in 0..100 {
            push_text(&mut texts, 1, &[b'a'; 1000], 1000);
        }
        assert!(texts.len() <= TEXTS_BYTES_MAX);
        let mut bytes = Vec::new();
        write(&numbers(), &texts, &mut bytes);
        assert!(bytes.len() <= RECORD_BYTES_MAX);
        assert!(read(&mut bytes.as_slice()).is_some());
        // Half of one is none.
        for len in 0..bytes.len() {
            assert!(read(&mut &bytes[..len]).is_none());
        }
    }
}
