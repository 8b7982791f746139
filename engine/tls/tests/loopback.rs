//! Does a private connection keep its promises on real sockets? The same tests on every driver, in TLS 1.2 and 1.3.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use runtime::counter::RuntimeCounters;
use runtime::{Core, CoreConfig, DriverChoice, DriverKind, Instant, Listener, ParkEvent, run};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, HandshakeKind, ProtocolVersion, RootCertStore, ServerConfig, SupportedProtocolVersion,
};
use tls::{HandshakeError, TlsStream};

/// What a test gets: a core, a port, and who trusts whom.
#[derive(Clone)]
struct Stage {
    core: Core,
    counters: Arc<RuntimeCounters>,
    listener: Rc<Listener>,
    address: SocketAddr,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Stage {
    fn soon(&self) -> Instant {
        self.core.now() + Duration::from_secs(8)
    }

    async fn connect(&self) -> Result<TlsStream, HandshakeError> {
        let stream = self.core.connect(self.address, self.soon()).await.expect("connect");
        let name = ServerName::try_from("localhost").expect("a name");
        tls::connect(stream, &self.client, name, self.soon()).await
    }

    async fn accept(&self) -> Result<TlsStream, HandshakeError> {
        let (stream, _) = self.listener.accept().await.expect("accept");
        tls::accept(stream, &self.server, self.soon()).await
    }

    /// Both ends of a new connection.
    async fn pair(&self) -> (TlsStream, TlsStream) {
        let accepted = Rc::new(Cell::new(None));
        let (place, stage) = (accepted.clone(), self.clone());
        self.core.spawn(async move { place.set(Some(stage.accept().await.expect("the server agrees"))) });
        let client = self.connect().await.expect("the client agrees");
        while accepted.take().map(|server| accepted.set(Some(server))).is_none() {
            self.core.yield_now().await;
        }
        (client, accepted.take().expect("a server"))
    }
}

fn identity() -> (CertificateDer<'static>, PrivatePkcs8KeyDer<'static>) {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    (key.cert.der().clone(), key.signing_key.serialize_der().into())
}

fn configs(version: &'static SupportedProtocolVersion) -> (ClientConfig, ServerConfig) {
    let (certificate, key) = identity();
    let server = ServerConfig::builder_with_protocol_versions(&[version])
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.into())
        .expect("a server");
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a root");
    let client = ClientConfig::builder_with_protocol_versions(&[version])
        .with_root_certificates(roots)
        .with_no_client_auth();
    (client, server)
}

/// Runs `test` on a core of each driver, in each version, within ten seconds.
fn on_every_driver<F: Future<Output = ()> + 'static>(
    configure: impl Fn(&mut CoreConfig, &mut ClientConfig, &mut ServerConfig),
    test: impl Fn(Stage) -> F,
) {
    let mut drivers = vec![DriverKind::Epoll];
    match DriverChoice::Uring.settle().uring_error {
        None => drivers.push(DriverKind::Uring),
        Some(error) => eprintln!("io_uring is refused here ({error}): tested on epoll alone"),
    }
    for (driver, version) in
        drivers.into_iter().flat_map(|driver| [&TLS12, &TLS13].map(|version| (driver, version)))
    {
        let mut config = CoreConfig::new(0, driver).expect("descriptors");
        let (mut client, mut server) = configs(version);
        configure(&mut config, &mut client, &mut server);
        let counters = config.counters.clone();
        let test = &test;
        run(config, move |core| {
            let socket = TcpListener::bind("127.0.0.1:0").expect("bind");
            let address = socket.local_addr().expect("address");
            let listener = Rc::new(core.adopt_listener(socket).expect("adopt"));
            let (client, server) = (Arc::new(client), Arc::new(server));
            let test = test(Stage { core: core.clone(), counters, listener, address, client, server });
            async move {
                let mut test = std::pin::pin!(test);
                let mut limit = std::pin::pin!(core.sleep(Duration::from_secs(10)));
                std::future::poll_fn(|context| {
                    let is_late = limit.as_mut().poll(context).is_ready();
                    assert!(!is_late, "not finished on {driver}, {version:?}, within ten seconds");
                    test.as_mut().poll(context)
                })
                .await;
            }
        })
        .expect("the test passes");
    }
}

