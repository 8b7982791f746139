//! Is docs/configuration.md what the schema says, and does the reader do what both say?
//!
//! Never describes a key itself: every word about one stands at its field in `schema.rs`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use config::{Format, load_str};
use serde_json::{Value, json};

/// The top-level tables in the order in which one would write them.
const TABLES: [&str; 10] = [
    "node",
    "process",
    "store",
    "listener",
    "channel",
    "upstream",
    "security",
    "access_log",
    "admin",
    "telemetry",
];

/// What NAME stands for in examples, or STATUS.
const NAMES: [(&str, &str); 6] = [
    ("listener", "web"),
    ("channel", "patients"),
    ("upstream", "fhir"),
    ("security", "local"),
    ("access_log", "main"),
    ("error_page", "502"),
];

/// What the document says of keys that stand above every table.
const OF_FILES: &str = "These stand above every table: a file is read by them, and nothing is configured.";

/// Read into another key, so that it is not seen again.
const FILE: &str = "file";

/// Likewise, from a file that this text does not come from.
const FILES: [&str; 4] = [FILE, "secret_file", "token_file", "include"];

/// Read by others.
const UNSEEN: &str = "$schema";

/// Never written out.
const SECRETS: [&str; 2] = ["secret", "previous_secret"];

/// What the document says before the first table.
const INTRODUCTION: &str = "\
<!-- Generated from config/src/schema.rs. To rewrite: CORELANE_BLESS=1 cargo test -p corelane-config --test reference -->

# Configuration reference

A configuration is TOML, or JSON with the same tables and keys when the file's name ends in `.json`. `engine check --config FILE`
names every problem in one, with line, column and key; `engine config dump --config FILE` shows it with every default filled in;
`engine config schema` prints a JSON schema for [editors](editors.md). To begin with: [quickstart.toml](../config/examples/quickstart.toml),
[channels.toml](../config/examples/channels.toml), [tcp.toml](../config/examples/tcp.toml),
[https.toml](../config/examples/https.toml), [balancing.toml](../config/examples/balancing.toml),
[rules.toml](../config/examples/rules.toml); of a cluster [gateway_node.toml](../config/examples/gateway_node.toml),
[auth_node.toml](../config/examples/auth_node.toml), [admin_node.toml](../config/examples/admin_node.toml), or
[all_in_one.toml](../config/examples/all_in_one.toml).

- A **duration** is a whole number with `us`, `ms`, `s`, `m` or `h`; a **size** one with `B`, `KB`, `KiB`, `MB`, `MiB`, `GB` or
  `GiB`; a **share** one with `%`.
- `\"${NAME}\"` in a string is taken from the environment, `\"${NAME:-default}\"` has a default; `\"$${\"` is a plain `${`.
- The NAME of a table is yours to choose: 1 to 30 of `A-Z a-z 0-9 _ - .`.
- What a request puts in is written the same way, `\"${host}\"`, and not taken from the environment: `client_address`, `host`,
  `authority`, `path`, `query`, `scheme`, `method`, `request_id`, `listener`, `channel`; in the format of an access log, what
  [access logs](access-log.md) lists.
- A key that is not listed here is an error. A dash for a default means that nothing is set.
";

/// One table of the configuration.
struct Table {
    /// Such as `listener.NAME.limits`.
    path: String,
    description: String,
    keys: Vec<Key>,
}

/// One key that holds a value.
struct Key {
    /// Such as `/listener/web/limits/fields`.
    pointer: String,
    name: String,
    kind: String,
    /// Least and greatest value, as one writes them.
    range: Option<(String, String)>,
    default: Option<Value>,
    example: Value,
    description: String,
    is_required: bool,
}

impl Key {
    fn default_text(&self) -> String {
        match &self.default {
            _ if self.is_required => "required".to_owned(),
            Some(default) => format!("`{}`", toml_of(default)),
            None => "–".to_owned(),
        }
    }
}

fn schema() -> Value {
    serde_json::from_str(&config::json_schema()).expect("JSON")
}

/// What a `$ref` stands for, or the schema itself.
fn resolve<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    let reference = schema["$ref"].as_str().and_then(|reference| root.pointer(reference.strip_prefix('#')?));
    reference.unwrap_or(schema)
}

