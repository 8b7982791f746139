//! Does WebSocket work with servers of another make, and is every message counted when one of them does not?

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame};
use tungstenite::{Message, WebSocket};

use crate::harness::{DRIVERS, Origin, Outcome, loadgen, serve_always, serve_at};

/// A server by tungstenite that treats each of its connections, one after the other, once the handshake is done.
fn serve_websocket(mut treat: impl FnMut(&mut WebSocket<TcpStream>) + Send + 'static) -> String {
    let address = serve_at(move |stream| {
        if let Ok(mut websocket) = tungstenite::accept(stream) {
            treat(&mut websocket);
        }
    });
    format!("ws://{address}/")
}

/// Echoes until the client takes its leave, and answers that; says with which code it did.
fn echo_to_the_end(websocket: &mut WebSocket<TcpStream>) -> Option<CloseCode> {
    loop {
        match websocket.read() {
            Ok(message @ (Message::Text(_) | Message::Binary(_))) => websocket.send(message).ok()?,
            Ok(Message::Close(frame)) => {
                // Sends the answer, and says that the connection is closed.
                let _ = websocket.flush();
                return frame.map(|frame| frame.code);
            }
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}

fn check_right(url: &str, args: &str, count: u64) -> Outcome {
    let run = loadgen(url, &format!("-t 1 -n {count} --timeout 20s {args}"));
    assert_eq!((run.code, run.count("/requests/completed")), (Some(0), count), "{args}: {run:?}");
    run.assert_adds_up();
    run
}

/// Expects every message to fail as `kind`; returns what the first of them said.
fn check_wrong(kind: &str, url: &str, args: &str) -> String {
    let run = loadgen(url, &format!("-c 1 -t 1 -n 3 --size 100 {args}"));
    assert_eq!(run.code, Some(1), "{kind}: {run:?}");
    run.assert_adds_up();
    assert_eq!((run.errors(kind), run.count("/requests/failed")), (3, 3), "{kind}: {run:?}");
    run.json["errors"]["first"][kind].as_str().expect("a detail").to_owned()
}

#[test]
fn every_message_that_comes_back_from_the_own_origin_is_counted() {
    for driver in DRIVERS {
        let origin = Origin::start(&format!("--driver {driver}"));
        let url = origin.websocket_url();
        // Each form of a frame's length, and more than all buffers hold.
        for (size, count) in
            [(1, 50), (125, 50), (126, 50), (65_535, 20), (65_536, 20), (24 * 1_024 * 1_024, 2)]
        {
            let run = check_right(&url, &format!("-c 2 --size {size} --driver {driver}"), count);
            assert_eq!(run.json["unit"], "messages");
            let header = if size < 126 {
                2
            } else if size < 65_536 {
                4
            } else {
                10
            };
            let echoed = count * (header + size);
            let received = run.count("/bytes/received");
            // Beside the echoes, two handshakes and two closes.
            assert!(received > echoed && received < echoed + 1_000, "{received} and {echoed}: {run:?}");
        }
        check_right(&url, &format!("-c 2 --text --driver {driver}"), 50);
        let churn = check_right(&url, &format!("-c 2 --no-keepalive --driver {driver}"), 20);
        assert_eq!(churn.count("/generator/connects"), 20);
        let placeholders = loadgen(&format!("{url}{{{{seq}}}}"), "-c 1 -n 1");
        assert!(
            placeholders.code == Some(2) && placeholders.err.contains("placeholders"),
            "{placeholders:?}"
        );
        let open = loadgen(&url, &format!("-c 4 -t 1 --rate 200 -d 300ms --driver {driver}"));
        assert_eq!(open.code, Some(0), "{open:?}");
        assert_eq!(open.count("/requests/sent") + open.count("/requests/unsent"), 60, "{open:?}");
    }
}

#[test]
fn messages_come_back_over_private_connections_too() {
    for driver in DRIVERS {
        let origin = Origin::start(&format!("--tls --driver {driver}"));
        let url = format!("wss://{}/", origin.address);
        for (size, count) in [(1, 50), (70_000, 20)] {
            check_right(&url, &format!("-c 2 --insecure --size {size} --driver {driver}"), count);
        }
    }
}

#[test]
fn a_server_of_another_make_understands_messages_and_leave() {
    for driver in DRIVERS {
        let (said, closed_with) = std::sync::mpsc::channel();
        let url = serve_websocket(move |websocket| {
            let _ = said.send(echo_to_the_end(websocket));
        });
        for args in ["--size 1", "--size 300", "--size 100000", "--size 5000 --text"] {
            check_right(&url, &format!("-c 1 {args} --driver {driver}"), 20);
            assert_eq!(closed_with.recv().expect("an end"), Some(CloseCode::Normal), "{args}");
        }
    }
}

#[test]
fn fragments_with_pings_between_are_one_message_and_every_ping_is_answered() {
    for driver in DRIVERS {
        let (said, answered) = std::sync::mpsc::channel();
        let url = serve_websocket(move |websocket| {
            let mut pongs = Vec::new();
            let mut number = 0_u8;
            loop {
                match websocket.read() {
                    Ok(Message::Binary(bytes)) => {
                        number += 1;
                        let fragment = |bytes: &[u8], data, is_final| {
                            Message::Frame(Frame::message(bytes.to_vec(), OpCode::Data(data), is_final))
                        };
                        let (front, rest) = bytes.split_at(bytes.len() / 3);
                        let parts = [
                            fragment(front, Data::Binary, false),
                            Message::Ping(vec![number; 20].into()),
                            fragment(&rest[..1], Data::Continue, false),
                            fragment(&[], Data::Continue, false),
                            Message::Pong(vec![].into()),
                            fragment(&rest[1..], Data::Continue, true),
                        ];
                        for part in parts {
                            if websocket.send(part).is_err() {
                                return;
                            }
                        }
                    }
                    Ok(Message::Pong(payload)) => pongs.push(payload.to_vec()),
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
            let _ = said.send(pongs);
        });
        check_right(&url, &format!("-c 1 --size 300 --driver {driver}"), 10);
        let pings: Vec<Vec<u8>> = (1..=10).map(|number| vec![number; 20]).collect();
        assert_eq!(answered.recv().expect("an end"), pings);
    }
}

#[test]
fn a_ping_on_an_idle_connection_does_not_end_it() {
    for driver in DRIVERS {
        let url = serve_websocket(|websocket| {
            while let Ok(message) = websocket.read() {
                let is_data = matches!(message, Message::Binary(_));
                if is_data
                    && (websocket.send(message).is_err()
                        || websocket.send(Message::Ping(vec![7].into())).is_err())
                {
                    return;
                }
            }
        });
        let run = check_right(&url, &format!("-c 1 --rate 20 --driver {driver}"), 5);
        assert_eq!((run.count("/generator/connects"), run.count("/generator/reconnects")), (1, 0), "{run:?}");
    }
}

#[test]
fn wrong_messages_and_broken_rules_are_told_apart() {
    for driver in DRIVERS {
        let args = format!("--driver {driver} --timeout 5s");
        let changed = serve_websocket(|websocket| {
            while let Ok(Message::Binary(bytes)) = websocket.read() {
                let mut bytes = bytes.to_vec();
                bytes[50] ^= 1;
                let _ = websocket.send(Message::Binary(bytes.into()));
            }
        });
        check_wrong("wrong_echo", &changed, &args);
        let other_kind = serve_websocket(|websocket| {
            while let Ok(Message::Binary(bytes)) = websocket.read() {
                let _ = websocket.send(Message::Text(String::from_utf8_lossy(&bytes).as_ref().into()));
            }
        });
        check_wrong("wrong_echo", &other_kind, &args);
        let closing = serve_websocket(|websocket| {
            let _ = websocket.read();
            let _ = websocket.close(Some(CloseFrame { code: CloseCode::Error, reason: "oops".into() }));
            while websocket.read().is_ok() {}
        });
        let said = check_wrong("closed_unanswered", &closing, &args);
        assert!(said.contains("1011"), "{said}");
        let masked = serve_websocket(|websocket| {
            let _ = websocket.read();
            let _ = websocket.get_mut().write_all(b"\x82\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
            let _ = websocket.get_mut().read(&mut [0]);
        });
        let said = check_wrong("bad_frame", &masked, &args);
        assert!(said.contains("mask"), "{said}");
        let truncating = serve_websocket(|websocket| {
            let _ = websocket.read();
            let _ = websocket.get_mut().write_all(b"\x82\x64");
            let _ = websocket.get_mut().shutdown(std::net::Shutdown::Write);
            let _ = websocket.get_mut().read(&mut [0]);
        });
        check_wrong("closed_early", &truncating, &args);
        let silent = serve_websocket(|websocket| {
            let _ = websocket.read();
            let _ = websocket.read();
        });
        check_wrong("timeout", &silent, &format!("--driver {driver} --timeout 100ms"));
    }
}

/// What a server says to a request with this key.
type Answer = fn(&str) -> String;

#[test]
fn a_server_that_does_not_agree_gets_no_message() {
    let answer = |head: Answer| {
        let address = serve_at(move |mut stream| {
            let mut request = String::new();
            let mut lines = BufReader::new(stream.try_clone().expect("the same stream"));
            while !request.ends_with("\r\n\r\n") {
                if lines.read_line(&mut request).is_ok_and(|bytes| bytes == 0) {
                    return;
                }
            }
            let key =
                request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).expect("a key");
            let _ = stream.write_all(head(key).as_bytes());
        });
        format!("ws://{address}/")
    };
    let cases: [(Answer, &str); 5] = [
        (|_| "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".into(), "status 200"),
        (
            |_| {
                "HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n".into()
            },
            "Sec-WebSocket-Accept",
        ),
        (
            |key| {
                let accept = derive_accept_key(key.as_bytes());
                format!(
                    "HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
                )
            },
            "extension",
        ),
        (|_| "SSH-2.0-nobody\r\n\r\n".into(), "no HTTP/1"),
        (|_| "HTTP/1.1 101 x\r\n".into(), "closed before"),
    ];
    for driver in DRIVERS {
        for (head, reason) in cases {
            let run = loadgen(&answer(head), &format!("-c 1 -t 1 -d 150ms --driver {driver}"));
            assert_eq!((run.code, run.count("/requests/sent")), (Some(1), 0), "{reason}: {run:?}");
            run.assert_adds_up();
            assert!(run.errors("handshake") >= 1, "{reason}: {run:?}");
            let said = run.json["errors"]["first"]["handshake"].as_str().expect("a detail");
            assert!(said.contains(reason), "{reason}: {said}");
        }
    }
}

#[test]
fn a_number_of_messages_ends_where_no_handshake_succeeds() {
    let url = serve_always("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").replace("http:", "ws:");
    for driver in DRIVERS {
        let run = loadgen(&url, &format!("-c 2 -t 1 -n 100 --timeout 200ms --driver {driver}"));
        assert_eq!((run.code, run.count("/requests/sent")), (Some(1), 0), "{run:?}");
        assert_eq!(run.count("/threads_stranded"), 1, "that connections are opened is not enough: {run:?}");
        run.assert_adds_up();
    }
}

#[test]
fn fields_reach_the_server_and_its_choice_of_subprotocol_is_taken() {
    let url = {
        let address = serve_at(|stream| {
            #[expect(clippy::result_large_err, reason = "the form of tungstenite's callback")]
            let choose = |request: &tungstenite::handshake::server::Request,
                          mut answer: tungstenite::handshake::server::Response| {
                assert_eq!(
                    (request.uri().path(), &request.headers()["x-who"]),
                    ("/chat", &"me".parse().expect("text"))
                );
                answer.headers_mut().insert("Sec-WebSocket-Protocol", "mqtt".parse().expect("a value"));
                Ok(answer)
            };
            if let Ok(mut websocket) = tungstenite::accept_hdr(stream, choose) {
                echo_to_the_end(&mut websocket);
            }
        });
        format!("ws://{address}/chat")
    };
    check_right(&url, "-c 1 -H X-Who:me -H Sec-WebSocket-Protocol:chat,mqtt", 3);
    let run = loadgen(&url, "-c 1 -t 1 -d 100ms -H X-Who:me");
    assert!(run.errors("handshake") >= 1, "nobody offered mqtt: {run:?}");
}

#[test]
fn a_client_of_another_make_gets_its_messages_back_from_the_origin() {
    for driver in DRIVERS {
        let origin = Origin::start(&format!("--driver {driver}"));
        let (mut client, answer) =
            tungstenite::client(origin.websocket_url(), origin.connect()).expect("the origin agrees");
        assert_eq!(answer.status(), 101);
        for message in [Message::text("Grüße"), Message::binary(vec![0; 70_000]), Message::text("")] {
            client.send(message.clone()).expect("it takes messages");
            assert_eq!(client.read().expect("an echo"), message);
        }
        client.send(Message::Ping(vec![1, 2, 3].into())).expect("it takes pings");
        assert_eq!(client.read().expect("a pong"), Message::Pong(vec![1, 2, 3].into()));
        client.close(Some(CloseFrame { code: CloseCode::Away, reason: "".into() })).expect("a leave");
        let Ok(Message::Close(Some(frame))) = client.read() else { panic!("no leave") };
        assert_eq!(frame.code, CloseCode::Away);
        assert!(client.read().is_err(), "the connection ends");
    }
}

/// Echoes with Python's `websockets`, in fragments when the message is long, and ends with its input.
const PYTHON_SERVER: &str = r#"
import asyncio, sys
from websockets.asyncio.server import serve

async def echo(socket):
    async for message in socket:
        if len(message) > 1000:
            await socket.send([message[:10], message[10:500], message[500:]])
            await socket.ping()
        else:
            await socket.send(message)

async def main():
    async with serve(echo, "127.0.0.1", 0, max_size=None, compression=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

asyncio.run(main())
"#;

#[test]
fn a_third_make_of_server_understands_us_too() {
    let named = std::env::var("LOADGEN_TEST_PYTHON").ok();
    let python = named.clone().unwrap_or_else(|| "python3".into());
    let has_library = Command::new(&python)
        .args(["-c", "import websockets.asyncio.server"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !has_library {
        assert_eq!(named, None, "the Python named in LOADGEN_TEST_PYTHON has no websockets library");
        eprintln!("NOTE: {python} has no websockets library; not tested against it");
        return;
    }
    let mut server = Command::new(&python)
        .args(["-c", PYTHON_SERVER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python starts");
    let mut port = String::new();
    BufReader::new(server.stdout.take().expect("its output")).read_line(&mut port).expect("its port");
    let url = format!("ws://127.0.0.1:{}/", port.trim());
    for driver in DRIVERS {
        for args in ["--size 10", "--size 5000 --text", "--size 200000"] {
            check_right(&url, &format!("-c 3 {args} --driver {driver}"), 60);
        }
    }
    drop(server.stdin.take());
    assert!(server.wait().expect("it ends").success());
}
