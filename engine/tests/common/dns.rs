//! What does a scripted name server know, and how often was it asked? One zone in memory, over UDP (RFC 1035 §4).
//!
//! Never asks anybody else, and never answers a question that it was told to be silent on.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::PATIENCE;

const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const TYPE_SRV: u16 = 33;

const SERVER_FAILURE: u8 = 2;
const NAME_ERROR: u8 = 3;

/// Longest question that is read; ours are a hundred bytes.
const QUESTION_BYTES_MAX: usize = 512;

/// What a name has.
#[derive(Clone, Debug)]
pub(crate) enum Record {
    Address(IpAddr),
    Server { priority: u16, weight: u16, port: u16, target: &'static str },
}

impl Record {
    fn kind(&self) -> u16 {
        match self {
            Self::Address(IpAddr::V4(_)) => TYPE_A,
            Self::Address(IpAddr::V6(_)) => TYPE_AAAA,
            Self::Server { .. } => TYPE_SRV,
        }
    }

    fn data(&self) -> Vec<u8> {
        match self {
            Self::Address(IpAddr::V4(ip)) => ip.octets().into(),
            Self::Address(IpAddr::V6(ip)) => ip.octets().into(),
            Self::Server { priority, weight, port, target } => {
                let numbers = [priority, weight, port];
                let mut data: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
                data.extend(wire_name(target));
                data
            }
        }
    }
}

/// How questions are met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    /// From the zone; NXDOMAIN for names that are not in it.
    #[default]
    Answering,
    /// SERVFAIL.
    Failing,
    /// Not at all.
    Silent,
}

/// A name server; silent when dropped.
#[derive(Debug)]
pub(crate) struct Dns {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    asked: Condvar,
}

#[derive(Debug, Default)]
struct State {
    zone: HashMap<String, (u32, Vec<Record>)>,
    mood: Mood,
    questions: usize,
}

impl Dns {
    /// One with an empty zone.
    pub(crate) fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = socket.local_addr().expect("bound");
        let shared = Arc::new(Shared::default());
        let (weak, answering) = (Arc::downgrade(&shared), socket);
        thread::spawn(move || {
            let mut bytes = [0; QUESTION_BYTES_MAX];
            while let Ok((len, peer)) = answering.recv_from(&mut bytes) {
                let Some(shared) = weak.upgrade() else { return };
                if let Some(reply) = shared.reply(&bytes[..len]) {
                    // Who asked may be gone.
                    let _ = answering.send_to(&reply, peer);
                }
            }
        });
        Self { address, shared }
    }

    /// What a name has from now on, each record for `ttl` seconds.
    pub(crate) fn set(&self, name: &str, ttl: u32, records: impl IntoIterator<Item = Record>) {
        self.shared.state().zone.insert(name.to_owned(), (ttl, records.into_iter().collect()));
    }

    /// The same for a host: where it is, for no time at all, so that it is soon asked for again.
    pub(crate) fn set_host(&self, name: &str, addresses: &[IpAddr]) {
        self.set(name, 0, addresses.iter().copied().map(Record::Address));
    }

    /// There is no such name from now on.
    pub(crate) fn remove(&self, name: &str) {
        self.shared.state().zone.remove(name);
    }

    /// How it meets questions from now on.
    pub(crate) fn be(&self, mood: Mood) {
        self.shared.state().mood = mood;
    }

    /// Waits until it was asked `times` more, answering or not.
    #[track_caller]
    pub(crate) fn wait_until_asked(&self, times: usize) {
        let state = self.shared.state();
        let enough = state.questions + times;
        let waited = self.shared.asked.wait_timeout_while(state, PATIENCE, |state| state.questions < enough);
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!timeout.timed_out(), "asked only {} times", state.questions);
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.be(Mood::Silent);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// RFC 1035 §4.1: the same head with the bit of a response, the question again, then the records.
    fn reply(&self, question: &[u8]) -> Option<Vec<u8>> {
        let (name, kind, end) = parse_question(question)?;
        let mut state = self.state();
        state.questions += 1;
        self.asked.notify_all();
        let (code, ttl, records) = match (state.mood, state.zone.get(&name)) {
            (Mood::Silent, _) => return None,
            (Mood::Failing, _) => (SERVER_FAILURE, 0, Vec::new()),
            (Mood::Answering, None) => (NAME_ERROR, 0, Vec::new()),
            (Mood::Answering, Some((ttl, records))) => {
                let of_kind = records.iter().filter(|record| record.kind() == kind);
                (0, *ttl, of_kind.cloned().collect())
            }
        };
        let mut reply = question[..2].to_vec();
        // A response that recursion was asked for, by a server that has it.
        reply.extend([0x81, 0x80 | code, 0, 1]);
        reply.extend((records.len() as u16).to_be_bytes());
        reply.extend([0; 4]);
        reply.extend(&question[12..end]);
        for record in records {
            reply.extend([0xc0, 12]); // the name of the question
            reply.extend(record.kind().to_be_bytes());
            reply.extend([0, 1]);
            reply.extend(ttl.to_be_bytes());
            let data = record.data();
            reply.extend((data.len() as u16).to_be_bytes());
            reply.extend(data);
        }
        Some(reply)
    }
}

/// The name that is asked for, its type, and where the question ends.
fn parse_question(bytes: &[u8]) -> Option<(String, u16, usize)> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let len = usize::from(*bytes.get(at)?);
        at += 1;
        if len == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(bytes.get(at..at + len)?).to_ascii_lowercase());
        at += len;
    }
    let kind = u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?);
    Some((labels.join("."), kind, at + 4))
}

fn wire_name(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}