/// Every table that has keys, in the order of the document.
fn tables(root: &Value) -> Vec<Table> {
    let (below, plain): (Vec<_>, Vec<_>) = (root["properties"].as_object().expect("tables").iter())
        .partition(|(_, schema)| is_table(resolve(root, schema)));
    let known: Vec<&str> = below.into_iter().map(|(name, _)| name.as_str()).collect();
    let mut listed = TABLES;
    listed.sort_unstable();
    assert_eq!(known, listed, "a table without a place in TABLES");
    let keys = plain.into_iter().map(|(name, schema)| read_key(root, root, "", name, schema)).collect();
    let mut tables = vec![Table { path: String::new(), description: OF_FILES.to_owned(), keys }];
    for name in TABLES {
        let property = &root["properties"][name];
        match resolve(root, property).get("additionalProperties") {
            Some(each) if each.is_object() => {
                let pointer = format!("/{name}/{}", example_name(name));
                push_tables(root, each, Some(property), &format!("{name}.NAME"), &pointer, &mut tables);
            }
            _ => push_tables(root, property, Some(property), name, &format!("/{name}"), &mut tables),
        }
    }
    tables
}

/// Adds the table behind `schema`, and those below it. A table of the root is described at its key.
fn push_tables(
    root: &Value,
    schema: &Value,
    key: Option<&Value>,
    path: &str,
    pointer: &str,
    tables: &mut Vec<Table>,
) {
    let definition = resolve(root, schema);
    let properties = definition["properties"].as_object().unwrap_or_else(|| panic!("{path} has no keys"));
    let (below, plain): (Vec<_>, Vec<_>) =
        properties.iter().partition(|(_, schema)| is_table(resolve(root, schema)));
    let mut keys: Vec<_> =
        plain.into_iter().map(|(name, schema)| read_key(root, definition, pointer, name, schema)).collect();
    keys.sort_by_key(|key| !key.is_required);
    tables.push(Table { path: path.to_owned(), description: description(key.unwrap_or(definition)), keys });
    for (name, schema) in below {
        let (path, pointer) = (format!("{path}.{name}"), format!("{pointer}/{name}"));
        match schema.get("additionalProperties").filter(|each| each.is_object()) {
            Some(each) => {
                let (path, pointer) = (format!("{path}.STATUS"), format!("{pointer}/{}", example_name(name)));
                push_tables(root, each, None, &path, &pointer, tables);
            }
            None => push_tables(root, schema, None, &path, &pointer, tables),
        }
    }
}

/// Whether it has keys of its own to describe, or tables in it; one of strings is a value.
fn is_table(schema: &Value) -> bool {
    schema["properties"].is_object()
        || (schema["additionalProperties"].is_object() && !is_table_of_strings(schema))
}

fn is_table_of_strings(schema: &Value) -> bool {
    schema["additionalProperties"]["type"] == "string"
}

fn example_name(table: &str) -> &'static str {
    NAMES.into_iter().find(|(of, _)| *of == table).expect("a name for examples").1
}

fn read_key(root: &Value, table: &Value, pointer: &str, name: &str, schema: &Value) -> Key {
    let pointer = format!("{pointer}/{name}");
    // A key's text stands in one cell of a table.
    let (description, range) = split_range(&description(schema).replace('\n', " "));
    let example = schema["examples"].get(0).unwrap_or_else(|| panic!("{pointer} has no example")).clone();
    let required = table["required"].as_array();
    Key {
        name: name.to_owned(),
        kind: kind(root, schema),
        range: range.or_else(|| range_of_all(table)),
        default: schema.get("default").cloned(),
        example,
        description,
        is_required: required.is_some_and(|names| names.contains(&json!(name))),
        pointer,
    }
}

fn description(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().to_owned()
}

/// The kind of value that a key takes.
fn kind(root: &Value, schema: &Value) -> String {
    let resolved = resolve(root, schema);
    if let Some(words) = resolved["oneOf"].as_array() {
        let words: Vec<_> = words.iter().map(|word| format!("`{}`", toml_of(&word["const"]))).collect();
        return words.join(", ");
    }
    let other = resolved["anyOf"].get(1).and_then(|other| other["type"].as_str());
    let kind = match (schema["$ref"].as_str(), resolved["type"].as_str(), other) {
        (Some("#/$defs/Timespan"), _, _) => "duration",
        (Some("#/$defs/ByteSize"), _, _) => "size",
        (Some("#/$defs/Share"), _, _) => "share",
        (_, Some("array"), _) => "list",
        _ if is_table_of_strings(resolved) => "table",
        (_, Some(kind @ ("integer" | "boolean" | "string")), _) => kind,
        (_, _, Some("array")) => "string or list",
        (_, _, Some("boolean")) => "string or boolean",
        _ => panic!("a kind of value without a name: {schema:#}"),
    };
    kind.to_owned()
}

