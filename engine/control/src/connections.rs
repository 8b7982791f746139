//! How are admin connections served so that no client can hold up another? A bounded number, each for a bounded time.
//!
//! Never knows what is asked; see [`crate::admin`].

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;

use crate::Shared;
use crate::catalogue::RESPONSE_CLASSES;
use crate::security::Peer;

/// Far more than people and collectors need; a flood waits in the kernel's queue.
pub(crate) const CONNECTIONS_MAX: usize = 64;

/// From accept to the last byte of the answer. A connection carries one request, so this bounds that too: a
/// client that sends or reads too slowly is cut off.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest request head; bodies have a bound of their own, see [`crate::admin`].
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Pause after a failed accept, mostly for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What has been served so far.
#[derive(Debug, Default)]
pub(crate) struct Served {
    open: AtomicU64,
    /// By class of status.
    answers: [AtomicU64; RESPONSE_CLASSES.len()],
}

impl Served {
    /// Connections that are open now.
    pub(crate) fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Answers by class of status.
    pub(crate) fn answers(&self) -> impl Iterator<Item = (&'static str, u64)> {
        RESPONSE_CLASSES.into_iter().zip(self.answers.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    fn count_answer(&self, status: u16) {
        if let Some(count) = self.answers.get(usize::from(status / 100).wrapping_sub(1)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// How long a connection may take, of which a handler may grant more to what is known to take its time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patience(Arc<AtomicU64>);

impl Patience {
    /// Lets the connection take so much longer.
    pub(crate) fn grant(&self, more: Duration) {
        self.0.fetch_add(u64::try_from(more.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    async fn is_over(&self) {
        tokio::time::sleep(CONNECTION_TIMEOUT).await;
        loop {
            match self.0.swap(0, Ordering::Relaxed) {
                0 => return,
                more => tokio::time::sleep(Duration::from_millis(more)).await,
            }
        }
    }
}

/// Makes a bound listener tokio's. Must be called within its runtime.
pub(crate) fn adopt(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Accepts and serves for as long as it is polled. What has begun goes on.
pub(crate) async fn serve(listener: TcpListener, router: Router, shared: Arc<Shared>) {
    let places = Arc::clone(&shared.admin_places);
    let mut http = http1::Builder::new();
    http.keep_alive(false).max_buf_size(HEAD_BYTES_MAX);
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // The semaphore is never closed. Who waits here holds none: at the end of the process a place taken is an answer that is due.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let router = TowerToHyperService::new(router.clone());
        let counted = Arc::clone(&shared);
        let patience = Patience::default();
        let granted = patience.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            request.extensions_mut().insert(patience.clone());
            let (answer, counted) = (router.call(request), Arc::clone(&counted));
            async move {
                let answer = answer.await;
                if let Ok(answer) = &answer {
                    counted.admin_served.count_answer(answer.status().as_u16());
                }
                answer
            }
        });
        let connection = http.serve_connection(TokioIo::new(stream), service);
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            shared.admin_served.open.fetch_add(1, Ordering::Relaxed);
            // A client's mistake or absence is its own; both end here.
            tokio::select! {
                _ = connection => {}
                () = granted.is_over() => {}
            }
            shared.admin_served.open.fetch_sub(1, Ordering::Relaxed);
            drop(place);
        });
    }
}
