//! Is every exchange written down once, as its log wants it, whatever becomes of the exchange, the file or its reader?
//!
//! Never a look inside: lines in files, datagrams at a socket, the figures of `/stats`.

mod common;

use std::fs;
use std::io::Read as _;
use std::net::UdpSocket;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread;

use common::connection::Connection;
use common::engine::{Driver, Engine};
use common::origin::{OK, Origin};
use common::{PATIENCE, eventually, on_both_drivers};
use rustix::process::Signal;
use serde_json::Value;

/// A place for a log that no other test has.
fn place(name: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let file = format!("access-{}-{number}-{name}", std::process::id());
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
    let _ = fs::remove_file(&path);
    path
}

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n').map(str::to_owned)).collect()
}

/// Waits until a log has so many lines; what is beyond them later is seen by the next look.
#[track_caller]
fn await_lines(path: &Path, count: usize) -> Vec<String> {
    eventually(&format!("{count} lines in {}", path.display()), || lines(path).len() >= count);
    lines(path)
}

#[track_caller]
fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// A listener `web` with a log `main` of these keys, and a channel that answers.
fn logging(path: &Path, log: &str, channel: &str) -> String {
    format!(
        "[listener.web]\nbind = \"127.0.0.1:0\"\naccess_log = \"main\"\n[channel.all]\n{channel}\n\
         [access_log.main]\nto = \"file:{}\"\n{log}\n",
        path.display()
    )
}

/// The same before an origin.
fn forwarding(path: &Path, log: &str, origin: &Origin) -> String {
    let upstream = format!("upstream = \"app\"\n[upstream.app]\nendpoints = [\"{}\"]", origin.address);
    logging(path, log, &upstream)
}

const RESPOND: &str = "respond = { body = \"hello\" }";

fn figure(engine: &Engine, name: &str) -> u64 {
    engine.counter(&format!("/access_logs/0/{name}"))
}

#[test]
fn a_line_says_what_its_format_wants() {
    let request = "GET /a?b=c HTTP/1.1\r\nHost: test:80\r\nReferer: http://r/\r\nUser-Agent: it\r\n\r\n";
    let check = |driver, log: &str, expected: &dyn Fn(&str, &Connection) -> String| {
        let path = place("format");
        let engine = Engine::start(driver, logging(&path, log, RESPOND));
        let mut client = engine.connect();
        client.ask(request).assert_is(200, "hello");
        let line = await_lines(&path, 1).remove(0);
        assert_eq!(line, expected(&line, &client));
    };
    // The moment is the one part that is not known beforehand.
    let between = |line: &str, open: char, close: char| {
        let (_, rest) = line.split_once(open).expect("a moment");
        rest.split_once(close).expect("its end").0.to_owned()
    };
    on_both_drivers(|driver| {
        check(driver, "format = \"common\"", &|line, _| {
            format!("127.0.0.1 - - [{}] \"GET /a?b=c HTTP/1.1\" 200 5", between(line, '[', ']'))
        });
        check(driver, "", &|line, _| {
            let moment = between(line, '[', ']');
            format!("127.0.0.1 - - [{moment}] \"GET /a?b=c HTTP/1.1\" 200 5 \"http://r/\" \"it\"")
        });
        let own = "format = \"${client}:${client_port} ${kind} ${listener}/${channel} ${path}${query} ${host} ${scheme} \
                   ${answer.content-type} ${request.x-none} ${fault} ${core} ${generation} ${client_reused}\"";
        check(driver, own, &|_, client| {
            format!(
                "{} http web/all /a?b=c test http text/plain; charset=utf-8 - - 0 1 false",
                client.local_address()
            )
        });
    });
}

