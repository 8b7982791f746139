//! Is every mistake about TCP, TLS, tunnels and Unix sockets named, and what it may have meant?

use config::snapshot::{
    BindAddress, ClientAuthMode, EndpointAddress, Framing, Protocol, ProxyVersion, ServerNamePattern,
    Snapshot, TlsVersion, UnknownName, Upgrades, UpstreamId, Verify,
};
use config::{Format, Loaded, Problem, Problems, Severity, load_file, load_str};

/// The first lines of texts that are about one listener.
const UP: &str = "[upstream.up]\nendpoints = ['10.0.0.1:1']\n[listener.in]\n";

fn load(text: &str) -> Result<Loaded, Problems> {
    load_str("f", text, Format::Toml, &|_| None)
}

fn snapshot(text: &str) -> Snapshot {
    load(text).unwrap_or_else(|problems| panic!("{problems}")).snapshot
}

fn without_file(problem: &Problem) -> String {
    let line = problem.to_string();
    line.strip_prefix("f:").unwrap_or(&line).to_owned()
}

#[track_caller]
fn wrong(text: &str, expected: &[&str]) {
    let problems = load(text).expect_err(text);
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
    assert_eq!(errors.map(without_file).collect::<Vec<_>>(), expected, "{text}");
}

/// The listener `in` has these keys, from line 4 on.
#[track_caller]
fn wrong_listener(keys: &str, expected: &[&str]) {
    wrong(&format!("{UP}{keys}"), expected);
}

#[track_caller]
fn warned(text: &str, expected: &[&str]) {
    let loaded = load(text).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(loaded.warnings.iter().map(without_file).collect::<Vec<_>>(), expected, "{text}");
}

#[test]
fn a_listener_names_what_its_protocol_needs() {
    let needs = |protocol: &str, expected: &str| {
        wrong_listener(&format!("bind = '127.0.0.1:1'\nprotocol = '{protocol}'"), &[expected]);
    };
    needs("tcp", "3:11: listener.in.upstream: is missing (for example upstream = \"NAME\")");
    needs("tls", "3:11: listener.in.sni: is missing (for example sni = { \"a.example\" = \"NAME\" })");
    needs(
        "https",
        "3:11: listener.in.tls: is missing (for example tls = { certificates = [{ certificate = \"web.pem\", key = \"web.key\" }] })",
    );
}

