//! What is there to put load on when no server is at hand? An HTTP/1.1 origin that says the same to everybody, or a
//! TCP server that gives back, swallows or pours out.
//!
//! Never looks at a body, nor at a target unless it counts ids, and never does more for a request than parse it and send
//! what was prepared.

pub(crate) mod identity;
mod ids;
mod ids_file;
pub(crate) mod listen;
pub(crate) mod stall;
mod tcp;
mod websocket;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use std::io::IoSlice;

use anyhow::{Context, Result, anyhow};
use arrayvec::ArrayVec;
use proto::http1::answer::{AnswerPlan, CONTINUE, error_answer};
use proto::http1::chunked::ChunkedScanner;
use proto::http1::framing::{Delivery, RequestFraming};
use proto::http1::head::{FIELDS_MAX, Limits, Method, Parsed, RequestHead, parse_request};
use proto::http1::persist::{ConnectionOption, Persistence, connection_option, decide_downstream};
use runtime::{Chunk, Core, CoreConfig, Handle, Stream};
use rustls::ServerConfig;

use crate::cli::{OriginArgs, ServeArg};
use crate::connection::transport::Transport;
use crate::origin::identity::server_config;
use crate::origin::ids::Ids;
use crate::origin::ids_file::IdsFile;
use crate::origin::listen::ListenAddress;
use crate::origin::stall::Stall;
use crate::protocol::http::ids::{ID_FIELD, REPORT_PATH, RunId, parse_id};
use crate::protocol::http::response::discard_chunks;
use crate::threads::{allow_descriptors, place, settle_driver, stop_on_signals};
use crate::websocket::handshake::{Wish, read_wish};

/// As much as the parser takes at most.
const LIMITS: Limits = Limits {
    head_bytes_max: u16::MAX as u32,
    fields_max: FIELDS_MAX as u16,
    target_bytes_max: u16::MAX as u32,
    is_secured: false,
};
/// Length of the accept queue: what the kernel allows by default.
const BACKLOG: u32 = 4_096;
/// Connections expected at most; the limit of open files is raised that far if it can be.
const CONNECTIONS: u64 = 16_384;
/// Longest silence on a connection, within a request or between two.
const IDLE_MAX: Duration = Duration::from_secs(300);
/// Longest handshake of a private connection.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How often the main task looks for a signal.
const GLANCE: Duration = Duration::from_millis(50);
/// Before accepting again when the kernel had no descriptor or memory left.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
/// The address cannot be listened on, or a thread not be started.
pub(crate) fn run(args: &OriginArgs) -> Result<ExitCode> {
    // An origin with fewer connections is better than none.
    let _ = allow_descriptors(CONNECTIONS);
    let placement = place(args.threads);
    let driver = settle_driver(args.driver);
    let files = args.cert.as_ref().zip(args.key.as_ref());
    let tls = args.tls.then(|| server_config(files, args.listen.ip())).transpose()?;
    let (listeners, listening) = args
        .listen
        .bind(BACKLOG, placement.len())
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let scheme = match (args.serve, &tls) {
        (ServeArg::Http, None) => "http",
        (ServeArg::Http, Some(_)) => "https",
        (ServeArg::Echo | ServeArg::Sink | ServeArg::Source, _) => "tcp",
    };
    let account = match &args.ids_file {
        Some(path) => {
            let file = IdsFile::open(path).with_context(|| format!("cannot write to {}", path.display()))?;
            Some(Account::File(file))
        }
        None => args.ids.then(|| Account::Memory(Ids::new(placement.len()))),
    };
    let service = Arc::new(Service {
        response: Response::new(args.body as usize),
        serve: args.serve,
        delay: args.delay,
        stall: args.stall,
        start: Instant::now(),
        account,
        tls,
    });
    let stop = stop_on_signals()?;
    let mut threads = Vec::with_capacity(placement.len());
    for (index, (listener, cpu)) in listeners.into_iter().zip(placement).enumerate() {
        let config = CoreConfig { cpu, ..CoreConfig::new(index, driver)? };
        let (service, stop) = (service.clone(), stop.clone());
        let thread = thread::Builder::new().name(format!("origin-{index}"));
        threads.push(thread.spawn(move || {
            runtime::run(
                config,
                move |core| async move { serve(&core, index, listener, service, &stop).await },
            )
        })?);
    }
    match &listening.address {
        ListenAddress::Tcp(address) => println!("origin listening on {scheme}://{address}"),
        path @ ListenAddress::Unix(_) => println!("origin listening on {path} ({scheme})"),
    }
    for thread in threads {
        thread.join().map_err(|_| anyhow!("a thread panicked"))??;
    }
    Ok(ExitCode::SUCCESS)
}