#[test]
fn json_says_where_a_request_went_and_how_long_each_part_took() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let path = place("json");
        let engine = Engine::start(driver, forwarding(&path, "format = \"json\"", &origin));
        let mut client = engine.connect();
        let request = "POST /a HTTP/1.1\r\nHost: test\r\nContent-Length: 6\r\n\r\na body";
        client.ask(request).assert_is(200, "ok");
        client.ask(request).assert_is(200, "ok");
        let lines: Vec<Value> = await_lines(&path, 2).iter().map(|line| json(line)).collect();
        for (index, line) in lines.iter().enumerate() {
            assert_eq!(line["method"], "POST");
            assert_eq!((&line["status"], &line["upstream"]), (&Value::from(200), &Value::from("app")));
            assert_eq!(line["endpoint"], origin.address.to_string());
            assert_eq!(line["body_bytes_received"], 6);
            assert_eq!(line["bytes_received"], request.len());
            assert_eq!(line["body_bytes_sent"], 2);
            assert!(line["bytes_sent"].as_u64() > Some(2));
            assert_eq!(
                (&line["client_reused"], &line["endpoint_reused"]),
                (&(index == 1).into(), &(index == 1).into())
            );
            let phase = |name: &str| line[name].as_u64().unwrap_or_else(|| panic!("{name}: {line}"));
            assert!(phase("total_us") >= phase("first_byte_us") + phase("body_us"), "{line}");
            assert_eq!(line.get("connect_us").is_some(), index == 0, "a kept connection takes no time");
            let id = line["request_id"].as_str().expect("one is given");
            assert_eq!(origin.seen().requests[index].1.head.value("X-Request-ID"), Some(id));
            assert!(line.get("fault").is_none() && line.get("tls_version").is_none(), "{line}");
        }
    });
}

#[test]
fn every_end_of_an_exchange_is_one_line() {
    on_both_drivers(|driver| {
        let path = place("ends");
        let (slow, is_asked, _may_answer) = Origin::held();
        let config = format!(
            "[process]\ndrain_timeout = \"0s\"\n[listener.web]\nbind = \"127.0.0.1:0\"\naccess_log = \"main\"\n\
             timeouts.head = \"100ms\"\n\
             [channel.here]\nmatch.path_prefix = \"/here\"\nrespond = {{}}\n\
             [channel.quiet]\nmatch.path_prefix = \"/quiet\"\naccess_log = []\nrespond = {{}}\n\
             [channel.gone]\nmatch.path_prefix = \"/gone\"\nupstream = \"gone\"\n\
             [channel.slow]\nmatch.path_prefix = \"/slow\"\nupstream = \"slow\"\n\
             [upstream.gone]\nendpoints = [\"{}\"]\n[upstream.slow]\nendpoints = [\"{}\"]\n\
             [access_log.main]\nto = \"file:{}\"\nformat = \"${{target}} ${{status}} ${{fault}}\"\n",
            Origin::nowhere(),
            slow.address,
            path.display()
        );
        let mut engine = Engine::start(driver, config);
        assert_eq!(engine.connect().get("/here").status(), 200);
        assert_eq!(engine.connect().get("/quiet").status(), 200);
        assert_eq!(engine.connect().get("/nowhere").status(), 404);
        assert_eq!(engine.connect().get("/gone").status(), 502);
        assert_eq!(engine.connect().ask("GET /here HTTP/1.1\r\nno field\r\n\r\n").status(), 400);
        let mut late = engine.connect();
        assert!(late.send("GET /he"));
        assert_eq!(late.response().status(), 408);
        // One whose client goes while its answer is waited for.
        let impatient = engine.connect();
        assert!(impatient.send("GET /slow/1 HTTP/1.1\r\nHost: test\r\n\r\n"));
        is_asked.take();
        impatient.reset_when_dropped();
        drop(impatient);
        await_lines(&path, 6);
        // One that the end of the process cuts off.
        let cut = engine.connect();
        assert!(cut.send("GET /slow/2 HTTP/1.1\r\nHost: test\r\n\r\n"));
        is_asked.take();
        engine.signal(Signal::TERM);
        assert!(engine.wait().success());
        let mut lines = lines(&path);
        lines.sort();
        let expected = [
            "- 400 request_rejected",
            "- 408 head_timeout",
            "/gone 502 connect_failed",
            "/here 200 -",
            "/nowhere 404 no_channel",
            "/slow/1 - client_gone_in_response",
            "/slow/2 - process_ended",
        ];
        assert_eq!(lines, expected);
        drop(cut);
    });
}

