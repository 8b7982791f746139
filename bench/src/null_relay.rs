//! What does the kernel alone charge for passing bytes on? The floor that every candidate is measured against.
//!
//! It never looks at a byte: one thread, one edge-triggered epoll loop, and for each client connection an upstream
//! connection of its own. It never waits before it has tried: `recv` first, the loop only after `EAGAIN`.
//!
//! Usage: `null_relay LISTEN UPSTREAM`, both `ADDRESS:PORT`.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_reuseaddr, set_tcp_nodelay};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, accept_with, bind, connect,
    getsockname, ipproto, listen, recv, send, shutdown, socket_with,
};

/// Bytes taken by one `recv`: a head and a 16 KiB body fit in one.
const BUFFER_BYTES: usize = 64 * 1024;
/// Events taken by one `epoll_wait`.
const EVENTS_MAX: usize = 256;
/// Length of the accept queue; the largest scenario opens 256 connections at once.
const BACKLOG: i32 = 1024;
/// The listener's token. Pair `p` has `2p` for its client and `2p + 1` for its upstream.
const LISTENER_TOKEN: u64 = u64::MAX;
const SOCKET_FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen_addr, upstream_addr] = arguments.as_slice() else {
        eprintln!("usage: null_relay LISTEN UPSTREAM");
        return ExitCode::from(2);
    };
    match run(listen_addr, upstream_addr) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("null_relay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(listen_addr: &str, upstream_addr: &str) -> anyhow::Result<std::convert::Infallible> {
    let listen_addr: SocketAddr =
        listen_addr.parse().with_context(|| format!("bad address {listen_addr}"))?;
    let upstream: SocketAddr =
        upstream_addr.parse().with_context(|| format!("bad address {upstream_addr}"))?;
    let listener = open_listener(listen_addr).with_context(|| format!("cannot listen on {listen_addr}"))?;
    let bound = SocketAddr::try_from(getsockname(&listener)?).context("no address of the internet")?;
    println!("null relay listening on {bound}");
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER_TOKEN), EventFlags::IN)?;

    let mut relay =
        Relay { epoll, upstream, pairs: Vec::new(), free: Vec::new(), buffer: vec![0; BUFFER_BYTES] };
    let mut events = Vec::with_capacity(EVENTS_MAX);
    loop {
        match epoll::wait(&relay.epoll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => bail!("epoll_wait: {errno}"),
        }
        for event in events.drain(..) {
            match event.data.u64() {
                LISTENER_TOKEN => relay.accept_all(&listener),
                token => relay.handle_event(token, event.flags),
            }
        }
    }
}

fn open_listener(addr: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let listener = open_socket(addr)?;
    set_socket_reuseaddr(&listener, true)?;
    // Accepted sockets inherit it: one system call less for each connection.
    set_tcp_nodelay(&listener, true)?;
    bind(&listener, &addr)?;
    listen(&listener, BACKLOG)?;
    Ok(listener)
}

fn open_socket(addr: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    socket_with(family, SocketType::STREAM, SOCKET_FLAGS, Some(ipproto::TCP))
}

/// A client connection and the upstream connection that serves it alone.
struct Pair {
    /// Client, then upstream.
    sockets: [OwnedFd; 2],
    /// `flows[s]` carries what is read from `sockets[s]` to the other one.
    flows: [Flow; 2],
}

/// One direction of a pair.
#[derive(Default)]
struct Flow {
    /// Bytes read and not yet taken by the destination, at most one buffer. Nothing more is read while some are here.
    pending: Vec<u8>,
    /// The source sent its FIN.
    ended: bool,
    /// The FIN was passed on.
    finished: bool,
}

/// Why a pair is closed.
struct Broken;

struct Relay {
    epoll: OwnedFd,
    upstream: SocketAddr,
    pairs: Vec<Option<Pair>>,
    free: Vec<usize>,
    /// Shared by all pairs: it is empty between two events.
    buffer: Vec<u8>,
}