async fn read_all(stream: &TlsStream) -> Vec<u8> {
    let mut got = Vec::new();
    while let Some(chunk) = stream.recv().await.expect("recv") {
        got.extend_from_slice(&chunk);
    }
    got
}

fn pattern(len: usize, salt: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251 + salt) as u8).collect()
}

/// 2 MiB each way at once with two buffers a lane: nothing lost, nobody waits for a buffer for ever.
#[test]
fn large_bodies_pass_both_ways_at_once() {
    on_every_driver(
        |config, _, _| config.buffers_per_lane = 2,
        |stage| async move {
            let (client, server) = stage.pair().await;
            let [up, down] = [1, 2].map(|salt| Rc::new(pattern(2 << 20, salt)));
            let (client, server) = (Rc::new(client), Rc::new(server));
            for (stream, bytes) in [(client.clone(), up.clone()), (server.clone(), down.clone())] {
                stage.core.spawn(async move {
                    stream.send_all(&bytes).await.expect("send");
                    stream.shutdown_write().await.expect("shutdown");
                });
            }
            let at_server = Rc::new(Cell::new(Vec::new()));
            let place = at_server.clone();
            stage.core.spawn(async move { place.set(read_all(&server).await) });
            assert!(read_all(&client).await == *down, "what the server sent");
            let mut got = at_server.take();
            while got.len() < up.len() {
                stage.core.yield_now().await;
                got = at_server.take();
            }
            assert!(got == *up, "what the client sent");
        },
    );
}

#[test]
fn a_proper_end_is_told_from_one_that_may_hide_something() {
    on_every_driver(
        |_, _, _| {},
        |stage| async move {
            let (client, server) = stage.pair().await;
            client.send_all(b"all of it").await.expect("send");
            client.shutdown_write().await.expect("shutdown");
            assert_eq!(read_all(&server).await, b"all of it");
            assert!(server.recv().await.expect("an end stays one").is_none());
            // The other direction goes on.
            server.send_all(b"answer").await.expect("send");
            server.shutdown_write().await.expect("shutdown");
            assert_eq!(read_all(&client).await, b"answer");

            let (client, server) = stage.pair().await;
            client.send_all(b"some of it").await.expect("send");
            drop(client);
            let first = server.recv().await.expect("recv").expect("bytes");
            assert_eq!(&*first, b"some of it");
            let error = server.recv().await.expect_err("cut off");
            // A client that has not read its tickets resets the connection when it closes it.
            assert!(
                matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset),
                "{error:?}"
            );
        },
    );
}

#[test]
fn an_end_without_close_notify_is_an_error_of_its_own() {
    on_every_driver(
        |_, _, server| server.send_tls13_tickets = 0,
        |stage| async move {
            let (client, server) = stage.pair().await;
            client.send_all(b"some of it").await.expect("send");
            drop(client);
            assert_eq!(&*server.recv().await.expect("recv").expect("bytes"), b"some of it");
            let error = server.recv().await.expect_err("cut off");
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
            assert!(error.to_string().contains("close_notify"), "{error}");
        },
    );
}

#[test]
fn a_handshake_ends_at_its_deadline_on_both_sides() {
    on_every_driver(
        |_, _, _| {},
        |stage| async move {
            let silent_client = stage.core.connect(stage.address, stage.soon()).await.expect("connect");
            let (accepted, _) = stage.listener.accept().await.expect("accept");
            let in_50_ms = stage.core.now() + Duration::from_millis(50);
            let error = tls::accept(accepted, &stage.server, in_50_ms).await.expect_err("silence");
            assert!(matches!(error, HandshakeError::TimedOut), "{error:?}");
            drop(silent_client);

            let stream = stage.core.connect(stage.address, stage.soon()).await.expect("connect");
            let (_silent_server, _) = stage.listener.accept().await.expect("accept");
            let in_50_ms = stage.core.now() + Duration::from_millis(50);
            let name = ServerName::try_from("localhost").expect("a name");
            let error = tls::connect(stream, &stage.client, name, in_50_ms).await.expect_err("silence");
            assert!(matches!(error, HandshakeError::TimedOut), "{error:?}");
            assert!(stage.core.now() >= in_50_ms);
        },
    );
}

