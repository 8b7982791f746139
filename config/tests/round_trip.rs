//! Does a configuration survive its own dump, and mean the same in TOML and JSON?

use config::snapshot::{Action, EndpointAddress, EndpointId, Snapshot};
use config::{Format, Loaded, Problems, default_config, dump, load_file, load_str};

const QUICKSTART: &str = include_str!("../examples/quickstart.toml");
const CHANNELS: &str = include_str!("../examples/channels.toml");
const TCP: &str = include_str!("../examples/tcp.toml");
const HTTPS: &str = include_str!("../examples/https.toml");
const BALANCING: &str = include_str!("../examples/balancing.toml");
const RULES: &str = include_str!("../examples/rules.toml");
const ADMIN_NODE: &str = include_str!("../examples/admin_node.toml");
const AUTH_NODE: &str = include_str!("../examples/auth_node.toml");
const ALL_IN_ONE: &str = include_str!("../examples/all_in_one.toml");
const GATEWAY_NODE: &str = include_str!("../examples/gateway_node.toml");

/// Every text that comes with the program.
const TEXTS: [&str; 11] = [
    include_str!("../src/default.toml"),
    QUICKSTART,
    CHANNELS,
    TCP,
    HTTPS,
    BALANCING,
    RULES,
    ADMIN_NODE,
    AUTH_NODE,
    GATEWAY_NODE,
    ALL_IN_ONE,
];

fn no_environment(_: &str) -> Option<String> {
    None
}

fn load(text: &str) -> Loaded {
    load_str("test.toml", text, Format::Toml, &no_environment).unwrap_or_else(|problems| panic!("{problems}"))
}

fn channel_names(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.channels.iter().map(|channel| channel.name.as_str()).collect()
}

#[test]
fn default_and_examples_check_clean() {
    for text in TEXTS {
        let loaded = load(text);
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    }
}

#[test]
fn a_dump_loads_back_to_the_same() {
    for text in TEXTS {
        let loaded = load(text);
        let dumped = dump(&loaded.schema);
        let again = load(&dumped);
        assert_eq!(again.schema, loaded.schema, "{dumped}");
        assert_eq!(again.snapshot.fingerprint, loaded.snapshot.fingerprint, "{dumped}");
        assert_eq!(dump(&again.schema), dumped);
    }
}

#[test]
fn a_dump_does_not_refer_to_the_environment() {
    let loaded = load("listener.a.bind = '127.0.0.1:1'\nchannel.c.respond.body = 'a $${X} b $$${Y} $ {'");
    assert!(
        matches!(&loaded.snapshot.channels[0].action, Action::Respond(r) if *r.body == *b"a ${X} b $${Y} $ {")
    );
    assert_eq!(load(&dump(&loaded.schema)).schema, loaded.schema);
}

#[test]
fn json_means_the_same_as_toml() {
    for text in TEXTS {
        let loaded = load(text);
        let json = serde_json::to_string_pretty(&loaded.schema).unwrap();
        let from_json = load_str("test.json", &json, Format::Json, &no_environment)
            .unwrap_or_else(|problems| panic!("{problems}\n{json}"));
        assert_eq!(from_json.snapshot.fingerprint, loaded.snapshot.fingerprint);
        assert_eq!(channel_names(&from_json.snapshot), channel_names(&loaded.snapshot));
    }
}

#[test]
fn the_fingerprint_follows_the_meaning_not_the_spelling() {
    let fingerprint = |text: &str| load(text).snapshot.fingerprint;
    let base = fingerprint("listener.a.bind = '127.0.0.1:1'\nlistener.b.bind = '127.0.0.1:2'");
    let reordered = "listener.b.bind = 'localhost:2'\nlistener.a = { backlog = 1024, bind = '127.0.0.1:1' }";
    assert_eq!(fingerprint(reordered), base);
    let other = "listener.a.bind = '127.0.0.1:1'\nlistener.b.bind = '127.0.0.1:3'";
    assert_ne!(fingerprint(other), base);
    // Between channels of equal priority the order is part of the meaning.
    let first = "listener.a.bind = '127.0.0.1:1'\nchannel.x.respond = {}\nchannel.y.respond = {}";
    let second = "listener.a.bind = '127.0.0.1:1'\nchannel.y.respond = {}\nchannel.x.respond = {}";
    assert_ne!(fingerprint(first), fingerprint(second));
}

