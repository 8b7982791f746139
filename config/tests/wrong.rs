//! Is every mistake named, with its line, its column, its key and its cause?

use config::{Format, Loaded, Problem, Problems, Severity, load_str};

/// The first line of texts that are about something else.
const WEB: &str = "listener.web.bind = \"127.0.0.1:80\"\n";

fn load(text: &str, format: Format) -> Result<Loaded, Problems> {
    load_str("f", text, format, &|_| None)
}

/// A problem as its line says it, without the name of the file.
fn without_file(problem: &Problem) -> String {
    let line = problem.to_string();
    line.strip_prefix("f:").unwrap_or(&line).to_owned()
}

#[track_caller]
fn check(text: &str, format: Format, expected: &[&str]) {
    let problems = load(text, format).expect_err(text);
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
    assert_eq!(errors.map(without_file).collect::<Vec<_>>(), expected, "{text}");
}

#[track_caller]
fn wrong(text: &str, expected: &[&str]) {
    check(text, Format::Toml, expected);
}

#[track_caller]
fn wrong_below_web(text: &str, expected: &[&str]) {
    check(&format!("{WEB}{text}"), Format::Toml, expected);
}

#[track_caller]
fn wrong_json(text: &str, expected: &[&str]) {
    check(text, Format::Json, expected);
}

#[track_caller]
fn warned(text: &str, expected: &[&str]) {
    let loaded = load(&format!("{WEB}{text}"), Format::Toml).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(loaded.warnings.iter().map(without_file).collect::<Vec<_>>(), expected, "{text}");
}

#[test]
fn names_mistakes_of_form() {
    wrong(
        "",
        &[r#"1:1: listener: no listener is defined (add [listener.web] with bind = "127.0.0.1:8080")"#],
    );
    wrong(r#"listener.web.bind = "127.0.0.1:80"#, &[r#"1:34: the string is not closed (end it with ")"#]);
    wrong(
        r#"[listener.web
bind = "127.0.0.1:80""#,
        &["1:14: unclosed table, expected `]` (close it with ])"],
    );
    wrong_below_web(
        "node.id = \nprocess = { spin = }\n",
        &[
            "2:11: the value is missing (for example \"127.0.0.1:8080\")",
            "3:20: the value is missing (for example \"127.0.0.1:8080\")",
        ],
    );
    wrong(
        r#"listener.web.bind = "127.0.0.1:80"
listener.web.bind = "127.0.0.1:80"
"#,
        &["2:14: duplicate key (keep one of the two)"],
    );
    wrong_below_web(
        r#"[listener.web]
backlog = 1"#,
        &["2:11: duplicate key (keep one of the two)"],
    );
    wrong(
        r#"[listener.web]
bind = "127.0.0.1:80"
bind = "127.0.0.1:81""#,
        &["3:1: duplicate key (keep one of the two)"],
    );
    wrong_json("", &["1:1: the text is empty, expected an object"]);
    wrong_json("[]", &["1:1: expected an object, found a list"]);
    wrong_json(
        r#"{"listener": {"web": {"bind": "127.0.0.1:80"}},}"#,
        &["1:47: trailing commas are not allowed (remove the comma)"],
    );
    wrong_json(
        r#"{"listener": {"web": {"bind": "127.0.0.1:80"}} // comment
}"#,
        &["1:48: comments are not allowed (remove it; TOML has comments)"],
    );
    wrong_json(
        r#"{"listener": {"web": {
  "bind": "127.0.0.1:80",
  "bind": null}}}"#,
        &["3:3: listener.web.bind: duplicate key (keep one of the two)"],
    );
    wrong_json(
        r#"{"listener": {"web": {"bind": "127.0.0.1:80", "backlog": null}}}"#,
        &["1:58: listener.web.backlog: expected an integer, found null"],
    );
}

#[test]
fn an_admin_listener_that_asks_no_one_stays_on_this_host() {
    wrong_below_web(
        r#"channel.c.respond = {}
admin.bind = "0.0.0.0:9000""#,
        &[
            r#"3:14: admin.bind: the admin listener asks no one who he is and could be reached from the network (bind it to "127.0.0.1:9000", name a [security.NAME] in admin.security, or write allow_open = true)"#,
        ],
    );
}