/// Parts a description from the range that is its last sentence.
fn split_range(description: &str) -> (String, Option<(String, String)>) {
    let Some((before, last)) = description.rsplit_once(". ") else { return (description.to_owned(), None) };
    match last.strip_suffix('.').and_then(|last| last.split_once(" to ")) {
        Some((least, greatest)) if !format!("{least}{greatest}").contains(' ') => {
            (format!("{before}."), Some((least.to_owned(), greatest.to_owned())))
        }
        _ => (description.to_owned(), None),
    }
}

/// The range that a table's description gives for each of its keys.
fn range_of_all(table: &Value) -> Option<(String, String)> {
    let description = description(table);
    let (before, _) = description.split_once(" each")?;
    let (rest, greatest) = before.rsplit_once(" to ")?;
    let least = rest.rsplit(' ').next()?;
    Some((least.to_owned(), greatest.to_owned()))
}

fn toml_of(value: &Value) -> String {
    toml::Value::try_from(value).expect("TOML has all of it but null").to_string()
}

fn reference() -> String {
    let mut text = INTRODUCTION.to_owned();
    for Table { path, description, keys } in tables(&schema()) {
        let depth =
            "#".repeat(2 + usize::from(path.matches('.').count() > usize::from(path.contains("NAME"))));
        let title = if path.is_empty() { "Of the file".to_owned() } else { format!("`[{path}]`") };
        let _ = write!(text, "\n{depth} {title}\n\n{description}\n");
        if keys.is_empty() {
            continue;
        }
        let _ = write!(text, "\n| key | value | default | meaning | example |\n|---|---|---|---|---|\n");
        for key in keys {
            let range = key.range.as_ref().map(|(least, greatest)| format!(", {least} to {greatest}"));
            let cells = [
                format!("`{}`", key.name),
                format!("{}{}", key.kind, range.unwrap_or_default()),
                key.default_text(),
                key.description.clone(),
                format!("`{} = {}`", key.name, toml_of(&key.example)),
            ];
            let _ = writeln!(text, "| {} |", cells.map(|cell| cell.replace('|', "\\|")).join(" | "));
        }
    }
    text
}

#[test]
fn the_reference_is_what_the_schema_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let reference = reference();
    if std::env::var_os("CORELANE_BLESS").is_some() {
        fs::write(&path, &reference).expect("docs can be written");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == reference,
        "docs/configuration.md is not what the schema says; to rewrite it:\n\
         CORELANE_BLESS=1 cargo test -p corelane-config --test reference"
    );
}

/// A small configuration in which `key` has this value, or is left out.
fn with(key: &Key, value: Option<&Value>) -> Result<Value, String> {
    let mut config = json!({
        "listener": { "web": { "bind": "127.0.0.1:8080" } },
        "channel": { "patients": { "upstream": "fhir" } },
        "upstream": { "fhir": { "endpoints": ["10.0.0.1:8000"] } },
    });
    if value.is_none() || key.pointer.starts_with("/channel/patients/respond") {
        config["channel"]["patients"] = json!({ "respond": {} });
    }
    if key.pointer.contains("/error_page/") && key.name != FILE {
        let (page, _) = key.pointer.rsplit_once('/').expect("below a table");
        *place_of(&mut config, page) = json!({ "body": "" });
    }
    for (pointer, value) in surroundings(key, value.is_some()) {
        *place_of(&mut config, pointer) = value;
    }
    if let Some(value) = value {
        *place_of(&mut config, &key.pointer) = value.clone();
    }
    let loaded = load_str("f", &config.to_string(), Format::Json, &|_| None);
    let loaded = loaded.map_err(|problems| problems.to_string())?;
    Ok(serde_json::to_value(&loaded.schema).expect("every configuration has a JSON form"))
}