#[test]
fn a_listener_refuses_what_means_nothing_for_its_protocol() {
    wrong_listener(
        "bind = '127.0.0.1:1'
protocol = 'tcp'
upstream = 'up'
retry_after = '1s'
forwarding = { via = false }
error_page = { 502 = { body = '' } }
limits = { head_bytes = '1KiB', connections = 5 }
timeouts = { idle = '1s', tunnel = '2s', handshake = '1s', lifetime = '3s', body = '1s' }
sni = { a = 'up' }
tls = { certificates = [{ certificate = '/a', key = '/b' }] }",
        &[
            r#"7:15: listener.in.retry_after: means nothing with protocol = "tcp" (leave it out)"#,
            r#"8:1: listener.in.forwarding: means nothing with protocol = "tcp" (leave it out)"#,
            r#"9:1: listener.in.error_page: means nothing with protocol = "tcp" (leave it out)"#,
            r#"10:25: listener.in.limits.head_bytes: means nothing with protocol = "tcp" (leave it out)"#,
            r#"11:21: listener.in.timeouts.idle: means nothing with protocol = "tcp" (did you mean "tunnel"?)"#,
            r#"11:84: listener.in.timeouts.body: means nothing with protocol = "tcp" (leave it out)"#,
            r#"12:1: listener.in.sni: means nothing with protocol = "tcp" (did you mean protocol = "tls"?)"#,
            r#"13:1: listener.in.tls: means nothing with protocol = "tcp" (did you mean protocol = "https"?)"#,
        ],
    );
    wrong_listener(
        "bind = '127.0.0.1:1'
upstream = 'up'
framing = 'raw'
sni = { a = 'up' }
tls = { certificates = [{ certificate = '/a', key = '/b' }] }",
        &[
            r#"5:12: listener.in.upstream: means nothing with protocol = "http" (requests find theirs by a channel: [channel.NAME] upstream = …)"#,
            r#"6:11: listener.in.framing: means nothing with protocol = "http" (did you mean protocol = "tcp"?)"#,
            r#"7:1: listener.in.sni: means nothing with protocol = "http" (did you mean protocol = "tls"?)"#,
            r#"8:1: listener.in.tls: means nothing with protocol = "http" (did you mean protocol = "https"?)"#,
        ],
    );
    wrong_listener(
        "bind = '127.0.0.1:1'\nprotocol = 'tls'\nupstream = 'up'\nframing = 'mllp'",
        &[
            r#"7:11: listener.in.framing: means nothing with protocol = "tls" (did you mean protocol = "tcp"?)"#,
        ],
    );
    // A word that is no protocol is the only mistake then.
    wrong_listener(
        "bind = '127.0.0.1:1'\nprotocol = 'tpc'\nupstream = 'up'",
        &[r#"5:12: listener.in.protocol: unknown protocol "tpc" (did you mean "tcp"?)"#],
    );
    wrong_listener(
        "bind = '127.0.0.1:1'\nprotocol = 'tcp'\nupstream = 'uo'\nframing = 'hl7'",
        &[
            r#"6:12: listener.in.upstream: there is no upstream "uo" (did you mean "up"?)"#,
            r#"7:11: listener.in.framing: unknown framing "hl7" (known: raw, line, mllp)"#,
        ],
    );
}

#[test]
fn server_names_are_names_and_each_stands_once() {
    wrong_listener(
        "bind = '127.0.0.1:1'
protocol = 'tls'
[listener.in.sni]
'a.example' = 'up'
'A.example.' = 'up'
'10.0.0.1' = 'up'
'a.*.example' = 'up'
'b.example:443' = 'up'
'c.example' = 'uo'
'd.example' = 5
'' = 'up'",
        &[
            "8:1: listener.in.sni.\"A.example.\": the same as one above, written in another way",
            "9:1: listener.in.sni.\"10.0.0.1\": clients do not ask for addresses, only for names (the key upstream takes clients that name no server)",
            "10:1: listener.in.sni.\"a.*.example\": a wildcard stands for whole labels in front: \"*.example.org\"",
            "11:1: listener.in.sni.\"b.example:443\": a server name has letters, digits, '-', '_' and single dots; write others in their xn-- form",
            "12:15: listener.in.sni.\"c.example\": there is no upstream \"uo\" (did you mean \"up\"?)",
            "13:15: listener.in.sni.\"d.example\": expected a string, found an integer",
            "14:1: listener.in.sni.\"\": a server name has at least one character",
        ],
    );
}

#[test]
fn tls_to_clients_names_its_mistakes() {
    let tls = |tls: &str, expected: &[&str]| {
        wrong_listener(&format!("bind = '127.0.0.1:1'\nprotocol = 'https'\ntls = {{ {tls} }}"), expected);
    };
    tls(
        "",
        &[
            "6:1: listener.in.tls.certificates: is missing (for example certificates = [{ certificate = \"web.pem\", key = \"web.key\" }])",
        ],
    );
    tls(
        "certificates = []",
        &["6:24: listener.in.tls.certificates: the list is empty (name at least one, or leave the key out)"],
    );
    tls(
        "certificates = [{ certificate = 'a.pem' }, 'b.pem', { certificate = '/b', key = '', keys = 1 }]",
        &[
            "6:25: listener.in.tls.certificates[0].key: is missing (for example key = \"web.key\")",
            "6:41: listener.in.tls.certificates[0].certificate: a relative path can be given in a configuration file only (write one that begins with a slash)",
            "6:52: listener.in.tls.certificates[1]: expected a table, found a string",
            "6:89: listener.in.tls.certificates[2].key: the name of a file is missing",
            "6:93: listener.in.tls.certificates[2].keys: unknown key (did you mean \"key\"?)",
        ],
    );
    let certificates = "certificates = [{ certificate = '/a', key = '/b' }]";
    tls(
        &format!("{certificates}, unknown_name = 'reject', min_version = '1.1', handshakes = 0"),
        &[
            "6:77: listener.in.tls.unknown_name: unknown unknown_name \"reject\" (known: default, refuse)",
            "6:101: listener.in.tls.min_version: unknown min_version \"1.1\" (did you mean \"1.2\"?)",
            "6:121: listener.in.tls.handshakes: must be 1 to 65535, found 0",
        ],
    );
    tls(
        &format!(
            "{certificates}, resumption = false, client_auth = {{ mode = 'maybe', crl = [], fingerprints = \
             ['sha256:00', 'md5:00', 'sha256:xy'], resumption = true }}"
        ),
        &[
            "6:82: listener.in.tls.client_auth.ca: is missing (for example ca = \"clients.pem\")",
            "6:105: listener.in.tls.client_auth.mode: unknown mode \"maybe\" (known: require, request)",
            "6:120: listener.in.tls.client_auth.crl: the list is empty (name at least one, or leave the key out)",
            "6:140: listener.in.tls.client_auth.fingerprints[0]: a fingerprint has 64 hexadecimal digits after \"sha256:\", found 2 (`openssl x509 -in CERT.pem -noout -fingerprint -sha256` shows it)",
            "6:153: listener.in.tls.client_auth.fingerprints[1]: a fingerprint begins with its algorithm, \"sha256:\" (`openssl x509 -in CERT.pem -noout -fingerprint -sha256` shows it)",
            "6:163: listener.in.tls.client_auth.fingerprints[2]: 'x' is no hexadecimal digit",
            "6:190: listener.in.tls.client_auth.resumption: means nothing while the listener resumes no session (resumption) (leave it out)",
        ],
    );
}

#[test]
fn tls_to_endpoints_names_its_mistakes() {
    let tls = |tls: &str, expected: &[&str]| {
        let text = format!(
            "listener.in.bind = '127.0.0.1:1'\nchannel.c.upstream = 'u'\nupstream.u = {{ endpoints = ['10.0.0.1:1', 'unix:/u'], tls = {{ {tls} }} }}"
        );
        wrong(&text, expected);
    };
    tls(
        "",
        &[
            "3:55: upstream.u.tls.server_name: is missing: unix:/u has no address that a certificate could hold (for example server_name = \"backend.example\")",
        ],
    );
    tls(
        "verify = 'none', ca = '/ca', key = '/k', server_name = 'a b'",
        &[
            "3:55: upstream.u.tls.certificate: is missing beside key (for example certificate = \"gateway.pem\")",
            "3:85: upstream.u.tls.ca: means nothing with verify = \"none\" (leave verify out to have the endpoints verified by it)",
            "3:118: upstream.u.tls.server_name: a server name has letters, digits, '-', '_' and single dots; write others in their xn-- form",
        ],
    );
    wrong(
        "listener.in.bind = '127.0.0.1:1'\nupstream.u = { endpoints = ['10.0.0.1:1'], proxy_protocol = 'v3', tls = true }",
        &[
            "2:61: upstream.u.proxy_protocol: unknown proxy_protocol \"v3\" (did you mean \"v1\"?)",
            "2:73: upstream.u.tls: expected a table, found a boolean",
        ],
    );
}

#[test]
fn unix_sockets_name_their_mistakes() {
    let long = "x".repeat(107);
    wrong_listener(
        &format!("bind = 'unix:/{long}'"),
        &["4:8: listener.in.bind: the path of a Unix socket has at most 107 bytes, found 108"],
    );
    wrong_listener(
        "bind = 'unix:run/x.sock'",
        &[
            "4:8: listener.in.bind: the path of a Unix socket begins with a slash, found \"run/x.sock\" (for example \"unix:/run/corelane.sock\")",
        ],
    );
    wrong_listener(
        "bind = 'unix:'",
        &[
            "4:8: listener.in.bind: the path of the Unix socket is missing (for example \"unix:/run/corelane.sock\")",
        ],
    );
    wrong_listener(
        "bind = '127.0.0.1:1'\nunix_mode = '0660'",
        &["5:13: listener.in.unix_mode: a TCP address has no permissions (leave it out)"],
    );
    wrong_listener(
        "bind = 'unix:/a'\nunix_mode = 'rw'\nproxy_protocol = { from = ['10.0.0.0/8'] }\nlimits = { connections_per_address = 1 }",
        &[
            "5:13: listener.in.unix_mode: permissions are three octal digits, found \"rw\" (for example \"0660\")",
            "6:27: listener.in.proxy_protocol.from: clients of a Unix socket have no address (leave it out)",
            "7:38: listener.in.limits.connections_per_address: clients of a Unix socket have no address (leave it out)",
        ],
    );
    wrong_listener(
        "bind = 'unix:/a'\n[listener.other]\nbind = 'unix:/a'",
        &["6:8: listener.other.bind: unix:/a is already bound by listener.in.bind (choose another path)"],
    );
    wrong(
        "listener.in.bind = '127.0.0.1:1'\nadmin.bind = 'unix:/a'\nupstream.u.endpoints = ['unix:/a/']",
        &[
            "2:14: admin.bind: admin listens on a TCP address only",
            "3:25: upstream.u.endpoints[0]: the path of a Unix socket names a file, found \"/a/\"",
        ],
    );
}

#[test]
fn the_proxy_protocol_is_believed_of_somebody() {
    wrong_listener(
        "bind = '127.0.0.1:1'\nproxy_protocol = {}",
        &["5:1: listener.in.proxy_protocol.from: is missing (for example from = [\"10.0.0.0/8\"])"],
    );
    wrong_listener(
        "bind = '127.0.0.1:1'\nproxy_protocol = { from = [] }",
        &[
            "5:27: listener.in.proxy_protocol.from: the list is empty (name at least one, or leave the key out)",
        ],
    );
}

#[test]
fn tunnels_need_an_upstream_and_protocols_that_can_be_passed_on() {
    wrong(
        "listener.in.bind = '127.0.0.1:1'
channel.c = { respond = {}, upgrade = 'a', connect = true, timeouts = { tunnel = '1s' } }
channel.d = { upstream = 'u', upgrade = ['h2c', 'web socket', 1], timeouts = { tunnel = '0s' } }
upstream.u.endpoints = ['10.0.0.1:1']",
        &[
            "2:39: channel.c.upgrade: means nothing without an upstream (leave it out)",
            "2:54: channel.c.connect: a tunnel needs an upstream (leave it out)",
            "2:82: channel.c.timeouts.tunnel: means nothing without an upstream (leave it out)",
            "3:42: channel.d.upgrade[0]: an upgrade to HTTP/2 would carry requests past every rule here",
            "3:49: channel.d.upgrade[1]: expected a token (letters, digits and !#$%&'*+-.^_`|~), found \"web socket\"",
            "3:63: channel.d.upgrade[2]: expected a string, found an integer",
            "3:89: channel.d.timeouts.tunnel: must be 1ms to 24h, found 0s",
        ],
    );
}

#[test]
fn relays_neither_loop_nor_leave_channels_behind() {
    wrong(
        "listener.in = { bind = '127.0.0.1:1', protocol = 'tcp', upstream = 'u' }\nupstream.u.endpoints = ['listener:in']",
        &["1:68: listener.in.upstream: what it relays comes back to it: \"u\" has it as an endpoint"],
    );
    warned(
        "listener.in = { bind = '127.0.0.1:1', protocol = 'tcp', upstream = 'u' }
upstream.u.endpoints = ['10.0.0.1:1']
channel.a = { respond = {}, match.listener = 'in' }
channel.b = { respond = {} }",
        &[
            "3:9: warning: channel.a: never reached: no listener that it takes requests from reads any",
            "4:9: warning: channel.b: never reached: no listener that it takes requests from reads any",
        ],
    );
    warned(
        "listener.in = { bind = '127.0.0.1:1', protocol = 'tls', sni = { a = 'u' } }
upstream.u = { endpoints = ['10.0.0.1:1'], tls = {} }",
        &[
            "1:69: warning: listener.in.sni.a: TLS within TLS: \"u\" has a tls table, and gets TLS already (leave the table out)",
        ],
    );
    warned(
        "listener.in = { bind = '127.0.0.1:1' }
listener.own = { bind = '127.0.0.1:2', protocol = 'https', tls.certificates = [{ certificate = '/a', key = '/b' }] }
upstream.u.endpoints = ['listener:own']
upstream.v = { endpoints = ['listener:in'], tls = {} }
channel.a = { upstream = 'u', match.listener = 'in' }
channel.b = { upstream = 'v', match.listener = 'own' }",
        &[
            "3:25: warning: upstream.u.endpoints[0]: listener:own speaks TLS, and is spoken to in the clear (add [upstream.u.tls])",
            "4:29: warning: upstream.v.endpoints[0]: listener:in does not speak TLS (leave the tls table out)",
        ],
    );
}

#[test]
fn the_tcp_example_says_what_it_means() {
    let snapshot = snapshot(include_str!("../examples/tcp.toml"));
    let [db, lab, names] = &*snapshot.listeners else { panic!("three listeners") };
    let upstream = |name: &str| {
        let index = snapshot.upstreams.iter().position(|upstream| upstream.name == name);
        UpstreamId(u16::try_from(index.expect(name)).expect("few"))
    };
    let Protocol::Tcp(service) = db.protocol else { panic!("{db:?}") };
    assert_eq!((service.upstream, service.framing), (upstream("postgres"), Framing::Raw));
    assert_eq!(
        (db.timeouts.tunnel.as_secs(), db.timeouts.lifetime.map(|l| l.as_secs())),
        (28_800, Some(86_400))
    );
    let Protocol::Tcp(service) = lab.protocol else { panic!("{lab:?}") };
    assert_eq!(service.framing, Framing::Mllp);
    let proxy_protocol = lab.proxy_protocol.as_ref().expect("PROXY protocol");
    assert!(proxy_protocol.from[0].contains("10.9.9.9".parse().expect("address")));
    let Protocol::Tls(routes) = &names.protocol else { panic!("{names:?}") };
    assert_eq!(routes.routes[0], (ServerNamePattern::Exact("a.example".into()), upstream("app")));
    assert_eq!(routes.find(Some("x.y.b.example")), Some(upstream("app")));
    assert_eq!(routes.find(Some("b.example")), Some(upstream("web")));
    assert!(
        matches!(&snapshot.upstreams[0].endpoints[0].address, EndpointAddress::Unix(path) if path.ends_with(".s.PGSQL.5432"))
    );
    let lab = &snapshot.upstreams[usize::from(upstream("lab").0)];
    assert_eq!(lab.proxy_protocol, Some(ProxyVersion::V2));
}

#[test]
fn the_https_example_says_what_it_means() {
    let snapshot = snapshot(include_str!("../examples/https.toml"));
    let Protocol::Https(tls) = &snapshot.listeners[0].protocol else { panic!("{:?}", snapshot.listeners) };
    assert_eq!(tls.certificates[0].certificate.to_str(), Some("/etc/corelane/web.pem"));
    assert_eq!(
        (tls.unknown_name, tls.version_min, tls.resumption),
        (UnknownName::Default, TlsVersion::Tls12, true)
    );
    assert_eq!((tls.handshakes_max, &tls.client_auth), (256, &None));
    let live = &snapshot.channels[0];
    assert_eq!(live.tunnel_timeout.map(|timeout| timeout.as_secs()), Some(86_400));
    assert_eq!(live.upgrade, Upgrades::Only(["websocket".into()].into()));
    assert_eq!(snapshot.channels[1].upgrade, live.upgrade, "the default");
    let backend = snapshot.upstreams[1].tls.as_ref().expect("TLS");
    assert_eq!(
        (&backend.verify, backend.server_name.as_deref()),
        (&Verify::Platform, Some("backend.example"))
    );
}

#[test]
fn a_unix_socket_has_permissions_and_mutual_tls_its_files() {
    let text = "listener.a.bind = 'unix:/run/a'
listener.b = { bind = 'unix:/run/b', unix_mode = '666', protocol = 'https', tls = { \
             certificates = [{ certificate = '/a', key = '/b' }], client_auth = { mode = 'request', ca = '/ca', \
             crl = '/crl', fingerprints = ['sha256:AB:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:01'] } } }
channel.c = { upstream = 'u', upgrade = '*' }
channel.d = { upstream = 'u', upgrade = [], match.path = '/d', priority = 1, connect = true }
upstream.u = { endpoints = ['10.0.0.1:1'], tls = { ca = '/ca', certificate = '/c', key = '/k', server_name = '10.0.0.1' } }";
    let loaded = load(text).unwrap_or_else(|problems| panic!("{problems}"));
    let again = load(&config::dump(&loaded.schema)).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(again.schema, loaded.schema);
    let snapshot = loaded.snapshot;
    let [a, b] = &*snapshot.listeners else { panic!("two listeners") };
    assert!(matches!(a.bind, BindAddress::Unix { mode: 0o660, .. }) && a.bind.to_string() == "unix:/run/a");
    assert!(matches!(b.bind, BindAddress::Unix { mode: 0o666, .. }));
    let Protocol::Https(tls) = &b.protocol else { panic!("{b:?}") };
    let client_auth = tls.client_auth.as_ref().expect("mutual TLS");
    assert_eq!((client_auth.mode, client_auth.resumption), (ClientAuthMode::Request, false));
    assert_eq!((client_auth.fingerprints[0][0], client_auth.fingerprints[0][31]), (0xab, 1));
    assert_eq!(client_auth.revocation[0].to_str(), Some("/crl"));
    assert_eq!(snapshot.channels[0].upgrade, Upgrades::Any);
    assert!(snapshot.channels[1].connect && snapshot.channels[1].upgrade == Upgrades::Only([].into()));
    let tls = snapshot.upstreams[0].tls.as_ref().expect("TLS");
    assert_eq!(tls.verify, Verify::Authorities(std::path::Path::new("/ca").into()));
    assert_eq!(tls.server_name.as_deref(), Some("10.0.0.1"));
    assert_eq!(tls.client.as_ref().and_then(|files| files.key.to_str()), Some("/k"));
}

#[test]
fn files_are_found_beside_the_configuration() {
    let directory = std::env::temp_dir().join(format!("corelane-services-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let path = directory.join("a.toml");
    let text = "channel.c.respond = {}
[listener.in]\nbind = '127.0.0.1:1'\nprotocol = 'https'
tls.certificates = [{ certificate = 'a.pem', key = 'a.key' }]";
    std::fs::write(&path, text).expect("written");
    std::fs::write(directory.join("a.pem"), "").expect("written");
    let problems = load_file(&path).expect_err("there is no key");
    let causes: Vec<_> =
        problems.iter().map(|problem| (problem.line, problem.column, problem.cause.clone())).collect();
    let [(5, 52, cause)] = &causes[..] else { panic!("{problems}") };
    assert!(cause.starts_with("cannot read \"") && cause.contains("a.key\": No such file"), "{cause}");
    std::fs::write(directory.join("a.key"), "").expect("written");
    let snapshot = load_file(&path).unwrap_or_else(|problems| panic!("{problems}")).snapshot;
    let Protocol::Https(tls) = &snapshot.listeners[0].protocol else { panic!("{:?}", snapshot.listeners) };
    assert_eq!(*tls.certificates[0].key, *directory.join("a.key"));
    std::fs::remove_dir_all(&directory).expect("removed");
}
