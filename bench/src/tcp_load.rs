//! What load is there for a relay of bytes? Both ends of it: something to connect to, and something that connects.
//!
//! It counts what came back and never how long it took. A connection that breaks, or bytes that are not those that were
//! sent, end it with an error.
//!
//! Usage: `tcp_load echo LISTEN`, `tcp_load source LISTEN`, `tcp_load ping TARGET CONNECTIONS MILLISECONDS`,
//! `tcp_load drain TARGET CONNECTIONS MILLISECONDS`. The last two print how many messages or MiB came back.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use runtime::net::listener::bind_per_core;
use runtime::{Core, CoreConfig, DriverKind, Instant, Stream};

/// Bytes of one message there and back.
const MESSAGE_BYTES: usize = 64;
/// Bytes that the source hands to the kernel at a time.
const PIECE_BYTES: usize = 64 * 1024;
/// Length of the accept queue.
const BACKLOG: u32 = 1024;
/// Longest wait for a connection, and for what comes over it.
const TIMEOUT: Duration = Duration::from_secs(10);

const USAGE: &str =
    "usage: tcp_load echo|source LISTEN\n       tcp_load ping|drain TARGET CONNECTIONS MILLISECONDS";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        ["echo", listen] => serve(listen, Service::Echo),
        ["source", listen] => serve(listen, Service::Source),
        ["ping", target, connections, milliseconds] => load(target, connections, milliseconds, Job::Ping),
        ["drain", target, connections, milliseconds] => load(target, connections, milliseconds, Job::Drain),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tcp_load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn address(text: &str) -> anyhow::Result<SocketAddr> {
    text.parse().with_context(|| format!("bad address {text}"))
}

// ---- something to connect to ----

/// What a connection to a server gets.
#[derive(Clone, Copy, Debug)]
enum Service {
    /// Every byte back.
    Echo,
    /// Zeros, for as long as they are taken.
    Source,
}

fn serve(listen: &str, service: Service) -> anyhow::Result<()> {
    let listen = address(listen)?;
    let listener = bind_per_core(listen, BACKLOG, 1)
        .with_context(|| format!("cannot listen on {listen}"))?
        .pop()
        .context("no socket to listen on")?;
    runtime::run(CoreConfig::new(0, DriverKind::Epoll)?, move |core| async move {
        let listener = core.adopt_listener(listener).expect("a new socket can be watched");
        while let Ok((stream, _)) = listener.accept().await {
            let task_core = core.clone();
            core.spawn(async move {
                stream.set_deadline(Instant::FAR_FUTURE);
                // A client that breaks off has its reasons.
                let _ = match service {
                    Service::Echo => echo(&stream).await,
                    Service::Source => pour(&task_core, &stream).await,
                };
            });
        }
    })?;
    bail!("no connection can be accepted any more")
}

async fn echo(stream: &Stream) -> io::Result<()> {
    while let Some(chunk) = stream.recv().await? {
        stream.send_all(&chunk).await?;
    }
    Ok(())
}

async fn pour(core: &Core, stream: &Stream) -> io::Result<()> {
    let piece = vec![0; PIECE_BYTES];
    loop {
        stream.send_all(&piece).await?;
        // A relay that reads as fast as this would otherwise keep all others waiting.
        core.yield_now().await;
    }
}

// ---- something that connects ----

/// What the connections of a load do.
#[derive(Clone, Copy, Debug)]
enum Job {
    /// A message, the same back, the next.
    Ping,
    /// Read.
    Drain,
}

/// What the connections of a load share.
struct Load {
    job: Job,
    target: SocketAddr,
    end: Cell<Instant>,
    /// Messages, or bytes.
    done: Cell<u64>,
    running: Cell<u32>,
    failure: RefCell<Option<io::Error>>,
}

fn load(target: &str, connections: &str, milliseconds: &str, job: Job) -> anyhow::Result<()> {
    let connections: u32 = connections.parse().with_context(|| format!("bad number {connections}"))?;
    let duration = milliseconds.parse().with_context(|| format!("bad number {milliseconds}"))?;
    let target = address(target)?;
    // What runs on the executor ends with it: the outcome must leave it before.
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    runtime::run(CoreConfig::new(0, DriverKind::Epoll)?, move |core| async move {
        let load = Rc::new(Load {
            job,
            target,
            end: Cell::new(core.now() + Duration::from_millis(duration)),
            done: Cell::new(0),
            running: Cell::new(connections),
            failure: RefCell::new(None),
        });
        for _ in 0..connections {
            core.spawn(drive(core.clone(), load.clone()));
        }
        while load.running.get() > 0 {
            core.sleep(Duration::from_millis(5)).await;
        }
        let outcome = match load.failure.take() {
            Some(error) => Err(error),
            None => Ok(load.done.get()),
        };
        let _ = sender.try_send(outcome);
    })?;
    let done = receiver.try_recv().map_err(|_| anyhow!("the load did not end"))??;
    println!("completed {}", if matches!(job, Job::Ping) { done } else { done >> 20 });
    Ok(())
}

async fn drive(core: Core, load: Rc<Load>) {
    let outcome = match load.job {
        Job::Ping => ping(&core, &load).await,
        Job::Drain => drain(&core, &load).await,
    };
    if let Err(error) = outcome {
        load.failure.borrow_mut().get_or_insert(error);
    }
    load.running.set(load.running.get() - 1);
}

async fn ping(core: &Core, load: &Load) -> io::Result<()> {
    let stream = core.connect(load.target, core.now() + TIMEOUT).await?;
    let mut message = [0; MESSAGE_BYTES];
    while core.now() < load.end.get() {
        // No two messages are alike, so that one answered twice, or by another's, is noticed.
        message[..8].copy_from_slice(&core.random().to_ne_bytes());
        stream.set_deadline(core.now() + TIMEOUT);
        stream.send_all(&message).await?;
        let mut expected: &[u8] = &message;
        while !expected.is_empty() {
            let chunk = stream.recv().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            expected = expected
                .strip_prefix(&*chunk)
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "another message came back"))?;
        }
        load.done.set(load.done.get() + 1);
    }
    Ok(())
}

async fn drain(core: &Core, load: &Load) -> io::Result<()> {
    let stream = core.connect(load.target, core.now() + TIMEOUT).await?;
    while core.now() < load.end.get() {
        stream.set_deadline(core.now() + TIMEOUT);
        let chunk = stream.recv().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        load.done.set(load.done.get() + chunk.len() as u64);
        drop(chunk);
        core.yield_now().await;
    }
    Ok(())
}
