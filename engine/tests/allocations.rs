//! Does a request cost memory once the engine is warm? The data plane in this process, under an allocator that counts.
//!
//! Never more than one test: the count is that of the whole process, so client and endpoint keep to buffers on their
//! stacks, and nothing else may run beside them.

use std::alloc::System;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use config::Format;
use config::snapshot::{EndpointAddress, ListenerId};
use proxy::address::Address;
use proxy::generation::Generation;
use proxy::message::{CoreMessage, MAILBOX_CAPACITY};
use proxy::roster::keeper::Keeper;
use proxy::{CoreSetup, Fellow, serve};
use runtime::mailbox::{Sender, mailbox};
use runtime::net::listener::bind_per_core;
use runtime::{CoreConfig, DriverChoice, DriverKind};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// A cost of one request, or of one in a hundred, cannot hide in this many.
const REQUESTS_COUNTED: usize = 2_000;
/// How often the count may begin again. A list that comes to its greatest length by chance grows once and is done;
/// a cost of requests shows every time.
const COUNTS_MAX: usize = 5;
/// Client connections, all asking at the same time.
const CONNECTIONS: usize = 8;
/// How long anything may take that must happen.
const PATIENCE: Duration = Duration::from_secs(10);

const GET: &str =
    "GET /fhir/Patient/1?_format=json HTTP/1.1\r\nHost: example.test\r\nUser-Agent: test\r\n\r\n";
const POST: &str =
    "POST /fhir/Patient HTTP/1.1\r\nHost: example.test\r\nContent-Length: 16\r\n\r\n{\"id\": \"abcdef\"}";
const CHUNKED: &str = "POST /fhir/Patient HTTP/1.1\r\nHost: example.test\r\nTransfer-Encoding: chunked\r\n\r\n\
                       10\r\n{\"id\": \"abcdef\"}\r\n0\r\n\r\n";

/// Bytes in the body of every answer.
const BODY_BYTES: usize = 128;

#[test]
fn a_warm_engine_allocates_nothing_for_a_request() {
    let origin = start_origin();
    for driver in [DriverChoice::Epoll, DriverChoice::Uring] {
        let settled = driver.settle();
        if let Some(error) = &settled.uring_error {
            // Past the capture of a passing test's output: whoever reads the result must know.
            let _ = writeln!(io::stderr(), "io_uring is refused here, not tested: {error}");
            continue;
        }
        let gateway = Gateway::start(settled.kind, origin);
        let mut clients = Clients::connect(gateway.address);
        for (name, request) in [("GET", GET), ("POST", POST), ("chunked POST", CHUNKED)] {
            let what = format!("{name} on {}", settled.kind);
            assert_settles_at_none(&what, || clients.ask(request, REQUESTS_COUNTED / CONNECTIONS));
        }
        let what = format!("GET after a pause on {}", settled.kind);
        assert_settles_at_none(&what, || clients.ask_after_pauses());
        drop(clients);
        gateway.stop();
    }
    // The count would be worth nothing if nothing could raise it.
    let region = Region::new(ALLOCATOR);
    drop(std::hint::black_box(vec![0_u8; 1]));
    assert_eq!((region.change().allocations, region.change().deallocations), (1, 1));
}

/// Fails if every one of a few runs of `work` allocates, grows or frees something.
#[track_caller]
fn assert_settles_at_none(what: &str, mut work: impl FnMut()) {
    let mut counts = [(0, 0, 0); COUNTS_MAX];
    // Fills pools, caches and recycled memory.
    work();
    for count in &mut counts {
        let region = Region::new(ALLOCATOR);
        work();
        let change = region.change();
        *count = (change.allocations, change.reallocations, change.deallocations);
        if *count == (0, 0, 0) {
            return;
        }
    }
    panic!("{what}: allocations, reallocations, deallocations in {COUNTS_MAX} runs: {counts:?}");
}

/// One core of the data plane, without control.
struct Gateway {
    address: SocketAddr,
    core: JoinHandle<io::Result<()>>,
    mail: Sender<CoreMessage>,
}