#[test]
fn channels_keep_the_order_written() {
    let listener = "[listener.web]\nbind = '127.0.0.1:8080'\n";
    let channels: String =
        ["zebra", "ant", "m.1", "bee"].map(|name| format!("[channel.{name:?}]\nrespond = {{}}\n")).concat();
    assert_eq!(
        channel_names(&load(&format!("{listener}{channels}")).snapshot),
        ["zebra", "ant", "m.1", "bee"]
    );
    assert_eq!(
        channel_names(&load(&format!("{channels}{listener}")).snapshot),
        ["zebra", "ant", "m.1", "bee"]
    );
}

#[test]
fn the_default_is_a_listener_an_origin_behind_it_and_admin() {
    let snapshot = load(default_config()).snapshot;
    assert_eq!(snapshot.node, "gateway");
    let listeners: Vec<_> =
        snapshot.listeners.iter().map(|l| (l.name.as_str(), l.bind.to_string())).collect();
    assert_eq!(listeners, [("web", "127.0.0.1:8080".to_owned()), ("origin", "127.0.0.1:0".to_owned())]);
    assert_eq!(snapshot.admin.map(|admin| admin.bind.to_string()), Some("127.0.0.1:9000".to_owned()));
    let endpoints = &snapshot.upstreams[0].endpoints;
    let [endpoint] = &**endpoints else { panic!("{endpoints:?}") };
    assert!(matches!(endpoint.address, EndpointAddress::Listener(id) if id.0 == 1));
    let [origin, default] = &*snapshot.channels else { panic!("{:?}", snapshot.channels) };
    assert_eq!(
        snapshot.listeners.iter().map(|listener| listener.internal).collect::<Vec<_>>(),
        [false, true]
    );
    assert_eq!((origin.internal, default.internal), (true, false));
    // Nor do they pay for rules: they have none.
    assert!(origin.rules.is_none() && default.rules.is_none());
    assert!(matches!(&origin.action, Action::Respond(response) if response.status == 200));
    assert!(matches!(default.action, Action::Forward(upstream) if upstream.0 == 0));
}

#[test]
fn disabled_channels_are_left_out_and_do_not_shift_the_others() {
    let snapshot = load(CHANNELS).snapshot;
    assert_eq!(channel_names(&snapshot), ["ping", "patients", "tenants", "maintenance", "rest"]);
    let find = |path: &str, host: &str, listener| {
        let query = proto::matching::Query {
            listener,
            host: Some(host.as_bytes()),
            path: path.as_bytes(),
            method: proto::http1::head::Method::Get,
            method_name: b"GET",
        };
        let channel = snapshot.channel_table.find(&mut snapshot.channel_table.caches(), &query);
        channel.map(|id| snapshot.channels[usize::from(id)].name.as_str())
    };
    assert_eq!(find("/ping", "any.example", 0), Some("ping"));
    assert_eq!(find("/fhir/Patient/7", "any.example", 0), Some("patients"));
    assert_eq!(find("/app/x", "a.tenant.example", 0), Some("tenants"));
    assert_eq!(find("/app/x", "any.example", 0), Some("rest"));
    assert_eq!(find("/maintenance/x", "any.example", 0), Some("rest"));
    assert_eq!(find("/maintenance/x", "any.example", 1), Some("maintenance"));
}