async fn serve(core: &Core, thread: usize, listener: Handle, service: Arc<Service>, stop: &AtomicBool) {
    core.spawn(accept(core.clone(), thread, listener, service));
    while !stop.load(Ordering::Relaxed) {
        core.sleep(GLANCE).await;
    }
}

async fn accept(core: Core, thread: usize, listener: Handle, service: Arc<Service>) {
    let listener = match core.adopt_listener(listener) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("loadgen: cannot watch the listening socket: {error}");
            return;
        }
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => core.spawn(Connection::serve(core.clone(), thread, stream, service.clone())),
            Err(_) => core.sleep(PAUSE).await,
        }
    }
}

/// What every connection serves.
struct Service {
    serve: ServeArg,
    response: Response,
    delay: Duration,
    stall: Option<Stall>,
    /// From which the stalls are counted, the same for all threads.
    start: Instant,
    account: Option<Account>,
    /// Who it is on private connections.
    tls: Option<Arc<ServerConfig>>,
}

impl Service {
    /// Lets the delay pass, and the stall if there is one, before what could be sent now.
    async fn hold(&self, core: &Core) {
        if !self.delay.is_zero() {
            core.sleep(self.delay).await;
        }
        let stalled = self.stall.map_or(Duration::ZERO, |stall| stall.wait(self.start.elapsed()));
        if !stalled.is_zero() {
            core.sleep(stalled).await;
        }
    }
}

/// Where ids are counted.
enum Account {
    /// As long as this process lives.
    Memory(Ids),
    File(IdsFile),
}

impl Account {
    fn count(&self, thread: usize, id: &[u8], (run, number): (RunId, u64)) {
        match self {
            Self::Memory(ids) => ids.count(thread, run, number),
            Self::File(file) => file.count(id),
        }
    }

    /// The answer to how often each id of `run` came; empty, which is no answer, if that cannot be told.
    fn report(&self, run: RunId) -> String {
        let tally = match self {
            Self::Memory(ids) => ids.tally(run),
            Self::File(file) => match file.tally(run) {
                Ok(tally) => tally,
                Err(error) => {
                    eprintln!("loadgen: cannot read the ids back: {error}");
                    return String::new();
                }
            },
        };
        serde_json::to_string(&tally).unwrap_or_default()
    }
}

/// How every answer begins.
const STATUS_LINE: &str = "HTTP/1.1 200 OK\r\n";

/// What an answer has that others have not.
enum Own {
    Nothing,
    /// A field line: the id of the request.
    Id(Vec<u8>),
    /// Another body: how often each id of a run came.
    Report(String),
}

/// The one response, in the three forms its connection can ask for.
struct Response {
    /// Head and body, for a connection that stays as HTTP/1.1 does by itself.
    plain: Vec<u8>,
    plain_head_bytes: usize,
    close_head: Vec<u8>,
    keep_alive_head: Vec<u8>,
}

impl Response {
    fn new(body_bytes: usize) -> Self {
        let head = |option: &str| {
            format!("{STATUS_LINE}Content-Type: text/plain\r\n{option}Content-Length: {body_bytes}\r\n\r\n")
                .into_bytes()
        };
        let mut plain = head("");
        let plain_head_bytes = plain.len();
        plain.resize(plain_head_bytes + body_bytes, b'x');
        Self {
            plain,
            plain_head_bytes,
            close_head: head("Connection: close\r\n"),
            keep_alive_head: head("Connection: keep-alive\r\n"),
        }
    }

