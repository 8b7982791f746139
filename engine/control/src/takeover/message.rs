//! What do the old and the new process say to each other? Six messages, each of a bounded length.
//!
//! Never anything that the other has to believe: who does not understand says so, and nothing has changed.
//!
//! ```text
//! new: Hello      who I am
//! old: Sockets    what I listen on, with the descriptors; as many messages as it takes
//! new: Ready      everything that could fail has been done, my cores run; these sockets I do not want
//! old: Go         from here on I do not change my mind
//! new: Serving    I accept
//! new: Failed     instead of any of its own
//! ```

use std::net::SocketAddr;
use std::path::Path;

use proxy::address::Address;
use serde::{Deserialize, Serialize};

/// Grows with every change that the other side has to know of. `Hello` stays what it is, so that a mismatch can be told.
pub(crate) const PROTOCOL: u32 = 1;

/// Longest message: below what a Unix socket sends at once by default (`net.core.wmem_default`, 208 KiB).
pub(crate) const BYTES_MAX: usize = 128 * 1024;

/// Descriptors that come with one message. The kernel takes 253 (`SCM_MAX_FD`); so many descriptions fit into a message.
pub(crate) const SOCKETS_PER_MESSAGE: usize = 128;

/// Descriptors that are taken over at all; more than any number of listeners and cores needs.
pub(crate) const SOCKETS_MAX: usize = 64 * 1024;

/// Longest account of what went wrong.
const ERROR_BYTES_MAX: usize = 16 * 1024;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case")]
pub(crate) enum Message {
    /// The new process is there.
    Hello {
        /// Its [`PROTOCOL`].
        protocol: u32,
        /// Version of its program.
        version: String,
        /// Its number.
        pid: u32,
    },
    /// What the old process listens on.
    Sockets {
        /// Version of its program.
        version: String,
        /// One for each descriptor that comes along.
        sockets: Vec<Described>,
        /// Whether another message follows.
        more: bool,
    },
    /// The new process could begin.
    Ready {
        /// Whose sockets it does not want.
        unwanted: Vec<Owner>,
    },
    /// The new process is to begin.
    Go,
    /// It has begun.
    Serving,
    /// It cannot.
    Failed {
        /// Why, in its own words.
        error: String,
    },
}

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Described {
    pub(crate) owner: Owner,
    pub(crate) place: Place,
    /// Whether it is its owner's because it was given under that name, wherever the configuration says.
    pub(crate) by_name: bool,
    /// Whether a supervisor has it too, who gives it to whoever comes after the end of this process.
    pub(crate) is_kept: bool,
}

/// Whose socket it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Owner {
    /// The admin listener's.
    Admin,
    /// That of the listener of this name.
    Listener(String),
}

/// Where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Place {
    Tcp(SocketAddr),
    Unix(Box<Path>),
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Admin => f.write_str("admin"),
            Self::Listener(name) => write!(f, "listener.{name}"),
        }
    }
}

impl From<&Address> for Place {
    fn from(address: &Address) -> Self {
        match address {
            Address::Tcp(address) => Self::Tcp(*address),
            Address::Unix(path) => Self::Unix(Box::from(&**path)),
        }
    }
}

impl Place {
    /// The same, as the rest of the process writes it.
    pub(crate) fn address(&self) -> Address {
        match self {
            Self::Tcp(address) => Address::Tcp(*address),
            Self::Unix(path) => Address::Unix((**path).into()),
        }
    }
}

/// What a message is on its way. Nothing when it is longer than messages may be.
pub(crate) fn encode(message: &Message) -> Option<Vec<u8>> {
    serde_json::to_vec(message).ok().filter(|bytes| bytes.len() <= BYTES_MAX)
}

/// The message that these bytes are.
pub(crate) fn decode(bytes: &[u8]) -> Option<Message> {
    serde_json::from_slice(bytes).ok()
}

/// An account of what went wrong, cut to what a message may hold. Its end says most.
pub(crate) fn failed(error: &str) -> Message {
    let mut begin = error.len().saturating_sub(ERROR_BYTES_MAX);
    while !error.is_char_boundary(begin) {
        begin += 1;
    }
    Message::Failed { error: error[begin..].to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(name: &str) -> Described {
        Described {
            owner: Owner::Listener(name.to_owned()),
            place: Place::Unix(Path::new(&format!("/{}", "p".repeat(106))).into()),
            by_name: true,
            is_kept: true,
        }
    }

    #[test]
    fn what_is_said_is_what_is_heard() {
        let hello = Message::Hello { protocol: PROTOCOL, version: "1.2.3".to_owned(), pid: 7 };
        let tcp = Place::Tcp("[::1]:80".parse().expect("an address"));
        let admin = Described { owner: Owner::Admin, place: tcp, by_name: false, is_kept: false };
        let sockets =
            Message::Sockets { version: "1".to_owned(), sockets: vec![admin, described("a")], more: true };
        let ready = Message::Ready { unwanted: vec![Owner::Admin] };
        for message in [hello, sockets, ready, Message::Go, Message::Serving, failed("no")] {
            assert_eq!(decode(&encode(&message).expect("short")), Some(message));
        }
    }

    #[test]
    fn as_many_sockets_as_go_into_a_message_can_be_described_in_one() {
        let sockets = vec![described(&"\u{1F600}".repeat(64)); SOCKETS_PER_MESSAGE];
        let message = Message::Sockets { version: "1.2.3".to_owned(), sockets, more: false };
        assert!(encode(&message).is_some());
    }

    #[test]
    fn what_is_no_message_is_none() {
        for bytes in [&b""[..], b"{}", b"[]", b"\xff", b"{\"message\":\"more\"}", b"{\"message\":\"hello\"}"]
        {
            assert_eq!(decode(bytes), None);
        }
    }

    #[test]
    fn a_long_story_loses_its_beginning() {
        let story = format!("{}\u{1F600}end", "x".repeat(ERROR_BYTES_MAX - 5));
        let Message::Failed { error } = failed(&story) else { unreachable!("that is what it makes") };
        assert!(error.len() <= ERROR_BYTES_MAX && error.ends_with("end"));
        assert!(encode(&failed(&"\u{1}".repeat(20_000))).is_some(), "also when every byte is escaped");
    }
}