#[test]
fn a_channel_is_internal_when_only_internal_listeners_reach_it() {
    let check = |matching: &str, expected: bool| {
        let text = format!(
            "listener.web.bind = '127.0.0.1:1'\n\
             listener.a = {{ bind = '127.0.0.1:2', internal = true }}\n\
             listener.b = {{ bind = '[::1]:3', internal = true }}\n\
             upstream.own.endpoints = ['listener:a', {{ address = 'listener:b' }}]\n\
             channel.off = {{ enabled = false, respond = {{}} }}\n\
             channel.c = {{ upstream = 'own', match = {{ {matching} }} }}"
        );
        let snapshot = load(&text).snapshot;
        assert_eq!(snapshot.channels[0].internal, expected, "{matching}");
    };
    check("listener = 'a'", true);
    check("listener = ['a', 'b'], path_prefix = '/x'", true);
    check("listener = ['a', 'web']", false);
    check("path_prefix = '/x'", false);
    check("", false);
}

#[test]
fn every_upstream_has_slots_of_its_own() {
    let snapshot = load(CHANNELS).snapshot;
    let slots: Vec<_> = snapshot.upstreams.iter().flat_map(|upstream| upstream.slots()).collect();
    assert_eq!(slots, (0..snapshot.slots_count).map(EndpointId).collect::<Vec<_>>());
    let endpoints = snapshot.upstreams.iter().flat_map(|upstream| &upstream.endpoints);
    let names: Vec<_> = endpoints.map(|endpoint| endpoint.name.as_str()).collect();
    assert_eq!(names, ["127.0.0.1:8101", "127.0.0.1:8102", "localhost:8201"]);
}

#[test]
fn strings_take_values_from_the_environment() {
    let environment = |name: &str| match name {
        "PORT" => Some("8888".to_owned()),
        "BACKLOG" => Some("77".to_owned()),
        "HANDOFF" => Some("false".to_owned()),
        _ => None,
    };
    let text = r#"
        process = { accept_handoff = "${HANDOFF}", drain_timeout = "${DRAIN:-5s}" }
        listener.web = { bind = "127.0.0.1:${PORT}", backlog = "${BACKLOG}" }
        channel.c.respond.body = "$${PORT}"
    "#;
    let loaded = load_str("test.toml", text, Format::Toml, &environment).unwrap();
    assert_eq!(loaded.schema.process.drain_timeout.to_string(), "5s");
    assert!(!loaded.snapshot.process.accept_handoff);
    assert_eq!(loaded.snapshot.listeners[0].bind.to_string(), "127.0.0.1:8888");
    assert_eq!(loaded.snapshot.listeners[0].backlog, 77);
    assert!(matches!(&loaded.snapshot.channels[0].action, Action::Respond(r) if *r.body == *b"${PORT}"));
}

#[test]
fn a_smaller_buffer_lowers_the_default_bound_of_heads() {
    let text = "process.buffer_size = '16KiB'\nlistener.web.bind = '127.0.0.1:1'";
    let snapshot = load(text).snapshot;
    assert_eq!(snapshot.listeners[0].limits.head.head_bytes_max, 16 * 1024);
}