#[test]
fn tunnels_and_relayed_connections_are_a_line_at_their_end() {
    on_both_drivers(|driver| {
        let echo = Origin::start(|peer| {
            if peer.head().is_some() {
                peer.wire.send(
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
                );
                peer.wire.send(b"12345");
            }
        });
        let path = place("tunnels");
        let log =
            "format = \"${kind} ${target} ${status} ${body_bytes_sent} ${upstream} ${endpoint} ${fault}\"";
        let config = forwarding(&path, log, &echo)
            + "[listener.raw]\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nupstream = \"app\"\naccess_log = \"main\"\n";
        let engine = Engine::start(driver, config);
        let offer = "GET /chat HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        for address in [engine.web(), engine.listener("raw")] {
            let mut client = Connection::open(address);
            assert!(client.send(offer));
            client.finish();
            assert!(client.rest().ends_with(b"12345"));
        }
        let lines = await_lines(&path, 2);
        assert_eq!(lines[0], format!("tunnel /chat 101 5 app {} -", echo.address));
        // What it sends is the head of its answer too.
        let sent =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n12345"
                .len();
        assert_eq!(lines[1], format!("tcp - - {sent} app {} -", echo.address));
    });
}

#[test]
fn nothing_a_client_sends_makes_a_line_of_its_own_and_what_is_masked_is_not_read() {
    on_both_drivers(|driver| {
        let path = place("masks");
        let log = "format = \"json\"\nfields = [\"target\", \"query\", \"request.user-agent\", \"request.referer\", \
                   \"request.authorization\"]\nmask = [\"query.token\", \"request.authorization\"]";
        let engine = Engine::start(driver, logging(&path, log, RESPOND));
        let mut client = engine.connect();
        let mut request =
            b"GET /a?Token=secret&b=\"c\\n HTTP/1.1\r\nHost: test\r\nUser-Agent: a\"}\xff\xc3(\\".to_vec();
        request.extend_from_slice(b"\r\nReferer: /x?token=secret\r\nAuthorization: Bearer secret\r\n\r\n");
        assert!(client.send(&request));
        client.response().assert_is(200, "hello");
        let lines = await_lines(&path, 1);
        assert_eq!(lines.len(), 1);
        assert!(!lines[0].contains("secret"), "{}", lines[0]);
        let line = json(&lines[0]);
        assert_eq!(line["target"], "/a?Token=***&b=\"c\\n");
        assert_eq!(line["query"], "?Token=***&b=\"c\\n");
        assert_eq!(line["request.user-agent"], "a\"}\\xFF\\xC3(\\");
        assert_eq!(line["request.referer"], "/x?token=***");
        assert_eq!(line["request.authorization"], "***");
    });
}

#[test]
fn a_sample_is_a_share_and_failures_are_always_written() {
    on_both_drivers(|driver| {
        let path = place("sample");
        let log = "format = \"${status}\"\nsample = \"10%\"\nalways = [\"4xx\"]";
        let config = logging(&path, log, "match.path_prefix = \"/here\"\nrespond = {}");
        let mut engine = Engine::start(driver, config);
        let mut client = engine.connect();
        for _ in 0..500 {
            assert_eq!(client.get("/here").status(), 200);
        }
        for _ in 0..5 {
            assert_eq!(engine.connect().get("/").status(), 404);
        }
        eventually("all are accounted for", || {
            figure(&engine, "recorded") + figure(&engine, "left_out") == 505
        });
        engine.signal(Signal::TERM);
        assert!(engine.wait().success());
        let lines = lines(&path);
        assert_eq!(lines.iter().filter(|line| *line == "404").count(), 5);
        // Of 500, a tenth: fewer than 5 or more than 150 come once in more runs than there will ever be.
        let drawn = lines.iter().filter(|line| *line == "200").count();
        assert!((5..150).contains(&drawn), "{drawn}");
    });
}