impl Relay {
    fn accept_all(&mut self, listener: &OwnedFd) {
        // The listener is level-triggered: a failed accept is tried again at the next turn.
        while let Ok(client) = accept_with(listener, SOCKET_FLAGS) {
            if let Err(errno) = self.open_pair(client) {
                eprintln!("null_relay: connection dropped: {errno}");
            }
        }
    }

    fn open_pair(&mut self, client: OwnedFd) -> rustix::io::Result<()> {
        let upstream = open_socket(self.upstream)?;
        set_tcp_nodelay(&upstream, true)?;
        match connect(&upstream, &self.upstream) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(errno) => return Err(errno),
        }
        let index = self.free.last().copied().unwrap_or(self.pairs.len());
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        let sockets = [client, upstream];
        for (socket, token) in sockets.iter().zip(2 * index as u64..) {
            epoll::add(&self.epoll, socket, EventData::new_u64(token), flags)?;
        }
        let pair = Some(Pair { sockets, flows: Default::default() });
        match self.free.pop() {
            Some(index) => self.pairs[index] = pair,
            None => self.pairs.push(pair),
        }
        Ok(())
    }

    /// An event may be stale (its pair closed earlier in this batch, even replaced): then it finds nothing to do.
    fn handle_event(&mut self, token: u64, flags: EventFlags) {
        let index = usize::try_from(token / 2).expect("a token comes from a slab index");
        let side = usize::from(token % 2 == 1);
        let Some(pair) = &mut self.pairs[index] else { return };

        let hang_up = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        let mut outcome = Ok(());
        if hang_up || flags.contains(EventFlags::IN) {
            outcome = pair.pump(side, hang_up, &mut self.buffer);
        }
        let waiting = !pair.flows[1 - side].pending.is_empty();
        if outcome.is_ok() && waiting && flags.contains(EventFlags::OUT) {
            // What waited for this socket goes out; its source may have more, and its edge was spent.
            outcome = pair.pump(1 - side, true, &mut self.buffer);
        }
        if outcome.is_err() || pair.flows.iter().all(|flow| flow.finished) {
            self.pairs[index] = None;
            self.free.push(index);
        }
    }
}

impl Pair {
    /// Moves bytes from `sockets[from]` to the other socket until the source has none or the destination is full.
    /// `to_the_end` reads until `EAGAIN`; otherwise a short read counts as drained and saves a system call.
    fn pump(&mut self, from: usize, to_the_end: bool, buffer: &mut [u8]) -> Result<(), Broken> {
        let (source, destination) = (&self.sockets[from], &self.sockets[1 - from]);
        let flow = &mut self.flows[from];
        if !flow.pending.is_empty() {
            let sent = try_send(destination, &flow.pending)?;
            flow.pending.drain(..sent);
        }
        while flow.pending.is_empty() && !flow.ended {
            let received = match recv(source, &mut *buffer, RecvFlags::empty()) {
                Ok((0, _)) => {
                    flow.ended = true;
                    break;
                }
                Ok((received, _)) => received,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                Err(_) => return Err(Broken),
            };
            let sent = try_send(destination, &buffer[..received])?;
            flow.pending.extend_from_slice(&buffer[sent..received]);
            if received < buffer.len() && !to_the_end {
                break;
            }
        }
        if flow.ended && flow.pending.is_empty() && !flow.finished {
            flow.finished = true;
            // The other side may be gone already; its own event says so.
            let _ = shutdown(destination, Shutdown::Write);
        }
        Ok(())
    }
}

/// Sends as much as the socket takes now. Zero also means that it is not connected yet.
fn try_send(socket: &OwnedFd, bytes: &[u8]) -> Result<usize, Broken> {
    let mut sent = 0;
    while sent < bytes.len() {
        match send(socket, &bytes[sent..], SendFlags::NOSIGNAL) {
            Ok(count) => sent += count,
            Err(Errno::AGAIN) => break,
            Err(Errno::INTR) => {}
            Err(_) => return Err(Broken),
        }
    }
    Ok(sent)
}