/// Twenty bytes a millisecond are progress, and yet no handshake: the deadline is for the whole.
#[test]
fn a_peer_that_trickles_does_not_extend_its_handshake() {
    on_every_driver(
        |_, _, _| {},
        |stage| async move {
            let client = stage.core.connect(stage.address, stage.soon()).await.expect("connect");
            let (accepted, _) = stage.listener.accept().await.expect("accept");
            let core = stage.core.clone();
            stage.core.spawn(async move {
                // A handshake record of 16 KiB, which holds the start of a hello of 64 KiB.
                let mut bytes =
                    [22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff, 3, 3].into_iter().chain(std::iter::repeat(0));
                let mut next = || bytes.by_ref().take(20).collect::<Vec<u8>>();
                while client.send_all(&next()).await.is_ok() {
                    core.sleep(Duration::from_millis(1)).await;
                }
            });
            let deadline = stage.core.now() + Duration::from_millis(100);
            let error = tls::accept(accepted, &stage.server, deadline).await.expect_err("no handshake");
            assert!(matches!(error, HandshakeError::TimedOut), "{error:?}");
        },
    );
}

#[test]
fn the_second_handshake_resumes_the_first() {
    on_every_driver(
        |_, _, _| {},
        |stage| async move {
            for expected in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
                let (client, server) = stage.pair().await;
                assert_eq!(client.handshake_kind(), Some(expected));
                assert_eq!(server.handshake_kind(), Some(expected));
                // Tickets of TLS 1.3 come with the first bytes.
                server.send_all(b"hello").await.expect("send");
                assert_eq!(&*client.recv().await.expect("recv").expect("bytes"), b"hello");
            }
        },
    );
}

#[test]
fn both_sides_know_what_they_agreed_on() {
    on_every_driver(
        |_, client, server| {
            client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            server.alpn_protocols = vec![b"http/1.1".to_vec()];
        },
        |stage| async move {
            let (client, server) = stage.pair().await;
            assert_eq!(client.alpn().as_deref(), Some(&b"http/1.1"[..]));
            assert_eq!(server.alpn().as_deref(), Some(&b"http/1.1"[..]));
            assert_eq!(server.server_name().as_deref(), Some("localhost"));
            assert!(client.server_name().is_none() && server.peer_certificates().is_none());
            assert_eq!(client.peer_certificates().expect("the server's").len(), 1);
            assert!(client.version().is_some() && client.version() == server.version());
            assert!(client.cipher_suite().is_some() && client.key_exchange().is_some());
        },
    );
}

#[test]
fn a_server_that_nobody_vouches_for_is_refused_and_told() {
    on_every_driver(
        |_, client, _| *client = configs(&TLS13).0,
        |stage| async move {
            let refused = Rc::new(Cell::new(None));
            let (place, server) = (refused.clone(), stage.clone());
            stage.core.spawn(async move { place.set(server.accept().await.err()) });
            let error = stage.connect().await.expect_err("an unknown issuer");
            assert!(matches!(error, HandshakeError::Refused(_)), "{error:?}");
            let told = loop {
                if let Some(told) = refused.take() {
                    break told;
                }
                stage.core.yield_now().await;
            };
            assert!(matches!(told, HandshakeError::Refused(_)), "{told:?}");
        },
    );
}

/// Tickets come when the client's handshake is over. They wake its parked connection, and are nothing to wake up for.
#[test]
fn a_parked_connection_keeps_its_keys_and_sleeps_on_after_tickets() {
    on_every_driver(
        |_, _, _| {},
        |stage| async move {
            let (client, server) = stage.pair().await;
            let woken = Rc::new(RefCell::new(VecDeque::new()));
            let events = Rc::clone(&woken);
            stage.core.on_parked(move |stream, tag, event| {
                assert_eq!((tag, event), (7, ParkEvent::Readable));
                events.borrow_mut().push_back(stream);
            });
            let next = async || loop {
                if let Some(stream) = woken.borrow_mut().pop_front() {
                    return stream;
                }
                stage.core.yield_now().await;
            };
            let is_new = client.version() == Some(ProtocolVersion::TLSv1_3);
            let (_, mut dormant) = client.park(7);
            if is_new {
                let client = TlsStream::wake(next().await, dormant);
                assert!(client.stays_idle());
                (_, dormant) = client.park(7);
            }
            server.send_all(b"question").await.expect("send");
            let client = TlsStream::wake(next().await, dormant);
            assert_eq!(&*client.recv().await.expect("recv").expect("bytes"), b"question");
            let (parked, dormant) = client.park(7);
            let client = TlsStream::wake(parked.resume(&stage.core).expect("nothing came"), dormant);
            client.send_all(b"answer").await.expect("send");
            assert_eq!(&*server.recv().await.expect("recv").expect("bytes"), b"answer");
            drop(server);
            client.set_deadline(stage.soon());
            while client.is_quiet() {
                stage.core.yield_now().await;
            }
            assert!(!client.stays_idle(), "the server is gone");
        },
    );
}