    /// Head and body as they go out. The common form is one piece.
    fn parts(&self, option: Option<ConnectionOption>, method: Method) -> [&[u8]; 2] {
        let (head, body) = self.plain.split_at(self.plain_head_bytes);
        let body = if method == Method::Head { &[] } else { body };
        match option {
            None if method == Method::Head => [head, &[]],
            None => [&self.plain, &[]],
            Some(ConnectionOption::Close) => [&self.close_head, body],
            Some(ConnectionOption::KeepAlive) => [&self.keep_alive_head, body],
        }
    }
}

/// One client's connection.
struct Connection {
    core: Core,
    thread: usize,
    stream: Transport,
    service: Arc<Service>,
}

impl Connection {
    async fn serve(core: Core, thread: usize, stream: Stream, service: Arc<Service>) {
        let stream = match &service.tls {
            None => Transport::Plain(stream),
            Some(config) => match tls::accept(stream, config, core.now() + HANDSHAKE_MAX).await {
                Ok(stream) => Transport::Tls(Box::new(stream)),
                Err(_) => return, // the client knows best
            },
        };
        let connection = Self { core, thread, stream, service };
        let Self { core, stream, service, .. } = &connection;
        // A client that breaks off is its own affair.
        let _ = match connection.service.serve {
            ServeArg::Http => connection.answer_all().await,
            ServeArg::Echo => tcp::echo(core, stream, service).await,
            ServeArg::Sink => tcp::sink(core, stream).await,
            ServeArg::Source => tcp::source(core, stream, service).await,
        };
    }

    async fn answer_all(&self) -> io::Result<()> {
        let mut head = Box::new(RequestHead::new());
        let mut rest: Option<Chunk> = None;
        loop {
            let Some(mut chunk) = self.read_head(rest.take(), &mut head).await? else { return Ok(()) };
            let own = self
                .service
                .account
                .as_ref()
                .map_or(Own::Nothing, |account| self.note_id(account, &chunk, &head));
            let wish = if head.upgrade { read_wish(&chunk, &head) } else { Wish::None };
            chunk.consume(head.head_bytes as usize);
            match wish {
                Wish::None => {}
                Wish::Granted(answer) => {
                    self.stream.send_all(&answer).await?;
                    let behind = (!chunk.is_empty()).then_some(chunk);
                    return websocket::echo(&self.core, &self.stream, &self.service, behind).await;
                }
                Wish::Refused(answer) => {
                    self.stream.send_all(&answer).await?;
                    return self.stream.shutdown_write().await;
                }
            }
            let is_whole = chunk.len() as u64 >= body_bytes_min(head.framing);
            if head.expect_continue && !is_whole {
                self.stream.send_all(CONTINUE).await?;
            }
            rest = self.drain(head.framing, chunk).await?;
            self.service.hold(&self.core).await;
            let persistence = decide_downstream(&head, Delivery::Length(0));
            let option = connection_option(head.version, persistence);
            let parts = self.service.response.parts(option, head.method);
            match own {
                Own::Nothing => self.send(parts).await?,
                Own::Id(line) => {
                    // The answer's first line, the id, and the rest as it was prepared.
                    let (status_line, rest) = parts[0].split_at(STATUS_LINE.len());
                    self.send([&[status_line, &line, rest].concat(), parts[1]]).await?;
                }
                Own::Report(body) => {
                    let head = format!(
                        "{STATUS_LINE}Content-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                        body.len()
                    );
                    self.send([head.as_bytes(), body.as_bytes()]).await?;
                    return self.stream.shutdown_write().await;
                }
            }
            if persistence == Persistence::Close {
                return self.stream.shutdown_write().await;
            }
        }
    }