#[test]
fn names_unknown_keys() {
    wrong_below_web(
        r#"listner.web.bind = "127.0.0.1:81""#,
        &[r#"2:1: listner: unknown key (did you mean "listener"?)"#],
    );
    wrong_below_web(
        "listener.web.binds = 1",
        &[r#"2:14: listener.web.binds: unknown key (did you mean "bind"?)"#],
    );
    wrong_below_web(
        r#"cluster.url = "x""#,
        &[
            "2:1: cluster: unknown key (known: node, process, store, listener, channel, upstream, security, access_log, admin, telemetry, include, $schema)",
        ],
    );
    wrong_below_web(
        r#"upstream.u.endpoints = [{ address = "10.0.0.1:80", wieght = 2 }]"#,
        &[r#"2:52: upstream.u.endpoints[0].wieght: unknown key (did you mean "weight"?)"#],
    );
    wrong_below_web(
        r#"channel.c = { upstream = "u", match = { metods = ["GET"] } }
upstream.u.endpoints = ["10.0.0.1:80"]"#,
        &[r#"2:41: channel.c.match.metods: unknown key (did you mean "methods"?)"#],
    );
}

#[test]
fn names_wrong_types() {
    wrong(r#"listener = "web""#, &["1:12: listener: expected a table, found a string"]);
    wrong(
        r#"listener.web = "127.0.0.1:80""#,
        &[
            "1:16: listener.web: expected a table, found a string (tables of this kind have names, and keys in them: [listener.NAME])",
        ],
    );
    wrong(
        "listener.web.bind = 80",
        &[
            r#"1:21: listener.web.bind: expected a string, found an integer (write "127.0.0.1:80", or "0.0.0.0:80" for every address)"#,
        ],
    );
    wrong_below_web(
        r#"listener.web.backlog = "many""#,
        &["2:24: listener.web.backlog: expected an integer, found a string"],
    );
    wrong_below_web(
        "listener.web.backlog = 1.5",
        &["2:24: listener.web.backlog: expected an integer, found a fractional number"],
    );
    wrong_below_web(
        r#"process.accept_handoff = "true""#,
        &["2:26: process.accept_handoff: expected true or false, found a string (write true)"],
    );
    wrong_below_web(
        "node.id = 2024-01-01",
        &["2:11: node.id: expected a string, found a date (put it in quotes)"],
    );
    wrong_below_web(
        r#"channel.c = { respond = {}, match = { methods = "GET" } }"#,
        &[r#"2:49: channel.c.match.methods: expected a list, found a string (write ["GET"])"#],
    );
    wrong_below_web(
        "channel.c = { respond = {}, match = { host = [1] } }",
        &["2:47: channel.c.match.host[0]: expected a string, found an integer"],
    );
}

#[test]
fn names_bad_names() {
    wrong(
        r#"[listener."my web"]
bind = "127.0.0.1:80""#,
        &[
            r#"1:11: listener."my web": a name consists of A-Z a-z 0-9 _ - . only, found ' ' (for example "my_web")"#,
        ],
    );
    wrong_below_web(r#"node.id = """#, &["2:11: node.id: a name has at least one character"]);
    wrong_below_web(
        r#"node.id = "abcdefghijklmnopqrstuvwxyz01234""#,
        &["2:11: node.id: a name has at most 30 characters, found 31"],
    );
    wrong_below_web(
        r#"node.id = "nøde""#,
        &[r#"2:11: node.id: a name consists of A-Z a-z 0-9 _ - . only, found 'ø' (for example "n_de")"#],
    );
}

#[test]
fn names_bad_listeners() {
    wrong(
        r#"[listener.web]
backlog = 10"#,
        &[r#"1:11: listener.web.bind: is missing (for example bind = "0.0.0.0:8080")"#],
    );
    wrong(
        r#"listener.web.bind = "8080""#,
        &[
            r#"1:21: listener.web.bind: the host is missing (write "127.0.0.1:8080", or "0.0.0.0:8080" for every address)"#,
        ],
    );
    // What is quoted of a value neither breaks the line nor speaks to a terminal.
    wrong(
        "listener.web.bind = \"http://a:80\\n\\u001b[2J\"",
        &[r#"1:21: listener.web.bind: an address is written IP:PORT, found a URL (write "a:80\n\u{1b}[2J")"#],
    );
    wrong(
        r#"listener.web.bind = "web.example:80""#,
        &[
            r#"1:21: listener.web.bind: an address to listen on is no host name, found "web.example" (write an IP address or "localhost")"#,
        ],
    );
    wrong(
        r#"listener.web.bind = "127.0.0.1:70000""#,
        &[r#"1:21: listener.web.bind: a port is a number from 0 to 65535, found "70000""#],
    );
    wrong_below_web(
        r#"listener.web.protocol = "udp""#,
        &[r#"2:25: listener.web.protocol: unknown protocol "udp" (known: http, https, tcp, tls)"#],
    );
    wrong_below_web(
        r#"listener.web.protocol = "htpp""#,
        &[r#"2:25: listener.web.protocol: unknown protocol "htpp" (did you mean "http"?)"#],
    );
    wrong_below_web("listener.web.backlog = 0", &["2:24: listener.web.backlog: must be 1 to 65535, found 0"]);
    wrong_below_web(
        r#"listener.web.limits = { head_bytes = "128KiB", fields = 129 }"#,
        &[
            "2:38: listener.web.limits.head_bytes: must be 512B to 64KiB, found 128KiB",
            "2:57: listener.web.limits.fields: must be 1 to 128, found 129",
        ],
    );
    wrong_below_web(
        r#"listener.web.limits = { head_bytes = "1B", fields = 0 }"#,
        &[
            "2:38: listener.web.limits.head_bytes: must be 512B to 64KiB, found 1B",
            "2:53: listener.web.limits.fields: must be 1 to 128, found 0",
        ],
    );
    wrong_below_web(
        r#"listener.web.timeouts = { head = 10, idle = "0s", body = "2 s", send = "25h" }"#,
        &[
            r#"2:34: listener.web.timeouts.head: a duration needs a unit: us, ms, s, m, h (write "10s")"#,
            "2:45: listener.web.timeouts.idle: must be 1ms to 24h, found 0s",
            r#"2:58: listener.web.timeouts.body: unknown unit " s", known are us, ms, s, m, h (did you mean "2s"?)"#,
            "2:72: listener.web.timeouts.send: must be 1ms to 24h, found 25h",
        ],
    );
    wrong_below_web(
        r#"listener.web.forwarding = { trusted = ["10.0.0.1/8", "lan", 5], via = "two words" }"#,
        &[
            r#"2:40: listener.web.forwarding.trusted[0]: 10.0.0.1 has bits set after the first 8 (did you mean "10.0.0.0/8"?)"#,
            r#"2:54: listener.web.forwarding.trusted[1]: a network is an IP address with a prefix length, found "lan" (for example "10.0.0.0/8" or "fd00::/8")"#,
            "2:61: listener.web.forwarding.trusted[2]: expected a string, found an integer",
            r#"2:71: listener.web.forwarding.via: expected a token (letters, digits and !#$%&'*+-.^_`|~), found "two words""#,
        ],
    );
    wrong_below_web(
        r#"listener.api.bind = "127.0.0.1:80""#,
        &[
            "2:21: listener.api.bind: 127.0.0.1:80 is already bound by listener.web.bind (choose another port)",
        ],
    );
    wrong_below_web(
        r#"listener.own = { bind = "0.0.0.0:81", internal = "yes" }"#,
        &["2:50: listener.own.internal: expected true or false, found a string (write true)"],
    );
    wrong_below_web(
        r#"listener.own = { bind = "0.0.0.0:81", internal = true }
listener.v6 = { bind = "[2001:db8::1]:82", internal = true }"#,
        &[
            r#"2:25: listener.own.bind: an internal listener is bound to loopback, and 0.0.0.0 is not (bind it to "127.0.0.1:81", or leave internal out)"#,
            r#"3:24: listener.v6.bind: an internal listener is bound to loopback, and 2001:db8::1 is not (bind it to "127.0.0.1:82", or leave internal out)"#,
        ],
    );
    wrong(
        r#"listener.web.bind = "localhost:9000""#,
        &["1:21: listener.web.bind: 127.0.0.1:9000 is already bound by admin.bind (choose another port)"],
    );
}

#[test]
fn names_bad_limits() {
    wrong_below_web(
        r#"listener.web.limits = { target_bytes = "1B", body_bytes = 5, body_rate = "2GiB", trailers = 1001 }"#,
        &[
            "2:40: listener.web.limits.target_bytes: must be 64B to 64KiB, found 1B",
            r#"2:59: listener.web.limits.body_bytes: a size needs a unit: B, KB, KiB, MB, MiB, GB, GiB (write "5B")"#,
            "2:74: listener.web.limits.body_rate: must be 0B to 1GiB, found 2GiB",
            "2:93: listener.web.limits.trailers: must be 0 to 1000, found 1001",
        ],
    );
    wrong_below_web(
        "listener.web.limits = { pipelined = 0, requests = -1, connections = 0, connections_per_address = 'x' }",
        &[
            "2:37: listener.web.limits.pipelined: must be 1 to 65535, found 0",
            "2:51: listener.web.limits.requests: must be 1 to 1000000000, found -1",
            "2:69: listener.web.limits.connections: must be 1 to 10000000, found 0",
            "2:98: listener.web.limits.connections_per_address: expected an integer, found a string",
        ],
    );
    wrong_below_web(
        r#"channel.c = { respond = {}, limits = { body_byte = "1B" } }
upstream.u = { endpoints = ["10.0.0.1:80"], limits = { body_bytes = "1B" } }
listener.web.retry_after = "500ms""#,
        &[
            r#"2:40: channel.c.limits.body_byte: unknown key (did you mean "body_bytes"?)"#,
            r#"3:56: upstream.u.limits.body_bytes: unknown key (it is a key of [channel.NAME.limits], [channel.NAME.mirror], [listener.NAME.limits])"#,
            "4:28: listener.web.retry_after: must be 1s to 1h, found 500ms",
        ],
    );
    warned(
        "listener.web.limits = { connections = 10, connections_per_address = 11 }\nchannel.c.respond = {}",
        &[
            "2:69: warning: listener.web.limits.connections_per_address: never reached: all clients together may have 10 (connections)",
        ],
    );
}

#[test]
fn names_bad_error_pages() {
    wrong_below_web(
        r#"[listener.web.error_page]
200 = { body = "x" }
0502 = { body = "x" }
502 = { body = "x", file = "x" }
503 = {}
504 = "x"
500 = { body = "x", content_type = "html" }"#,
        &[
            "3:1: listener.web.error_page.200: an error page is named by its status, 400 to 599",
            "4:1: listener.web.error_page.0502: an error page is named by its status, 400 to 599",
            "5:28: listener.web.error_page.502.file: a page has either a body or a file (keep one of the two)",
            r#"6:1: listener.web.error_page.503: a page has a body or a file, found neither (for example file = "pages/502.html")"#,
            "7:7: listener.web.error_page.504: expected a table, found a string",
            r#"8:36: listener.web.error_page.500.content_type: a content type is written type/subtype, found "html" (for example "text/plain; charset=utf-8")"#,
        ],
    );
    // A text that is not a file has no directory where others could be.
    wrong_below_web(
        r#"channel.c = { respond = {}, error_page.502.file = "x.html" }"#,
        &["2:51: channel.c.error_page.502.file: a file can be named in a configuration file only"],
    );
}

#[test]
fn names_listeners_in_the_way_of_admin() {
    let overlap =
        "1:21: listener.web.bind: 0.0.0.0:9000 overlaps 127.0.0.1:9000 of admin.bind (choose another port)";
    wrong(r#"listener.web.bind = "0.0.0.0:9000""#, &[overlap]);
    let off = "listener.b.bind = \"127.0.0.1:9000\"\nadmin.enabled = false\nchannel.c.respond = {}";
    warned(off, &[]);
}

#[test]
fn names_bad_process_settings() {
    wrong_below_web(
        r#"[process]
buffers_per_core = 15
buffer_size = 65536
spin = "11ms"
drain_timeout = "2h""#,
        &[
            "3:20: process.buffers_per_core: must be 16 to 65535, found 15",
            r#"4:15: process.buffer_size: a size needs a unit: B, KB, KiB, MB, MiB, GB, GiB (write "65536B")"#,
            "5:8: process.spin: must be 0s to 10ms, found 11ms",
            "6:17: process.drain_timeout: must be 0s to 1h, found 2h",
        ],
    );
    wrong_below_web(
        r#"process.buffer_size = "2MiB""#,
        &["2:23: process.buffer_size: must be 4KiB to 1MiB, found 2MiB"],
    );
    wrong_below_web(
        r#"process = { buffer_size = "8KiB" }
listener.web.limits.head_bytes = "16KiB""#,
        &[
            r#"3:34: listener.web.limits.head_bytes: a head does not fit a buffer (process.buffer_size) (at most "8KiB", or a larger process.buffer_size)"#,
        ],
    );
}

#[test]
fn names_bad_channels() {
    wrong_below_web(
        "channel.c = { enabled = true }",
        &[
            r#"2:9: channel.c: a channel has an upstream, a response or a redirect, found none (for example upstream = "NAME")"#,
        ],
    );
    wrong_below_web(
        r#"channel.c = { upstream = "u", respond = {} }
upstream.u.endpoints = ["10.0.0.1:80"]"#,
        &[
            "2:31: channel.c.respond: a channel has either an upstream, a response or a redirect (keep one of the two)",
        ],
    );
    wrong_below_web(
        r#"channel.c.upstream = "fhri"
upstream.fhir.endpoints = ["10.0.0.1:80"]"#,
        &[r#"2:22: channel.c.upstream: there is no upstream "fhri" (did you mean "fhir"?)"#],
    );
    wrong_below_web(
        r#"channel.c.upstream = "fhir""#,
        &[r#"2:22: channel.c.upstream: there is no upstream "fhir""#],
    );
    wrong_below_web(
        r#"channel.c = { respond = {}, match = { listener = "wbe" } }"#,
        &[r#"2:50: channel.c.match.listener: there is no listener "wbe" (did you mean "web"?)"#],
    );
    wrong_below_web(
        r#"channel.c = { respond = {}, match = { listener = ["web", "x"] } }"#,
        &[r#"2:58: channel.c.match.listener[1]: there is no listener "x" (known: web)"#],
    );
    wrong_below_web(
        r#"channel.c = { respond = {}, match = { path = "^/(a", host = "a:80" } }"#,
        &[
            "2:46: channel.c.match.path: not a regular expression: unclosed group",
            "2:61: channel.c.match.host: a host pattern has no port; match on the listener instead",
        ],
    );
    wrong_below_web(
        r#"channel.c = { respond = {}, match = { path = "(x{1000}){1000}" } }"#,
        &[
            "2:46: channel.c.match.path: not a regular expression: regular expression compiles to more than 1048576 bytes",
        ],
    );
    wrong_below_web(
        r#"channel.c = { enabled = false, respond = {}, match = { path = "[z-a]" } }"#,
        &[
            "2:63: channel.c.match.path: not a regular expression: invalid character class range, the start must be <= the end",
        ],
    );
    wrong_below_web(
        r#"channel.c = { respond = {}, match = { path = "a", path_prefix = "/b" } }"#,
        &["2:65: channel.c.match.path_prefix: path is given as well (keep one of the two)"],
    );
    wrong_below_web(
        r#"channel.c = { respond = {}, match = { path_prefix = "b" } }"#,
        &[r#"2:53: channel.c.match.path_prefix: a path starts with a slash, found "b" (did you mean "/b"?)"#],
    );
    wrong_below_web(
        r#"channel.c = { respond = {}, match = { path_exact = "/b?x" } }"#,
        &["2:52: channel.c.match.path_exact: '?' cannot stand in the path of a request"],
    );
    wrong_below_web(
        r#"channel.c = { respond = {}, match = { methods = ["get", "G T"] } }"#,
        &[
            r#"2:50: channel.c.match.methods[0]: methods are case-sensitive, found "get" (did you mean "GET"?)"#,
            r#"2:57: channel.c.match.methods[1]: expected a token (letters, digits and !#$%&'*+-.^_`|~), found "G T""#,
        ],
    );
    wrong_below_web(
        "channel.c = { respond = {}, match = { methods = [] } }",
        &["2:49: channel.c.match.methods: the list is empty (name at least one, or leave the key out)"],
    );
    wrong_below_web(
        r#"channel.c = { respond = {}, match = { host = ["*a.example", "", "é.example"] } }"#,
        &[
            r#"2:47: channel.c.match.host[0]: a wildcard stands for whole labels in front: "*.example.org""#,
            "2:61: channel.c.match.host[1]: a host pattern needs a name",
            "2:65: channel.c.match.host[2]: a host name has letters, digits, '-', '_' and single dots; write others in their xn-- form",
        ],
    );
    wrong_below_web(
        "channel.c = { respond = {}, priority = 0 }",
        &["2:40: channel.c.priority: must be 1 to 65535, found 0"],
    );
    wrong_below_web(
        r#"channel.c = { respond = {}, timeouts = { total = "0ms" } }"#,
        &["2:50: channel.c.timeouts.total: must be 1ms to 24h, found 0ms"],
    );
    wrong_below_web(
        r#"channel.c.respond = { status = 199, content_type = "text" }"#,
        &[
            "2:32: channel.c.respond.status: must be 200 to 599, found 199",
            r#"2:52: channel.c.respond.content_type: a content type is written type/subtype, found "text" (for example "text/plain; charset=utf-8")"#,
        ],
    );
    wrong_below_web(
        r#"channel.c.respond = { status = 204, body = "x" }"#,
        &["2:44: channel.c.respond.body: an answer with status 204 has no body"],
    );
    wrong_below_web(
        r#"channel.c.respond.content_type = "text/plain\r\nX: y""#,
        &[r#"2:34: channel.c.respond.content_type: a field value has no control characters, found '\r'"#],
    );
}

#[test]
fn names_bad_upstreams() {
    wrong_below_web(
        r#"channel.c.upstream = "u"
[upstream.u]
balance = "round-robin""#,
        &[
            r#"3:11: upstream.u.endpoints: is missing (for example endpoints = ["10.0.0.1:8000"])"#,
            r#"4:11: upstream.u.balance: unknown balance "round-robin" (did you mean "round_robin"?)"#,
        ],
    );
    wrong_below_web(
        r#"channel.c.upstream = "u"
upstream.u.endpoints = []"#,
        &["3:24: upstream.u.endpoints: the list is empty (name at least one, or leave the key out)"],
    );
    wrong_below_web(
        r#"channel.c.upstream = "u"
upstream.u.endpoints = ["10.0.0.1:0", "http://10.0.0.1:80/", "::1", {}, { address = 5 }, true]"#,
        &[
            "3:25: upstream.u.endpoints[0]: port 0 cannot be connected to",
            r#"3:39: upstream.u.endpoints[1]: an address is written IP:PORT, found a URL (write "10.0.0.1:80")"#,
            r#"3:62: upstream.u.endpoints[2]: an IPv6 address stands in brackets before its port (for example "[::1]:8080")"#,
            r#"3:69: upstream.u.endpoints[3].address: is missing (for example address = "10.0.0.1:8000")"#,
            "3:85: upstream.u.endpoints[4].address: expected a string, found an integer (write \"5\")",
            "3:90: upstream.u.endpoints[5]: expected a string, found a boolean",
        ],
    );
    wrong_below_web(
        r#"channel.c.upstream = "u"
upstream.u.endpoints = ["listener:origin", "listener:wbe"]"#,
        &[
            r#"3:25: upstream.u.endpoints[0]: there is no listener "origin" (known: web)"#,
            r#"3:44: upstream.u.endpoints[1]: there is no listener "wbe" (did you mean "web"?)"#,
        ],
    );
    wrong_below_web(
        r#"channel.c.upstream = "u"
upstream.u = { endpoints = ["10.0.0.1:80"], idle_connections = 65536, idle_timeout = "0s", timeouts = { connect = "0s" } }"#,
        &[
            "3:64: upstream.u.idle_connections: must be 0 to 65535, found 65536",
            "3:86: upstream.u.idle_timeout: must be 1ms to 24h, found 0s",
            "3:115: upstream.u.timeouts.connect: must be 1ms to 24h, found 0s",
        ],
    );
    wrong_below_web(
        r#"channel.c.upstream = "u"
upstream.u = { endpoints = ["0.0.0.0:80"], limits = { head_bytes = "65KiB" } }"#,
        &[
            r#"3:29: upstream.u.endpoints[0]: 0.0.0.0:80 stands for every address of this host and cannot be connected to (did you mean "127.0.0.1:80"?)"#,
            "3:68: upstream.u.limits.head_bytes: must be 512B to 64KiB, found 65KiB",
        ],
    );
}

#[test]
fn names_bad_admin_listeners() {
    wrong_below_web(
        r#"admin = { bind = "nowhere", enable = false }"#,
        &[
            r#"2:18: admin.bind: the port is missing (for example "127.0.0.1:8080")"#,
            r#"2:29: admin.enable: unknown key (did you mean "enabled"?)"#,
        ],
    );
}

#[test]
fn names_unresolved_environment() {
    wrong(
        r#"listener.web.bind = "127.0.0.1:${NO_SUCH_PORT}""#,
        &[
            r#"1:32: listener.web.bind: the environment variable NO_SUCH_PORT is not set (set it, or give a default: "${NO_SUCH_PORT:-…}")"#,
        ],
    );
    wrong(
        r#"listener.web.bind = "127.0.0.1:${PORT"
node.id = "${1}""#,
        &[
            r#"1:32: listener.web.bind: "${" without a closing "}" (write "$${" for a literal "${")"#,
            r#"2:12: node.id: "1" is not the name of an environment variable (write "$${" for a literal "${")"#,
        ],
    );
    wrong(
        r#"listener.web = { bind = "127.0.0.1:${PORT:-http}", backlog = "${BACKLOG:-x}" }"#,
        &[
            r#"1:25: listener.web.bind: a port is a number from 0 to 65535, found "http""#,
            r#"1:62: listener.web.backlog: expected an integer, found "x""#,
        ],
    );
}

#[test]
fn names_every_problem_of_one_text_at_once() {
    wrong(
        r#"listener.web = { bind = "${NO_SUCH_BIND}", backlog = 0 }
channel.c = { respond = {}, priority = "${P:-7}", bogus = 1 }"#,
        &[
            r#"1:26: listener.web.bind: the environment variable NO_SUCH_BIND is not set (set it, or give a default: "${NO_SUCH_BIND:-…}")"#,
            "1:54: listener.web.backlog: must be 1 to 65535, found 0",
            "2:51: channel.c.bogus: unknown key (known: upgrade, connect, enabled, requires, access_log, priority, upstream, match, allow, deny, rate, token, respond, redirect, rewrite, request_headers, response_headers, fault, mirror, concurrency, limits, timeouts, hedge, error_page)",
        ],
    );
    wrong_json(
        r#"{"node": {"id": "café"}, "listener": {}}"#,
        &[
            r#"1:17: node.id: a name consists of A-Z a-z 0-9 _ - . only, found 'é' (for example "caf_")"#,
            r#"1:26: listener: no listener is defined (add [listener.web] with bind = "127.0.0.1:8080")"#,
        ],
    );
    wrong(
        "[listener]",
        &[r#"1:2: listener: no listener is defined (add [listener.web] with bind = "127.0.0.1:8080")"#],
    );
    wrong(
        r#"listener.web.bind = "*:80"
upstream = 3
channel = []"#,
        &[
            r#"1:21: listener.web.bind: every address of this host is written 0.0.0.0, or [::] with IPv6 (write "0.0.0.0:80")"#,
            "2:12: upstream: expected a table, found an integer",
            "3:11: channel: expected a table, found a list (each has a name: [channel.NAME])",
        ],
    );
    wrong(
        r#"[node]
id = "a b"
[listner.web]
[upstream.u]
endpoints = ["x"]
idel_timeout = "1s""#,
        &[
            r#"2:6: node.id: a name consists of A-Z a-z 0-9 _ - . only, found ' ' (for example "a_b")"#,
            r#"3:2: listner: unknown key (did you mean "listener"?)"#,
            r#"5:14: upstream.u.endpoints[0]: the port is missing (for example "127.0.0.1:8080")"#,
            r#"6:1: upstream.u.idel_timeout: unknown key (did you mean "idle_timeout"?)"#,
        ],
    );
}

#[test]
fn warns_of_what_hardly_does_what_was_meant() {
    warned("", &["1:10: warning: listener.web: no channel takes its requests: all of them are answered 404"]);
    warned(
        r#"channel.c.respond = {}
upstream.u.endpoints = ["10.0.0.1:80"]"#,
        &["3:10: warning: upstream.u: neither a channel nor a listener uses it"],
    );
    warned(
        r#"channel.c.upstream = "u"
upstream.u.endpoints = ["10.0.0.1:80", { address = "10.0.0.1:80" }]"#,
        &[
            "3:40: warning: upstream.u.endpoints[1]: 10.0.0.1:80 is listed more than once and gets that many shares",
        ],
    );
    warned(
        r#"channel.a.respond = {}
channel.b = { respond = {}, match.path_prefix = "/b" }"#,
        &[
            r#"3:9: warning: channel.b: never reached: channel "a" takes every request before it (give it a smaller priority, or move it up)"#,
        ],
    );
    warned(
        r#"channel.b = { respond = {}, match.path_prefix = "/b" }
channel.a = { respond = {}, priority = 7 }"#,
        &[
            r#"2:9: warning: channel.b: never reached: channel "a" takes every request before it (give it a smaller priority, or move it up)"#,
        ],
    );
    warned(
        r#"listener.any.bind = "0.0.0.0:80"
channel.c.respond = {}"#,
        &[
            "2:21: warning: listener.any.bind: 0.0.0.0:80 overlaps 127.0.0.1:80 of listener.web.bind: the narrower one takes its connections",
        ],
    );
    warned(
        r#"listener.own = { bind = "127.0.0.1:81", internal = true }
channel.c.upstream = "u"
upstream.u.endpoints = ["localhost:81"]"#,
        &[
            r#"2:10: warning: listener.own: an internal listener serves this process's own upstreams, and no endpoint refers to it (for example endpoints = ["listener:own"])"#,
        ],
    );
    warned(
        r#"listener.b.bind = "127.0.0.1:81"
channel.a = { respond = {}, match.listener = "web" }
channel.c = { respond = {}, match.listener = "web" }"#,
        &[
            "2:10: warning: listener.b: no channel takes its requests: all of them are answered 404",
            r#"4:9: warning: channel.c: never reached: channel "a" takes every request before it (give it a smaller priority, or move it up)"#,
        ],
    );
}

#[test]
fn a_problem_is_shown_with_its_line() {
    let problems = load("listener.web.bind = \"127.0.0.1:80\"\nlistner = 1\n", Format::Toml).unwrap_err();
    let rendered = problems.render(false);
    assert_eq!(
        rendered,
        "error: listner: unknown key\n --> f:2:1\n  |\n2 | listner = 1\n  | ^^^^^^^\n  |\n  = help: did you mean \"listener\"?"
    );
    assert!(problems.render(true).contains('\u{1b}'));
    assert!(!rendered.contains('\u{1b}'));
}

#[test]
fn names_rules_that_could_not_be_kept() {
    let channel = |keys: &str| format!("[channel.a]\nrespond = {{}}\n{keys}");
    let check = |keys: &str, expected: &[&str]| wrong_below_web(&channel(keys), expected);
    check("rate = []", &["4:8: channel.a.rate: the list is empty (name at least one, or leave the key out)"]);
    check(
        "rate = [{ by = 'user' }]",
        &[
            "4:9: channel.a.rate[0].rate: is missing (for example rate = \"100/s\")",
            "4:16: channel.a.rate[0].by: requests are counted by channel, address or header:NAME, found \"user\" \
             (for example \"header:X-Api-Key\")",
        ],
    );
    check(
        "rate = [{ rate = '10 per s' }, { rate = '0/s' }]",
        &[
            "4:18: channel.a.rate[0].rate: a rate is a number per s, m or h, found \"10 per s\" (for example \"100/s\")",
            "4:41: channel.a.rate[1].rate: a rate is 1 to 1000000 per s, m or h, found 0",
        ],
    );
    check(
        "rate = [{ rate = '1/h', burst = 25 }, { by = 'header:a b', rate = '1/s' }]",
        &[
            "4:33: channel.a.rate[0].burst: 25 at 1/h take longer than a day to be there again (a smaller burst)",
            "4:46: channel.a.rate[1].by: expected a token (letters, digits and !#$%&'*+-.^_`|~), found \"a b\"",
        ],
    );
    check(
        "rate = [{ by = 'address', rate = '10001/s' }, { rate = '1/s', keys = 2000 }]",
        &[
            "4:34: channel.a.rate[0].rate: at most 10000 a second where address tells requests apart, found 10001/s",
            "4:70: channel.a.rate[1].keys: means nothing where all requests are counted together (leave it out)",
        ],
    );
    check(
        "concurrency = { channel = 0 }",
        &["4:27: channel.a.concurrency.channel: must be 1 to 10000000, found 0"],
    );
    check(
        "allow = []\ndeny = ['10.0.0.1/8']",
        &[
            "4:9: channel.a.allow: the list is empty (name at least one, or leave the key out)",
            "5:9: channel.a.deny[0]: 10.0.0.1 has bits set after the first 8 (did you mean \"10.0.0.0/8\"?)",
        ],
    );
    wrong(
        "listener.a = { bind = 'unix:/a', deny = ['::1'] }",
        &["1:41: listener.a.deny: clients of a Unix socket have no address (leave it out)"],
    );
    warned(
        &channel("concurrency = { channel = 1, address = 2 }"),
        &[
            "4:40: warning: channel.a.concurrency.address: never reached: all clients together may have 1 (channel)",
        ],
    );
}

#[test]
fn names_changes_that_could_break_a_message() {
    let forward =
        |keys: &str| format!("upstream.u.endpoints = ['10.0.0.1:80']\n[channel.a]\nupstream = 'u'\n{keys}");
    let check = |keys: &str, expected: &[&str]| wrong_below_web(&forward(keys), expected);
    check(
        "request_headers = { set = { Content-Length = '1', Host = 'a b' }, remove = ['Host', 'TE'] }",
        &[
            "5:29: channel.a.request_headers.set.Content-Length: Content-Length frames the message or belongs to one hop, \
             and is not to be touched",
            "5:58: channel.a.request_headers.set.Host: a Host is a name or an address, with or without a port, found \"a b\"",
            "5:77: channel.a.request_headers.remove[0]: Host can be set, and neither added nor removed",
            "5:85: channel.a.request_headers.remove[1]: TE frames the message or belongs to one hop, and is not to be touched",
        ],
    );
    check(
        "response_headers = { add = { 'X Y' = 'a', X-A = \"a\\r\\nB: c\", X-B = '$${hots}', X-C = ' a' }, set = { Host = 'a' } }",
        &[
            "5:30: channel.a.response_headers.add.\"X Y\": expected a token (letters, digits and !#$%&'*+-.^_`|~), found \"X Y\"",
            "5:49: channel.a.response_headers.add.X-A: a field value has no control characters, found '\\r'",
            "5:68: channel.a.response_headers.add.X-B: nothing is called \"hots\" here (did you mean \"host\"?)",
            "5:86: channel.a.response_headers.add.X-C: a field value neither starts nor ends with a space",
            "5:102: channel.a.response_headers.set.Host: an answer has no Host",
        ],
    );
    check(
        "rewrite = {}",
        &["5:1: channel.a.rewrite: says nothing about the path (for example strip_prefix = \"/api\")"],
    );
    check(
        "rewrite = { strip_prefix = 'api', path = 'x' }",
        &[
            "5:28: channel.a.rewrite.strip_prefix: a path starts with a slash, found \"api\" (did you mean \"/api\"?)",
            "5:42: channel.a.rewrite.path: a path has its prefix changed or is replaced, not both (keep one of the two)",
        ],
    );
    check(
        "rewrite = { path = '(', to = '/' }",
        &["5:20: channel.a.rewrite.path: not a regular expression: unclosed group"],
    );
    check(
        "rewrite = { path = '(a)', to = '/$2' }",
        &["5:32: channel.a.rewrite.to: there is no group $2; the pattern has 1"],
    );
    check(
        "rewrite = { path = 'a', to = '/a?b' }",
        &["5:30: channel.a.rewrite.to: '?' cannot stand in the path of a request"],
    );
    let redirect = |redirect: &str| format!("[channel.a]\nredirect = {redirect}");
    let location = "a location begins with http://, https://, ${scheme}://, ${path} or one slash, found";
    let example = "(for example \"https://${host}${path}${query}\")";
    wrong_below_web(
        &redirect("{ status = 304, to = '//evil.example' }"),
        &[
            "3:23: channel.a.redirect.status: 304 sends nobody anywhere (one of 301, 302, 303, 307, 308)",
            &format!("3:33: channel.a.redirect.to: {location} \"//evil.example\" {example}"),
        ],
    );
    for to in ["ftp://a", "https://", "https:///x", "${host}", ""] {
        let problem = format!("3:19: channel.a.redirect.to: {location} {to:?} {example}");
        wrong_below_web(&redirect(&format!("{{ to = '{to}' }}")), &[&problem]);
    }
    wrong_below_web(
        &redirect("{ to = '/a b' }"),
        &["3:19: channel.a.redirect.to: ' ' cannot stand in a URL"],
    );
    wrong_below_web(
        &redirect("{ to = '/' }\nrequest_headers.remove = ['A']\nrewrite.add_prefix = '/x'"),
        &[
            "4:1: channel.a.request_headers: means nothing without an upstream (leave it out)",
            "5:1: channel.a.rewrite: means nothing without an upstream (leave it out)",
        ],
    );
}

#[test]
fn names_trials_that_could_not_be_made() {
    let forward = |keys: &str| {
        format!(
            "upstream.u.endpoints = ['10.0.0.1:80']\nupstream.p = {{ endpoints = ['10.0.0.2:80'], proxy_protocol = 'v1' }}\n\
             [channel.a]\nupstream = 'u'\n{keys}"
        )
    };
    let check = |keys: &str, expected: &[&str]| wrong_below_web(&forward(keys), expected);
    check(
        "fault = {}",
        &["6:1: channel.a.fault: a fault is a delay or an abort, found neither \
           (for example abort = { status = 503, share = \"1%\" })"],
    );
    check(
        "fault = { delay = { share = '101%' }, abort = { status = 200 } }",
        &[
            "6:11: channel.a.fault.delay.time: is missing (for example time = \"100ms\")",
            "6:29: channel.a.fault.delay.share: must be 0% to 100%, found 101%",
            "6:58: channel.a.fault.abort.status: must be 400 to 599, found 200",
        ],
    );
    check(
        "mirror = { upstream = 'shadow' }",
        &["6:23: channel.a.mirror.upstream: there is no upstream \"shadow\" (known: p, u)"],
    );
    check(
        "mirror = { upstream = 'p' }",
        &["6:23: channel.a.mirror.upstream: \"p\" wants PROXY headers, and a copy comes from no client"],
    );
    wrong_below_web(
        "[channel.a]\nrespond = {}\nmirror.upstream = 'u'\n[upstream.u]\nendpoints = ['10.0.0.1:80']",
        &["4:1: channel.a.mirror: means nothing without an upstream (leave it out)"],
    );
}