#[test]
fn a_log_that_is_rotated_under_load_loses_and_tears_nothing() {
    on_both_drivers(|driver| {
        let path = place("rotated");
        let config = logging(&path, "format = \"json\"\nfields = [\"target\", \"status\"]", RESPOND);
        let mut engine = Engine::start_on_cores(driver, 2, config);
        let (asked, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
        let mut parts = vec![path.clone()];
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut client = engine.connect();
                    while !is_over.load(Ordering::Relaxed) {
                        let number = asked.fetch_add(1, Ordering::Relaxed);
                        client.get(&format!("/{number}")).assert_is(200, "hello");
                    }
                });
            }
            for part in 1..=4 {
                let so_far = asked.load(Ordering::Relaxed);
                eventually("more is written", || {
                    asked.load(Ordering::Relaxed) > so_far + 50 && path.exists()
                });
                let moved = path.with_extension(format!("{part}"));
                fs::rename(&path, &moved).expect("it is there");
                parts.push(moved);
                if part % 2 == 0 {
                    engine.signal(Signal::USR1);
                } else {
                    let (status, answer) = engine.ask_admin("POST", "/logs/reopen", None);
                    assert_eq!((status, &answer["logs"]), (200, &Value::from(1)));
                }
                eventually("there is a new file", || path.exists());
            }
            is_over.store(true, Ordering::Relaxed);
        });
        engine.signal(Signal::TERM);
        assert!(engine.wait().success());
        let all: Vec<String> = parts.iter().flat_map(|part| lines(part)).collect();
        let mut numbers: Vec<usize> = (all.iter())
            .map(|line| json(line)["target"].as_str().expect("a target")[1..].parse().expect("a number"))
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..asked.into_inner()).collect::<Vec<_>>());
        for part in &parts {
            let text = fs::read_to_string(part).expect("there");
            assert!(text.is_empty() || text.ends_with('\n'), "{} ends in a torn line", part.display());
        }
    });
}