/// What has to be there besides for a key to mean something.
fn surroundings(key: &Key, is_given: bool) -> Vec<(&'static str, Value)> {
    let protocol = |name: &str| ("/listener/web/protocol", json!(name));
    let endpoints = || json!({ "endpoints": ["10.0.0.2:8000"] });
    let (table, name) = key.pointer.rsplit_once('/').expect("a place");
    match (table, name) {
        ("/listener/web", "unix_mode") => vec![("/listener/web/bind", json!("unix:/run/web.sock"))],
        ("/listener/web", "framing") => vec![protocol("tcp"), ("/listener/web/upstream", json!("fhir"))],
        ("/listener/web", "upstream") if is_given => vec![protocol("tcp"), ("/upstream/db", endpoints())],
        ("/listener/web", "sni") if is_given => {
            vec![protocol("tls"), ("/upstream/a", endpoints()), ("/upstream/b", endpoints())]
        }
        ("/listener/web/tls" | "/listener/web/tls/client_auth", _) => {
            let certificates = json!([{ "certificate": "/web.pem", "key": "/web.key" }]);
            let mut tls = vec![protocol("https"), ("/listener/web/tls/certificates", certificates)];
            if table.ends_with("client_auth") {
                tls.push(("/listener/web/tls/client_auth/ca", json!("/ca.pem")));
            }
            tls
        }
        ("/listener/web" | "/channel/patients", "access_log") if is_given => {
            let log = || json!({ "to": "stdout" });
            vec![("/access_log/main", log()), ("/access_log/audit", log())]
        }
        ("/access_log/main", "fields") => {
            vec![("/access_log/main", json!({ "to": "stdout", "format": "json" }))]
        }
        ("/access_log/main", "mode") => vec![("/access_log/main/to", json!("file:/a.log"))],
        ("/access_log/main", "facility" | "severity" | "app_name") => {
            vec![("/access_log/main/to", json!("syslog:unix:/dev/log"))]
        }
        ("/access_log/main", _) => vec![("/access_log/main/to", json!("stdout"))],
        ("/admin", "security") if is_given => vec![("/security/local", json!({ "type": "local_inbound" }))],
        ("/telemetry", "otlp") if is_given => vec![("/telemetry/trace", json!("make"))],
        ("/node", "lease") => vec![("/node/poll", json!("50ms"))],
        ("/node", "poll") if is_given => vec![("/node/lease", json!("5m"))],
        ("/store" | "/store/connectionpool", _) => {
            let pool = json!({ "maxtotal": 100, "maxidle": if is_given { 0 } else { 2 } });
            let store = json!({ "url": "sqlite:/cluster.db", "connectionpool": pool });
            vec![("/store", if is_given { store } else { json!({ "url": "sqlite:/cluster.db" }) })]
        }
        ("/upstream/fhir/tls", "certificate") if is_given => vec![("/upstream/fhir/tls/key", json!("/key"))],
        ("/upstream/fhir/tls", "key") if is_given => vec![("/upstream/fhir/tls/certificate", json!("/pem"))],
        ("/channel/patients/fault/delay", _) => vec![("/channel/patients/fault/delay/time", json!("1s"))],
        ("/channel/patients/fault/abort", _) => vec![("/channel/patients/fault/abort", json!({}))],
        ("/channel/patients/mirror", _) => {
            let channel = json!({ "upstream": "fhir", "mirror": { "upstream": "shadow" } });
            vec![("/channel/patients", channel), ("/upstream/shadow", endpoints())]
        }
        ("/channel/patients/redirect", _) => {
            vec![("/channel/patients", json!({ "redirect": { "to": "/" } }))]
        }
        ("/channel/patients/rewrite", "path") if is_given => {
            vec![("/channel/patients/rewrite/to", json!("/"))]
        }
        ("/channel/patients/rewrite", "to") if is_given => {
            vec![("/channel/patients/rewrite/path", json!("^/patient/([0-9]+)$"))]
        }
        ("/channel/patients/token", _) => {
            vec![("/channel/patients/token/check", json!("clients")), ("/security/clients", token_check())]
        }
        // Of a check it is required.
        ("/security/local", "jwks") if !is_given => security_surroundings("session_idle"),
        ("/security/local", name) => security_surroundings(name),
        ("/upstream/fhir/tls", _) => vec![("/upstream/fhir/tls", json!({}))],
        ("/upstream/fhir/health", _) => vec![("/upstream/fhir/health", json!({}))],
        ("/upstream/fhir/ejection", _) => vec![("/upstream/fhir/ejection", json!({}))],
        ("/upstream/fhir/slow_start", _) => vec![("/upstream/fhir/slow_start", json!({}))],
        ("/upstream/fhir/hash", "on") => vec![
            ("/upstream/fhir/hash", json!({})),
            ("/upstream/fhir/balance", json!(if is_given { "hash" } else { "source_hash" })),
        ],
        ("/upstream/fhir/hash", _) => {
            vec![("/upstream/fhir/balance", json!("source_hash")), ("/upstream/fhir/hash", json!({}))]
        }
        ("/upstream/fhir/register", _) => vec![("/upstream/fhir/register", json!({}))],
        ("/upstream/fhir/persistence", _) => vec![("/upstream/fhir/persistence", json!({}))],
        ("/upstream/fhir/sticky", "secret" | "secret_file") if is_given => {
            vec![("/upstream/fhir/sticky", json!({}))]
        }
        ("/upstream/fhir/sticky", "secret") => vec![],
        ("/upstream/fhir/sticky", _) => {
            vec![("/upstream/fhir/sticky", json!({ "secret": "0123456789abcdef" }))]
        }
        _ => Vec::new(),
    }
}

