//! What does a scripted origin server do, and what did it see? One thread per connection, raw bytes.
//!
//! Never interprets what it is asked beyond where a message ends; what it answers is the script's.

use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

use socket2::{Domain, Socket, Type};

use super::PATIENCE;
use super::connection::Connection;
use super::message::{Head, Message};
use super::signal::Signal;

/// A short complete answer.
pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A listening origin; gone with all its connections when dropped.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Seen>,
    changed: Condvar,
}

/// What came in so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Connections accepted.
    pub(crate) connections: usize,
    /// Connections that ended, by either side.
    pub(crate) ended: usize,
    /// Requests in the order they were read, complete or not, with the number of their connection.
    pub(crate) requests: Vec<(usize, Message)>,
    open: Vec<Weak<TcpStream>>,
    is_over: bool,
}

impl Origin {
    /// One that says when it is asked and answers when it is told: the origin, and the two signals in this order.
    pub(crate) fn held() -> (Self, Signal, Signal) {
        let (asked, answer) = (Signal::default(), Signal::default());
        let (is_asked, may_answer) = (asked.clone(), answer.clone());
        let origin = Self::start(move |peer| {
            while peer.request().is_some() {
                is_asked.give();
                may_answer.take_within(6 * PATIENCE);
                peer.wire.send(OK);
            }
        });
        (origin, asked, answer)
    }

    /// Runs `script` for each connection, in a thread of its own. The connection closes when it returns.
    pub(crate) fn start(script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Self {
        Self::start_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"), script)
    }

    /// The same, on a socket of the test's own making.
    pub(crate) fn start_on(
        listener: TcpListener,
        script: impl Fn(&mut Peer) + Send + Sync + 'static,
    ) -> Self {
        let origin =
            Self { address: listener.local_addr().expect("bound"), shared: Arc::new(Shared::default()) };
        let shared = Arc::clone(&origin.shared);
        let script = Arc::new(script);
        thread::spawn(move || {
            while let Some(mut peer) = Peer::accept(&listener, &shared) {
                let script = Arc::clone(&script);
                thread::spawn(move || {
                    script(&mut peer);
                    peer.end();
                });
            }
        });
        origin
    }

    /// Gives the same answer to every request.
    pub(crate) fn answering(answer: impl Into<String>) -> Self {
        let answer = answer.into();
        Self::start(move |peer| while peer.request().is_some_and(|_| peer.wire.send(&answer)) {})
    }

    /// Answers every request with its target.
    pub(crate) fn naming_targets() -> Self {
        Self::start(|peer| {
            while let Some(request) = peer.request() {
                let target = request.head.target();
                peer.wire
                    .send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len()));
            }
        })
    }

    /// An address where nobody listens, nor will as long as this process runs.
    pub(crate) fn nowhere() -> SocketAddr {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
        let address = socket.local_addr().expect("bound");
        // A port that is taken is given to nobody else.
        Box::leak(Box::new(socket));
        address.as_socket().expect("an address of the internet")
    }

    /// What came in so far. A copy, so that nobody waits for a test that looks at it.
    pub(crate) fn seen(&self) -> Seen {
        self.shared.seen().clone()
    }

    /// Waits until what came in `is_enough`.
    #[track_caller]
    pub(crate) fn wait_until(&self, is_enough: impl Fn(&Seen) -> bool) {
        let seen = self.shared.seen();
        let waited = self.shared.changed.wait_timeout_while(seen, PATIENCE, |seen| !is_enough(seen));
        let (seen, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!timeout.timed_out(), "the origin saw only {seen:?}");
    }

    /// The only request that came.
    #[track_caller]
    pub(crate) fn only_request(&self) -> Message {
        let seen = self.seen();
        let [(_, request)] = &seen.requests[..] else { panic!("not one request: {seen:?}") };
        request.clone()
    }

    /// Targets of all requests, in order.
    pub(crate) fn targets(&self) -> Vec<String> {
        self.shared.seen().requests.iter().map(|(_, request)| request.head.target().to_owned()).collect()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let mut seen = self.shared.seen();
        seen.is_over = true;
        for stream in seen.open.drain(..).filter_map(|stream| stream.upgrade()) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        drop(seen);
        // Wakes the accepting thread, which then sees that it is over.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        // A test that failed while it looked at the log poisons it; what is in there is still true.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen());
        self.changed.notify_all();
    }
}

/// One accepted connection, as its script sees it.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Its place among the origin's connections, from 0.
    pub(crate) number: usize,
    /// The connection itself, for answers of any shape.
    pub(crate) wire: Connection,
    shared: Arc<Shared>,
}

impl Peer {
    fn accept(listener: &TcpListener, shared: &Arc<Shared>) -> Option<Self> {
        let stream = Arc::new(listener.accept().ok()?.0);
        let mut number = 0;
        let mut is_over = false;
        shared.note(|seen| {
            is_over = seen.is_over;
            if !is_over {
                number = seen.connections;
                seen.connections += 1;
                seen.open.push(Arc::downgrade(&stream));
            }
        });
        let peer = Self { number, wire: Connection::over(stream), shared: Arc::clone(shared) };
        (!is_over).then_some(peer)
    }

    /// Makes the connection a private one; false when the other side does not agree.
    pub(crate) fn agree(&mut self, private: impl Into<rustls::Connection>) -> bool {
        self.wire.agree_in_place(private).is_ok()
    }

    /// Reads a request to its end and notes it; `None` when the connection ends before that. A request cut short
    /// is noted too.
    pub(crate) fn request(&mut self) -> Option<Message> {
        let request = self.wire.request()?;
        let is_complete = request.end.is_complete;
        self.shared.note(|seen| seen.requests.push((self.number, request.clone())));
        is_complete.then_some(request)
    }

    /// Reads a request's head and notes it as a request without its body.
    pub(crate) fn head(&mut self) -> Option<Head> {
        let head = self.wire.head()?;
        let request = Message { head: head.clone(), ..Message::default() };
        self.shared.note(|seen| seen.requests.push((self.number, request)));
        Some(head)
    }

    /// Closes the connection and only then notes that it has ended.
    fn end(self) {
        let Self { wire, shared, .. } = self;
        drop(wire);
        shared.note(|seen| seen.ended += 1);
    }
}