#[test]
fn plain_text_and_an_early_end_are_no_handshakes() {
    on_every_driver(
        |_, _, _| {},
        |stage| async move {
            let client = stage.core.connect(stage.address, stage.soon()).await.expect("connect");
            client.send_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("send");
            let error = stage.accept().await.expect_err("no TLS");
            assert!(matches!(error, HandshakeError::NotTls(_)), "{error:?}");

            drop(stage.core.connect(stage.address, stage.soon()).await.expect("connect"));
            let error = stage.accept().await.expect_err("nothing came");
            assert!(matches!(error, HandshakeError::Ended), "{error:?}");
        },
    );
}

/// What was taken from a sender and is not the kernel's has a bound, however slow the reader.
#[test]
fn a_peer_that_does_not_read_stops_the_sender() {
    /// Plaintext that may be held, and a record of which a part is the kernel's.
    const HELD_MAX: usize = 64 * 1024 + 16 * 1024;
    on_every_driver(
        |_, _, server| server.send_tls13_tickets = 0,
        |stage| async move {
            let (client, server) = stage.pair().await;
            let bytes = vec![7; 256 * 1024];
            let mut taken = 0;
            // The kernel's buffers grow for a while: refused for 20 ms on end is refused.
            let mut refusals = 0;
            while refusals < 20 {
                match client.try_send(&[IoSlice::new(&bytes)]) {
                    Ok(count) => (taken, refusals) = (taken + count, 0),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::WouldBlock);
                        refusals += 1;
                        stage.core.sleep(Duration::from_millis(1)).await;
                    }
                }
                assert!(taken < 64 << 20, "nothing stops the sender");
            }
            client.set_deadline(stage.core.now() + Duration::from_millis(20));
            let error = client.send_all(&bytes).await.expect_err("nobody reads");
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            let error = client.recv().await.expect_err("nor answers");
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            // What the kernel does not have goes with the stream: the difference is what it held.
            drop(client);
            let mut got = 0;
            while let Ok(Some(chunk)) = server.recv().await {
                got += chunk.len();
            }
            assert!(got > 0 && taken - got <= HELD_MAX, "{taken} taken, {got} arrived");
        },
    );
}

/// A message that the kernel did not take whole leaves while its sender waits for the answer.
#[test]
fn what_was_taken_leaves_while_the_sender_receives() {
    on_every_driver(
        |_, _, _| {},
        |stage| async move {
            let (client, server) = stage.pair().await;
            let bytes = vec![7; 64 * 1024];
            let mut taken = 0;
            while let Ok(count) = client.try_send(&[IoSlice::new(&bytes)]) {
                taken += count;
            }
            stage.core.spawn(async move {
                let mut got = 0;
                while got < taken {
                    got += server.recv().await.expect("recv").expect("bytes").len();
                }
                server.send_all(b"got it").await.expect("send");
                server.recv().await.expect_err("the client leaves");
            });
            assert_eq!(&*client.recv().await.expect("recv").expect("bytes"), b"got it");
        },
    );
}