#[test]
fn a_reader_that_does_not_read_costs_no_request_and_what_it_misses_is_counted() {
    on_both_drivers(|driver| {
        const REQUESTS: u64 = 3000;
        let path = place("fifo");
        let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo runs");
        assert!(made.success());
        let engine = Engine::start(driver, logging(&path, "format = \"${target}\"", RESPOND));
        // O_NONBLOCK: nobody has opened it yet to write.
        let mut reader = fs::OpenOptions::new().read(true).custom_flags(0o4000).open(&path).expect("a pipe");
        let target = format!("/{}", "a".repeat(6000));
        let mut client = engine.connect();
        for _ in 0..REQUESTS {
            client.get(&target).assert_is(200, "hello");
        }
        engine.assert_counter("/totals/faults", 0);
        let dropped = figure(&engine, "dropped");
        let metrics = Connection::open(engine.admin())
            .ask("GET /metrics HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
        let line = format!("corelane_access_log_dropped_total{{log=\"main\"}} {dropped}");
        assert!(metrics.text().contains(&line), "{}", metrics.text());
        assert!(dropped > 0 && dropped + figure(&engine, "recorded") == REQUESTS, "{dropped}");
        // Once it reads, it gets all that was not dropped.
        let mut text = Vec::new();
        eventually("the rest is read", || {
            let mut part = [0; 1 << 16];
            while let Ok(count @ 1..) = reader.read(&mut part) {
                text.extend_from_slice(&part[..count]);
            }
            let read = text.iter().filter(|byte| **byte == b'\n').count() as u64;
            read == REQUESTS - dropped
        });
        assert!(text.split(|byte| *byte == b'\n').all(|line| line.is_empty() || line == target.as_bytes()));
    });
}

#[test]
fn a_full_disk_costs_no_request_and_is_told() {
    on_both_drivers(|driver| {
        let config = logging(Path::new("/dev/full"), "format = \"common\"", RESPOND);
        let mut engine = Engine::start(driver, config);
        let mut client = engine.connect();
        for _ in 0..50 {
            client.get("/").assert_is(200, "hello");
        }
        eventually("it is noticed", || figure(&engine, "errors") > 0);
        assert_eq!((figure(&engine, "written"), figure(&engine, "recorded")), (0, 50));
        assert!(engine.log().contains("access_log.main: cannot be written"), "{}", engine.log());
        engine.signal(Signal::TERM);
        assert!(engine.wait().success(), "it does not keep the process");
    });
}

#[test]
fn a_log_daemon_gets_a_message_for_each_line() {
    let config = |to: &str| {
        format!(
            "[node]\nid = \"edge\"\n[listener.web]\nbind = \"127.0.0.1:0\"\naccess_log = \"main\"\n[channel.all]\n{RESPOND}\n\
             [access_log.main]\nto = \"syslog:{to}\"\nformat = \"${{method}} ${{status}}\"\nfacility = \"local3\"\n\
             severity = \"notice\"\napp_name = \"gate\"\n"
        )
    };
    let check = |engine: &Engine, message: &str| {
        // RFC 5424 §6: 19 * 8 + 5.
        let rest = message.strip_prefix("<157>1 ").unwrap_or_else(|| panic!("{message}"));
        let (moment, rest) = rest.split_once(' ').expect("a moment");
        assert!(moment.len() == "2026-11-22T21:28:23.000123Z".len() && moment.ends_with('Z'), "{moment}");
        let pid = engine.pid().as_raw_nonzero();
        assert_eq!(rest, format!("edge gate {pid} access - GET 200"));
    };
    on_both_drivers(|driver| {
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
        udp.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        let engine = Engine::start(driver, config(&format!("udp:{}", udp.local_addr().expect("an address"))));
        engine.connect().get("/").assert_is(200, "hello");
        let mut message = [0; 1000];
        let count = udp.recv(&mut message).expect("a message");
        check(&engine, std::str::from_utf8(&message[..count]).expect("text"));

        let path = place("socket");
        let daemon = UnixDatagram::bind(&path).expect("a socket");
        daemon.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        let engine = Engine::start(driver, config(&format!("unix:{}", path.display())));
        engine.connect().get("/").assert_is(200, "hello");
        let count = daemon.recv(&mut message).expect("a message");
        check(&engine, std::str::from_utf8(&message[..count]).expect("text"));
    });
}

#[test]
fn another_configuration_writes_elsewhere_and_what_is_left_comes_out_where_it_belongs() {
    on_both_drivers(|driver| {
        let (first, second) = (place("first"), place("second"));
        let config = |path: &Path, format: &str| logging(path, &format!("format = \"{format}\""), RESPOND);
        let mut engine = Engine::start(driver, config(&first, "${target}"));
        let mut client = engine.connect();
        let mut ask =
            |from: u32| (from..from + 100).for_each(|n| client.get(&format!("/{n}")).assert_is(200, "hello"));
        ask(0);
        let reload = |config: String| {
            engine.rewrite(config);
            let (status, answer) = engine.reload();
            assert_eq!(status, 200, "{answer}");
        };
        // Another format at the same place is the same log.
        reload(config(&first, "again ${target}"));
        ask(100);
        assert_eq!(figure(&engine, "recorded"), 200);
        reload(config(&second, "${target}"));
        ask(200);
        engine.rewrite(config(Path::new("/nowhere/at/all"), "${target}"));
        let (status, answer) = engine.reload();
        let problem = answer["problems"][0].as_str().unwrap_or_default();
        assert!(status == 422 && problem.starts_with("access_log.main.to: cannot write"), "{answer}");
        ask(300);
        engine.signal(Signal::TERM);
        assert!(engine.wait().success());
        let expected: Vec<String> = (0..100)
            .map(|number| format!("/{number}"))
            .chain((100..200).map(|number| format!("again /{number}")))
            .collect();
        assert_eq!(lines(&first), expected);
        assert_eq!(lines(&second), (200..400).map(|number| format!("/{number}")).collect::<Vec<_>>());
    });
}

#[test]
fn a_log_that_cannot_be_written_keeps_the_process_from_starting() {
    let config = logging(Path::new("/nowhere/at/all"), "", RESPOND);
    let mut engine = Engine::spawn(&mut Engine::command(), &[], config);
    assert!(!engine.wait().success());
    assert!(
        engine.log().contains("access_log.main.to: cannot write \"/nowhere/at/all\""),
        "{}",
        engine.log()
    );
}

#[test]
fn what_was_never_asked_for_is_not_there() {
    let config = format!("[listener.web]\nbind = \"127.0.0.1:0\"\n[channel.all]\n{RESPOND}\n");
    let engine = Engine::start(Driver::Epoll, config);
    assert_eq!(engine.stats().get("access_logs"), None);
    assert!(!engine.threads().iter().any(|(name, _)| name.starts_with("log-")));
    // Without a log it is no reason to end.
    engine.signal(Signal::USR1);
    eventually("it is heard", || engine.log().contains("SIGUSR1"));
    engine.connect().get("/").assert_is(200, "hello");
}