impl Gateway {
    fn start(driver: DriverKind, origin: SocketAddr) -> Self {
        let text = format!(
            "[listener.web]\nbind = \"127.0.0.1:0\"\n\
             [channel.all]\nmatch = {{ path = \"^/fhir/\" }}\nupstream = \"app\"\n\
             [upstream.app]\nendpoints = [\"{origin}\"]\n"
        );
        let loaded = config::load_str("test.toml", &text, Format::Toml, &|_| None);
        let snapshot = Arc::new(loaded.expect("a configuration").snapshot);
        let config = CoreConfig::new(0, driver).expect("descriptors");
        let (mail, mailbox) = mailbox(&config.remote, MAILBOX_CAPACITY);
        let roster = Arc::clone(Keeper::new(&snapshot, address_of).roster());
        let counters = [Arc::clone(&config.counters)];
        let generation = Generation::first(Arc::clone(&snapshot), roster, Arc::default(), counters);
        let listener = &snapshot.listeners[0];
        let sockets = bind_per_core(listener.bind.tcp().expect("TCP"), listener.backlog, 1).expect("a port");
        let address = sockets[0].local_addr().expect("bound");
        let setup = CoreSetup {
            config,
            listeners: sockets.into_iter().map(|socket| (ListenerId(0), socket.into())).collect(),
            fellows: [Fellow { sender: mail.clone() }].into(),
            generation,
            mailbox,
        };
        let core = thread::spawn(move || serve(setup));
        Self { address, core, mail }
    }

    fn stop(self) {
        let drain = CoreMessage::Drain { timeout: PATIENCE, left: Default::default(), last: None };
        self.mail.send(drain).expect("room for one message");
        self.core.join().expect("no panic").expect("the core ends well");
    }
}

fn address_of(endpoint: &EndpointAddress) -> Address {
    match endpoint {
        EndpointAddress::Tcp(address) => (*address).into(),
        EndpointAddress::Unix(_) | EndpointAddress::Listener(_) => unreachable!("none is configured"),
    }
}

/// Client connections that stay open.
struct Clients([TcpStream; CONNECTIONS]);

impl Clients {
    fn connect(address: SocketAddr) -> Self {
        Self(std::array::from_fn(|_| {
            let stream = TcpStream::connect(address).expect("the listener accepts");
            stream.set_read_timeout(Some(PATIENCE)).expect("a read deadline");
            stream
        }))
    }

    /// Asks on all connections at once, then reads all answers; `times` times.
    fn ask(&mut self, request: &str, times: usize) {
        for _ in 0..times {
            for stream in &mut self.0 {
                stream.write_all(request.as_bytes()).expect("the connection is kept");
            }
            self.0.iter_mut().for_each(read_answer);
        }
    }

    /// Lets every connection, on both sides of the engine, become idle before it is used again.
    fn ask_after_pauses(&mut self) {
        for _ in 0..20 {
            // Long against the engine's busy wait and whatever else it does before it puts a connection aside.
            thread::sleep(Duration::from_millis(10));
            self.ask(GET, 1);
        }
    }
}

/// Reads one answer: a head, then a body of [`BODY_BYTES`].
fn read_answer(stream: &mut TcpStream) {
    let mut buffer = [0; 2048];
    let mut length = 0;
    loop {
        let received = match stream.read(&mut buffer[length..]) {
            // The kernel still cleans up after the ring that this thread tried out to see whether there may be one.
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            received => received.expect("an answer"),
        };
        assert!(received > 0, "closed in the middle of an answer");
        length += received;
        if let Some(at) = find(&buffer[..length], b"\r\n\r\n")
            && length == at + 4 + BODY_BYTES
        {
            break;
        }
    }
    assert!(buffer.starts_with(b"HTTP/1.1 200 "), "not the origin's answer");
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

/// Answers every request, of the three kinds that are sent here, with the same 200.
fn start_origin() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            thread::spawn(move || answer_all(stream));
        }
    });
    address
}

fn answer_all(mut stream: TcpStream) {
    let mut answer = [b'x'; 512];
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {BODY_BYTES}\r\n\r\n");
    answer[..head.len()].copy_from_slice(head.as_bytes());
    let answer = &answer[..head.len() + BODY_BYTES];
    let mut buffer = [0; 4096];
    let mut length = 0;
    while let Ok(received @ 1..) = stream.read(&mut buffer[length..]) {
        length += received;
        if is_complete(&buffer[..length]) {
            length = 0;
            if stream.write_all(answer).is_err() {
                break;
            }
        }
    }
}

/// Whether a request of this test has come to its end.
fn is_complete(request: &[u8]) -> bool {
    let Some(head_end) = find(request, b"\r\n\r\n") else { return false };
    let body = &request[head_end + 4..];
    if request.starts_with(b"GET") {
        true
    } else if find(&request[..head_end], b"chunked").is_some() {
        body.ends_with(b"0\r\n\r\n")
    } else {
        body.len() == 16
    }
}