/// Also one that waits for the rest of a record.
#[test]
fn an_idle_connection_holds_no_pooled_buffer() {
    on_every_driver(
        |config, _, _| config.spin_max = Duration::ZERO,
        |stage| async move {
            let (relay, behind) = relay(&stage);
            let (client, server) = {
                let stage = Stage { address: relay, ..stage.clone() };
                stage.pair().await
            };
            client.send_all(b"hello").await.expect("send");
            assert_eq!(&*server.recv().await.expect("recv").expect("bytes"), b"hello");
            let waiting = stage.clone();
            stage.core.spawn(async move {
                let rest = server.recv().await.expect("recv").expect("bytes");
                assert_eq!(rest.len(), 10_000);
                server.send_all(b"whole").await.expect("send");
                waiting.core.sleep(Duration::from_secs(1)).await;
            });
            behind.store(5_000, std::sync::atomic::Ordering::Relaxed);
            client.send_all(&[7; 10_000]).await.expect("send");
            stage.core.sleep(Duration::from_millis(20)).await;
            assert_eq!(stage.counters.buffers.value(), 0, "half a record has arrived");
            behind.store(0, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(&*client.recv().await.expect("recv").expect("bytes"), b"whole");
        },
    );
}

/// A relay by threads before the stage's listener that keeps back the last bytes of what the client sends: as many as the
/// returned number says.
fn relay(stage: &Stage) -> (SocketAddr, Arc<std::sync::atomic::AtomicUsize>) {
    use std::net::TcpStream;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let (here, there) = (listener.local_addr().expect("address"), stage.address);
    let kept_back = Arc::new(AtomicUsize::new(0));
    let limit = kept_back.clone();
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("accept");
        let mut server = TcpStream::connect(there).expect("connect");
        let (mut from, mut to) = (server.try_clone().expect("clone"), client.try_clone().expect("clone"));
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        client.set_read_timeout(Some(Duration::from_millis(1))).expect("a timeout");
        let (mut bytes, mut kept) = ([0; 4096], Vec::new());
        loop {
            match client.read(&mut bytes) {
                Ok(0) => return,
                Ok(count) => kept.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
            let go = kept.len().saturating_sub(limit.load(Ordering::Relaxed));
            if server.write_all(&kept[..go]).is_err() {
                return;
            }
            kept.drain(..go);
        }
    });
    (here, kept_back)
}

#[test]
fn a_message_is_received_behind_its_beginning() {
    on_every_driver(
        |_, _, server| server.send_tls13_tickets = 0,
        |stage| async move {
            let (client, server) = stage.pair().await;
            client.send_all(b"begin").await.expect("send");
            let begun = server.recv().await.expect("recv").expect("bytes").to_vec();
            client.send_all(b"ning").await.expect("send");
            assert_eq!(&*server.recv_behind(&begun).await.expect("recv").expect("bytes"), b"beginning");
            // A full buffer behind a prefix.
            let bytes = pattern(200_000, 3);
            let expected = bytes.clone();
            stage.core.spawn(async move {
                client.send_all(&bytes).await.expect("send");
                client.shutdown_write().await.expect("shutdown");
            });
            let mut got = Vec::new();
            while let Some(chunk) = server.recv_behind(&[9; 1_000]).await.expect("recv") {
                assert_eq!(chunk[..1_000], [9; 1_000]);
                got.extend_from_slice(&chunk[1_000..]);
            }
            assert!(got == expected, "{} bytes", got.len());
        },
    );
}

/// The socket knows one task that waits for room, here the one that receives: it must not forget the other.
#[test]
fn a_sender_goes_on_beside_a_task_that_receives() {
    const TOTAL: usize = 16 << 20;
    on_every_driver(
        |_, _, _| {},
        |stage| async move {
            let (client, server) = stage.pair().await;
            let client = Rc::new(client);
            let sender = client.clone();
            stage.core.spawn(async move { sender.send_all(&vec![7; TOTAL]).await.expect("send") });
            let core = stage.core.clone();
            stage.core.spawn(async move {
                // By then one task waits to send, and the other has begun to receive.
                core.sleep(Duration::from_millis(20)).await;
                let mut got = 0;
                while got < TOTAL {
                    got += server.recv().await.expect("recv").expect("bytes").len();
                }
                server.send_all(b"got it").await.expect("send");
                core.sleep(Duration::from_secs(1)).await;
            });
            stage.core.sleep(Duration::from_millis(5)).await;
            assert_eq!(&*client.recv().await.expect("recv").expect("bytes"), b"got it");
        },
    );
}