#[test]
fn files_load_by_their_suffix() {
    let directory = std::env::temp_dir().join(format!("corelane-config-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = directory.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let json = serde_json::to_string(&load(CHANNELS).schema).unwrap();
    let from_json = load_file(write("a.json", json.as_bytes())).unwrap();
    let from_toml = load_file(write("a.conf", CHANNELS.as_bytes())).unwrap();
    assert_eq!(from_json.snapshot.fingerprint, from_toml.snapshot.fingerprint);

    let cause = |loaded: Result<Loaded, Problems>| {
        let problems = loaded.unwrap_err();
        let problem = problems.iter().next().unwrap();
        (problem.line, problem.column, problem.cause.clone())
    };
    let binary = write("binary.toml", b"# ok\nx = \"\xff\"\n");
    assert_eq!(cause(load_file(binary)), (2, 6, "the file is not UTF-8 text".to_owned()));
    let (line, column, absent) = cause(load_file(directory.join("absent.toml")));
    assert!((line, column) == (1, 1) && absent.starts_with("cannot read the file: "), "{absent}");
    let large = write("large.toml", "# 8 bytes\n".repeat(1 << 20).as_bytes());
    let (_, _, large) = cause(load_file(large));
    assert_eq!(large, "the text has 4194305 bytes, at most 4194304 are read");
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_page_is_read_from_its_file_once() {
    let directory = std::env::temp_dir().join(format!("corelane-pages-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let load = |page: &str| {
        let path = directory.join("a.toml");
        let text = format!("listener.web = {{ bind = '127.0.0.1:1', error_page.502.{page} }}");
        std::fs::write(&path, text).unwrap();
        load_file(path)
    };
    std::fs::write(directory.join("502.html"), "<h1>Away</h1>").unwrap();
    let from_file = load("file = '502.html'").unwrap();
    let page = from_file.snapshot.listeners[0].error_pages.find(502).unwrap();
    assert_eq!((&*page.body, &*page.content_type), (&b"<h1>Away</h1>"[..], "text/html; charset=utf-8"));
    assert!(from_file.snapshot.listeners[0].error_pages.find(503).is_none());
    // What is compared between processes is the text, wherever it came from.
    let inline = load("body = '<h1>Away</h1>'").unwrap();
    assert_eq!(from_file.snapshot.fingerprint, inline.snapshot.fingerprint);
    assert_eq!(from_file.schema, inline.schema);

    let cause = |page: &str| {
        let problems = load(page).unwrap_err();
        let problem = problems.iter().next().unwrap();
        assert_eq!((problem.line, problem.column), (1, 62), "{problem}");
        problem.cause.clone()
    };
    assert!(cause("file = 'absent.html'").starts_with("cannot read \"absent.html\": No such file"));
    assert!(cause("file = '.'").starts_with("cannot read \".\": Is a directory"));
    std::fs::write(directory.join("large"), vec![b'x'; 65_537]).unwrap();
    assert_eq!(cause("file = 'large'"), "\"large\" has more than 65536 bytes");
    std::fs::write(directory.join("binary"), b"\xff").unwrap();
    assert_eq!(cause("file = 'binary'"), "\"binary\" is not UTF-8 text");
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn the_schema_names_every_key_of_a_dump() {
    let schema: serde_json::Value = serde_json::from_str(&config::json_schema()).unwrap();
    let names = |pointer: &str| -> Vec<String> {
        let object = schema.pointer(pointer).and_then(serde_json::Value::as_object);
        object.unwrap_or_else(|| panic!("{pointer} in {schema:#}")).keys().cloned().collect()
    };
    assert_eq!(
        names("/properties"),
        [
            "$schema",
            "access_log",
            "admin",
            "channel",
            "include",
            "listener",
            "node",
            "process",
            "security",
            "store",
            "telemetry",
            "upstream"
        ]
    );
    let listener = "access_log allow backlog bind deny error_page forwarding framing internal limits protocol proxy_protocol \
                    requires retry_after sni timeouts tls unix_mode upstream";
    assert_eq!(names("/$defs/Listener/properties").join(" "), listener);
    let matching = ["host", "listener", "methods", "path", "path_exact", "path_prefix"];
    assert_eq!(names("/$defs/Matching/properties"), matching);
    // Each key is described.
    for definition in names("/$defs") {
        let Some(properties) = schema["$defs"][&definition]["properties"].as_object() else { continue };
        for (key, property) in properties {
            assert!(property["description"].is_string(), "{definition}.{key}");
        }
    }
    assert!(!config::json_schema().contains("null"), "no key takes null");
    assert_eq!(schema["required"], serde_json::Value::Null);
    assert_eq!(schema["$defs"]["Channel"]["required"], serde_json::Value::Null);
    assert_eq!(schema["$defs"]["Upstream"]["required"], serde_json::json!(["endpoints"]));
}
