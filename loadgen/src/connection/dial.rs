//! How are connections opened without flooding the server's accept queue?
//!
//! Never more than a bounded number at a time on one thread, and never in a tight loop against a server that refuses.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::task::{Poll, Waker};
use std::time::Duration;

use runtime::{Core, Instant, Stream};
use rustls::{CertificateError, Error};
use tls::HandshakeError;

use crate::connection::handshakes::Handshakes;
use crate::connection::transport::Transport;
use crate::connection::trust::Trust;
use crate::counts::Counts;
use crate::failure::Failure;

/// Connection attempts of one thread in flight: a quarter of the shortest accept queue in common use (128).
pub(crate) const ATTEMPTS_MAX: usize = 32;
/// Pause after the first failed attempt of a row; each further one doubles it.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// A server that comes back is found again this soon.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Where connections lead, and whether they are private.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    pub(crate) address: Address,
    pub(crate) trust: Option<Trust>,
}

/// Where somebody listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(path) => path.display().fmt(formatter),
        }
    }
}

/// Opens one thread's connections.
pub(crate) struct Dialer {
    destination: Destination,
    timeout: Duration,
    gate: Gate,
    handshakes: RefCell<Handshakes>,
}

impl Dialer {
    pub(crate) fn new(destination: &Destination, timeout: Duration) -> Self {
        let destination = Destination {
            address: destination.address.clone(),
            trust: destination.trust.as_ref().map(Trust::for_thread),
        };
        Self { destination, timeout, gate: Gate::new(ATTEMPTS_MAX), handshakes: RefCell::default() }
    }

    /// Opens a connection, without waiting in line, without a handshake, and without an account of it.
    pub(crate) async fn attempt(&self, core: &Core) -> io::Result<Stream> {
        let deadline = core.now() + self.timeout;
        match &self.destination.address {
            Address::Tcp(address) => core.connect(*address, deadline).await,
            Address::Unix(path) => core.connect_unix(path, deadline).await,
        }
    }

    /// Opens a connection, private where that is asked for, and counts it or the failure. `None` is a failure.
    pub(crate) async fn connect(&self, core: &Core, counts: &Counts) -> Option<Transport> {
        let _permit = self.gate.pass().await;
        let connected = self.open(core, core.now() + self.timeout).await;
        match connected {
            Ok(transport) => {
                counts.connects.add(1);
                Some(transport)
            }
            Err((kind, detail)) => {
                counts.fail(kind, || format!("{}: {detail}", self.destination.address));
                None
            }
        }
    }

    async fn open(&self, core: &Core, deadline: Instant) -> Result<Transport, (Failure, String)> {
        let stream =
            self.attempt(core).await.map_err(|error| (Failure::of_connect(&error), error.to_string()))?;
        let Some(trust) = &self.destination.trust else { return Ok(Transport::Plain(stream)) };
        let began = core.now();
        // On the heap: a handshake is a large future, and every connection would have room for it as long as it lives.
        let agreeing = Box::pin(tls::connect(stream, &trust.config, trust.name.clone(), deadline));
        let stream = agreeing.await.map_err(|error| (of_handshake(&error), explain(&error)))?;
        self.handshakes.borrow_mut().record(&stream, core.now().since(began));
        Ok(Transport::Tls(Box::new(stream)))
    }

    /// Hands out how private connections began.
    pub(crate) fn take_handshakes(&self) -> Handshakes {
        self.handshakes.take()
    }

    /// Opens a connection as `open` does, however often that takes, pausing longer after each failure. `None` once
    /// `is_over` says so.
    pub(crate) async fn patiently<T>(
        &self,
        core: &Core,
        open: impl AsyncFn() -> Option<T>,
        is_over: impl Fn() -> bool,
    ) -> Option<T> {
        let mut pause = PAUSE_MIN;
        while !is_over() {
            if let Some(opened) = open().await {
                return Some(opened);
            }
            // Up to half of it at random, so that the connections do not come back in step.
            core.sleep_until(core.now() + pause.mul_f64(1.0 - (core.random() >> 33) as f64 / 2_f64.powi(32)))
                .await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        None
    }
}

fn of_handshake(error: &HandshakeError) -> Failure {
    match error {
        HandshakeError::TimedOut => Failure::ConnectTimeout,
        HandshakeError::Ended
        | HandshakeError::NotTls(_)
        | HandshakeError::NameUnknown
        | HandshakeError::VersionTooOld
        | HandshakeError::Refused(_)
        | HandshakeError::Io(_) => Failure::Tls,
    }
}

/// What went wrong, and what to do where that is known.
fn explain(error: &HandshakeError) -> String {
    let advice = match error {
        HandshakeError::Refused(Error::InvalidCertificate(reason)) => match reason {
            CertificateError::UnknownIssuer => "; --ca FILE trusts its issuer, --insecure trusts anybody",
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "; --sni NAME asks for another name"
            }
            _ => "; --insecure trusts anybody",
        },
        HandshakeError::Refused(Error::InvalidMessage(_)) => "; does the server speak TLS there?",
        HandshakeError::Refused(_)
        | HandshakeError::Ended
        | HandshakeError::NotTls(_)
        | HandshakeError::NameUnknown
        | HandshakeError::VersionTooOld
        | HandshakeError::TimedOut
        | HandshakeError::Io(_) => "",
    };
    format!("{error}{advice}")
}

/// Lets a bounded number through; the others wait in line.
struct Gate {
    free: Cell<usize>,
    waiting: RefCell<VecDeque<Waker>>,
}

impl Gate {
    fn new(free: usize) -> Self {
        Self { free: Cell::new(free), waiting: RefCell::default() }
    }

    async fn pass(&self) -> Permit<'_> {
        poll_fn(|context| match self.free.get() {
            0 => {
                self.waiting.borrow_mut().push_back(context.waker().clone());
                Poll::Pending
            }
            free => {
                self.free.set(free - 1);
                Poll::Ready(Permit(self))
            }
        })
        .await
    }
}

/// A place within a [`Gate`]; leaves it when dropped.
struct Permit<'a>(&'a Gate);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.free.set(self.0.free.get() + 1);
        if let Some(next) = self.0.waiting.borrow_mut().pop_front() {
            next.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake};

    use super::*;

    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_gate_lets_the_next_in_when_one_leaves() {
        let woken = Arc::new(Woken(AtomicUsize::new(0)));
        let waker = Waker::from(woken.clone());
        let mut context = Context::from_waker(&waker);
        let gate = Gate::new(1);
        let Poll::Ready(first) = pin!(gate.pass()).poll(&mut context) else { panic!("the gate is shut") };
        let mut second = pin!(gate.pass());
        assert!(second.as_mut().poll(&mut context).is_pending());
        drop(first);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(second.as_mut().poll(&mut context).is_ready());
    }
}