fn token_check() -> Value {
    json!({ "type": "token_check", "jwks": "https://auth.example/jwks", "audience": "a" })
}

fn token_issuer() -> Value {
    json!({ "type": "token_issuer", "issuer": "https://auth.example", "audience": "a" })
}

/// A module of a type for which the key means something.
fn security_surroundings(key: &str) -> Vec<(&'static str, Value)> {
    let module = match key {
        "type" | "skew" | "algorithms" | "refresh" | "issuer" => token_check(),
        // What it says by itself is left out, and taken from the issuer.
        "jwks" | "audience" => json!({ "type": "token_check", "jwks": "module:issuer" }),
        "token_lifetime" | "algorithm" | "rotation" => token_issuer(),
        _ => json!({ "type": "local_inbound" }),
    };
    let others = match key {
        "jwks" | "audience" => vec![("/security/issuer", token_issuer())],
        "tokens" => vec![("/security/clients", token_check())],
        _ => vec![],
    };
    [vec![("/security/local", module)], others].concat()
}

/// Where a key stands, made if it was not there.
fn place_of<'c>(config: &'c mut Value, pointer: &str) -> &'c mut Value {
    pointer.split('/').skip(1).fold(config, |place, step| &mut place[step])
}

#[test]
fn every_example_can_be_written() {
    for key in tables(&schema()).iter().flat_map(|table| &table.keys) {
        assert!(key.description.ends_with('.'), "{}: {}", key.pointer, key.description);
        if FILES.contains(&key.name.as_str()) {
            // A text that is no file has no directory to find others in.
            assert!(
                with(key, Some(&key.example))
                    .is_err_and(|problems| problems.contains("configuration file only"))
            );
            continue;
        }
        let loaded = with(key, Some(&key.example)).unwrap_or_else(|problems| panic!("{problems}"));
        let read = loaded.pointer(&key.pointer);
        if SECRETS.contains(&key.name.as_str()) {
            assert_eq!(read, Some(&json!("(left out)")), "{}", key.pointer);
            continue;
        }
        if key.name == UNSEEN {
            assert_eq!(read, None, "{}", key.pointer);
            continue;
        }
        let is_same = read == Some(&key.example) || read == Some(&json!([key.example]));
        assert!(is_same, "{}: {read:?}", key.pointer);
    }
}

#[test]
fn every_default_is_what_is_read_where_the_key_is_left_out() {
    for key in tables(&schema()).iter().flat_map(|table| &table.keys) {
        let loaded = with(key, None).unwrap_or_else(|problems| panic!("{problems}"));
        if !key.is_required {
            assert_eq!(loaded.pointer(&key.pointer), key.default.as_ref(), "{}", key.pointer);
        }
    }
}

/// A number with its unit, if it has one, moved by `step`.
fn moved(bound: &str, step: i64) -> Value {
    let digits = bound.find(|character: char| !character.is_ascii_digit()).unwrap_or(bound.len());
    let number: i64 = bound[..digits].parse().expect(bound);
    match &bound[digits..] {
        "" => json!(number + step),
        unit => json!(format!("{}{unit}", number + step)),
    }
}

#[test]
fn every_range_is_what_the_reader_takes() {
    let mut ranges = 0;
    for key in tables(&schema()).iter().flat_map(|table| &table.keys) {
        let Some((least, greatest)) = &key.range else {
            assert!(
                !["integer", "duration", "size", "share"].contains(&key.kind.as_str()),
                "{}: no range",
                key.pointer
            );
            continue;
        };
        ranges += 1;
        for bound in [moved(least, 0), moved(greatest, 0)] {
            with(key, Some(&bound)).unwrap_or_else(|problems| panic!("{problems}"));
        }
        for beyond in [moved(least, -1), moved(greatest, 1)] {
            assert!(with(key, Some(&beyond)).is_err(), "{} takes {beyond}", key.pointer);
        }
    }
    assert!(ranges > 20, "only {ranges}");
}