    /// Counts the id of a request, or finds that it asks how often each came.
    fn note_id(&self, account: &Account, bytes: &[u8], head: &RequestHead) -> Own {
        let run = head.path_and_query.of(bytes).strip_prefix(REPORT_PATH.as_bytes());
        if let Some(run) = run.and_then(|run| std::str::from_utf8(run).ok()?.parse().ok()) {
            return Own::Report(account.report(run));
        }
        let is_id = |name: &[u8]| name.eq_ignore_ascii_case(ID_FIELD.as_bytes());
        let Some(field) = head.fields.iter().find(|field| is_id(field.name.of(bytes))) else {
            return Own::Nothing;
        };
        let id = field.value.of(bytes);
        let Some(parsed) = parse_id(id) else { return Own::Nothing };
        account.count(self.thread, id, parsed);
        Own::Id([ID_FIELD.as_bytes(), b": ", id, b"\r\n"].concat())
    }

    /// Reads a request's head; `None` when the client is done, or sent what is none.
    async fn read_head(&self, rest: Option<Chunk>, head: &mut RequestHead) -> io::Result<Option<Chunk>> {
        let mut chunk = match rest {
            Some(chunk) => chunk,
            None => match self.receive().await? {
                Some(chunk) => chunk,
                None => return Ok(None),
            },
        };
        let mut examined = 0;
        loop {
            match parse_request(&chunk, examined, &LIMITS, head) {
                Ok(Parsed::Complete) if head.method == Method::Connect => return self.refuse(405).await,
                Ok(Parsed::Complete) => return Ok(Some(chunk)),
                Ok(Parsed::Incomplete) => {}
                Err(rejected) => return self.refuse(rejected.status()).await,
            }
            examined = chunk.len();
            self.stream.set_deadline(self.core.now() + IDLE_MAX);
            let begun = chunk.to_vec();
            drop(chunk);
            let Some(whole) = self.stream.recv_behind(&begun).await? else { return Ok(None) };
            chunk = whole;
        }
    }

    async fn refuse(&self, status: u16) -> io::Result<Option<Chunk>> {
        let mut answer = ArrayVec::new();
        let plan = AnswerPlan { keep_alive: false, head_only: false, retry_after_seconds: None, date: None };
        error_answer(status, &plan, &mut answer);
        self.stream.send_all(&answer).await?;
        self.stream.shutdown_write().await?;
        Ok(None)
    }

    /// Reads a request's body and forgets it; returns what came behind it.
    async fn drain(&self, framing: RequestFraming, chunk: Chunk) -> io::Result<Option<Chunk>> {
        let mut left = body_bytes_min(framing);
        let mut scanner = ChunkedScanner::new();
        let mut chunk = Some(chunk);
        loop {
            if let Some(bytes) = &mut chunk {
                let consumed = match framing {
                    RequestFraming::Chunked => discard_chunks(&mut scanner, bytes)
                        .map_err(|rejected| io::Error::new(io::ErrorKind::InvalidData, rejected.name()))?,
                    RequestFraming::None | RequestFraming::Length(_) => left.min(bytes.len() as u64) as usize,
                };
                left -= if framing == RequestFraming::Chunked { 0 } else { consumed as u64 };
                bytes.consume(consumed);
            }
            let is_done = match framing {
                RequestFraming::Chunked => scanner.is_done(),
                RequestFraming::None | RequestFraming::Length(_) => left == 0,
            };
            if is_done {
                return Ok(chunk.filter(|bytes| !bytes.is_empty()));
            }
            drop(chunk.take());
            chunk = self.receive().await?;
            if chunk.is_none() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn receive(&self) -> io::Result<Option<Chunk>> {
        self.stream.set_deadline(self.core.now() + IDLE_MAX);
        self.stream.recv().await
    }

    async fn send(&self, [head, body]: [&[u8]; 2]) -> io::Result<()> {
        let slices = [IoSlice::new(head), IoSlice::new(body)];
        let slices = if body.is_empty() { &slices[..1] } else { &slices };
        let sent = match self.stream.try_send(slices) {
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        let head_sent = sent.min(head.len());
        self.stream.send_all(&head[head_sent..]).await?;
        self.stream.send_all(&body[sent - head_sent..]).await
    }
}

/// Bytes of the body that are known to follow.
fn body_bytes_min(framing: RequestFraming) -> u64 {
    match framing {
        RequestFraming::None => 0,
        RequestFraming::Length(bytes) => bytes,
        RequestFraming::Chunked => 1,
    }
}
