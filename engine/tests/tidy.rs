//! Does the source tree still keep the rules that ARCHITECTURE.md states as absences?
//!
//! It reads text, never builds anything; each rule stands beside a test that shows how it fails.

use std::fs;
use std::path::Path;

/// Which of our crates each crate may depend on, by package directory. Nothing points up.
const EDGES: &[(&str, &[&str])] = &[
    ("engine/proto", &[]),
    ("engine/runtime", &[]),
    ("engine/tls", &["runtime"]),
    ("engine/auth", &[]),
    ("engine/store", &[]),
    ("config", &["proto"]),
    ("engine/proxy", &["auth", "config", "proto", "runtime", "tls"]),
    ("engine/control", &["auth", "config", "proto", "proxy", "runtime", "store", "tls"]),
    ("engine/simulation", &["config", "proto", "proxy", "runtime"]),
    ("engine", &["config", "control", "proto", "proxy", "runtime"]),
    ("loadgen", &["proto", "runtime", "tls"]),
    ("bench", &["proto", "runtime"]),
    ("fuzz", &["config", "proto"]),
];

/// Packages outside of the workspace: other people's proxies and runtimes, to measure beside. They depend on none of ours.
const APART: &str = "bench/contenders/";

/// Names of our crates as dependencies.
const OURS: &[&str] = &[
    "auth",
    "bench",
    "config",
    "control",
    "engine",
    "loadgen",
    "proto",
    "proxy",
    "runtime",
    "simulation",
    "store",
    "tls",
];

/// Longest file; one that needs more is split by decision, not by accident.
const LINES_MAX: usize = 1_000;

/// Words that the code below a directory never says, and why.
const ABSENCES: &[(&str, &[&str], &str)] = &[
    (
        "engine/proto/",
        &["Instant", "SystemTime", "rand", "getrandom", "TcpStream", "TcpListener", "UdpSocket", "fs", "env"],
        "proto takes time, dice and bytes from its caller",
    ),
    (
        "engine/proxy/",
        &["serde", "serde_json", "toml", "fs", "tokio"],
        "proxy reads a snapshot, never a text, a file or the store",
    ),
    ("engine/proxy/", &["Mutex", "RwLock", "Condvar"], "no core waits for another"),
];

/// A file of the tree: its path from the root, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self { path: path.into(), text: text.into() }
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The directory of the package that this manifest describes.
    fn package(&self) -> Option<&str> {
        self.path.strip_suffix("/Cargo.toml")
    }
}

/// Every Rust file and every manifest, without what is built or hidden.
fn tree() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("engine lies in the workspace");
    let mut sources = Vec::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" && name != "node_modules" {
                    dirs.push(path);
                }
            } else if name.ends_with(".rs") || name == "Cargo.toml" {
                let from_root = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
                sources.push(Source::new(from_root, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

/// Fails with every violation in the tree.
fn assert_tidy(rule: impl Fn(&Source) -> Vec<String>) {
    let violations: Vec<String> = tree().iter().flat_map(rule).collect();
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

/// The code of a Rust file: comments, strings and character literals become spaces, line ends stay.
fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = at + opaque_len(&bytes[at..], at.checked_sub(1).map(|before| bytes[before]));
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(code).expect("only whole tokens were replaced")
}

/// Length of the comment or literal that `rest` starts with, zero if it starts with code.
fn opaque_len(rest: &[u8], before: Option<u8>) -> usize {
    let find = |needle: &[u8], from: usize| {
        rest[from..]
            .windows(needle.len())
            .position(|window| window == needle)
            .map_or(rest.len(), |at| from + at)
    };
    match rest {
        [b'/', b'/', ..] => find(b"\n", 2),
        [b'/', b'*', ..] => block_comment_len(rest),
        [b'"', ..] => quoted_len(rest, b'"'),
        [b'\'', b'\\', ..] => quoted_len(rest, b'\''),
        // A lifetime has no closing quote after one character.
        [b'\'', ..] => {
            let close = find(b"'", 2);
            let is_char = std::str::from_utf8(&rest[1..close]).is_ok_and(|inner| inner.chars().count() == 1);
            if is_char && close < rest.len() { close + 1 } else { 0 }
        }
        [b'r', b'"' | b'#', ..]
            if !before.is_some_and(|byte| byte.is_ascii_alphanumeric() && byte != b'b') =>
        {
            let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
            if rest.get(1 + hashes) != Some(&b'"') {
                return 0;
            }
            let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
            (find(&close, 2 + hashes) + close.len()).min(rest.len())
        }
        _ => 0,
    }
}

fn quoted_len(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

fn block_comment_len(rest: &[u8]) -> usize {
    let (mut at, mut depth) = (2, 1);
    while at < rest.len() && depth > 0 {
        match &rest[at..] {
            [b'/', b'*', ..] => (at, depth) = (at + 2, depth + 1),
            [b'*', b'/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
    }
    at
}

/// Every identifier and keyword with its line, counted from 1.
fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    code.lines().zip(1..).flat_map(move |(line, number)| {
        line.split(move |character| !is_word(character))
            .filter(|word| !word.is_empty())
            .map(move |word| (number, word))
    })
}

// ---- unsafe ----

fn unsafe_outside_runtime(source: &Source) -> Vec<String> {
    if !source.is_rust() || source.path.starts_with("engine/runtime/") {
        return Vec::new();
    }
    let code = code_of(&source.text);
    let hits = words(&code).filter(|(_, word)| ["unsafe", "unsafe_code"].contains(word));
    hits.map(|(line, word)| format!("{}:{line}: `{word}` belongs to engine/runtime alone", source.path))
        .collect()
}

#[test]
fn unsafe_is_in_runtime_alone() {
    assert_tidy(unsafe_outside_runtime);
}

#[test]
fn unsafe_rule_can_fail() {
    let count = |path: &str, text: &str| unsafe_outside_runtime(&Source::new(path, text)).len();
    assert_eq!(count("engine/proxy/src/a.rs", "fn f() { unsafe { g() } }"), 1);
    assert_eq!(count("loadgen/src/main.rs", "#![allow(unsafe_code)]"), 1);
    assert_eq!(count("engine/runtime/src/a.rs", "unsafe fn f() {}"), 0);
    assert_eq!(count("engine/proxy/src/a.rs", "// unsafe\nlet a = \"unsafe\"; let b = r#\"\"unsafe\"#;"), 0);
}

// ---- crate edges ----

/// Our crates that a manifest names under `[dependencies]`, whatever the target or the build; tests may reach further.
fn dependencies_on_ours(manifest: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let parts: Vec<&str> = section.split('.').collect();
            let is_kind = |part: &&str| ["dependencies", "build-dependencies"].contains(part);
            let kind_at = parts.iter().position(is_kind).filter(|_| parts[0] != "workspace");
            inside = kind_at.is_some_and(|at| at + 1 == parts.len());
            // `[dependencies.proto]` names the crate in the header.
            found.extend(kind_at.and_then(|at| parts.get(at + 1).copied()));
        } else if inside && !line.starts_with('#') {
            found.extend(line.split(['.', '=', ' ']).next());
        }
    }
    found.retain(|name| OURS.contains(name));
    found
}

fn edge_that_points_up(source: &Source) -> Vec<String> {
    let Some(package) = source.package() else { return Vec::new() };
    let place = EDGES.iter().find(|(name, _)| *name == package).map(|(_, allowed)| *allowed);
    let Some(allowed) = place.or_else(|| package.starts_with(APART).then_some(&[])) else {
        return vec![format!("{}: a crate that has no place in EDGES", source.path)];
    };
    let strays = dependencies_on_ours(&source.text).into_iter().filter(|name| !allowed.contains(name));
    strays.map(|name| format!("{}: {package} must not depend on {name}", source.path)).collect()
}

#[test]
fn crate_edges_point_down() {
    assert_tidy(edge_that_points_up);
}

#[test]
fn every_crate_with_a_place_exists() {
    let tree = tree();
    for (package, _) in EDGES {
        assert!(tree.iter().any(|source| source.package() == Some(package)), "{package} has no Cargo.toml");
    }
}

#[test]
fn edge_rule_can_fail() {
    let strays = |path: &str, text: &str| edge_that_points_up(&Source::new(path, text)).len();
    assert_eq!(strays("engine/proto/Cargo.toml", "[dependencies]\nconfig.workspace = true"), 1);
    assert_eq!(strays("engine/proto/Cargo.toml", "[dependencies.runtime]\nworkspace = true"), 1);
    assert_eq!(strays("config/Cargo.toml", "[build-dependencies]\nproxy = { workspace = true }"), 1);
    assert_eq!(strays("config/Cargo.toml", "[target.'cfg(unix)'.dependencies]\ncontrol.workspace = true"), 1);
    assert_eq!(strays("tools/Cargo.toml", "[package]"), 1);
    assert_eq!(strays("bench/contenders/x/Cargo.toml", "[dependencies]\nruntime = { path = \"y\" }"), 1);
    assert_eq!(strays("bench/contenders/x/Cargo.toml", "[dependencies]\nmonoio = \"=0.2.4\""), 0);
    assert_eq!(
        strays("config/Cargo.toml", "[dependencies]\nproto.workspace = true\nserde.workspace = true"),
        0
    );
    assert_eq!(strays("engine/proto/Cargo.toml", "[dev-dependencies]\nruntime.workspace = true"), 0);
}

// ---- the simulation stays out of production ----

fn simulation_in_production(source: &Source) -> Vec<String> {
    let asks = |line: &str| line.trim_start().starts_with("runtime") && line.contains("\"simulation\"");
    match source.package() {
        Some("engine/simulation") | None => Vec::new(),
        Some(_) => {
            let hits = source.text.lines().zip(1..).filter(|(line, _)| asks(line));
            hits.map(|(_, line)| {
                format!("{}:{line}: only engine/simulation runs on a simulated network", source.path)
            })
            .collect()
        }
    }
}

#[test]
fn no_program_is_built_with_a_simulated_network() {
    assert_tidy(simulation_in_production);
}

#[test]
fn simulation_rule_can_fail() {
    let count = |path: &str, text: &str| simulation_in_production(&Source::new(path, text)).len();
    let asks = "[dependencies]\nruntime = { workspace = true, features = [\"simulation\"] }";
    assert_eq!(count("engine/Cargo.toml", asks), 1);
    assert_eq!(count("engine/simulation/Cargo.toml", asks), 0);
    assert_eq!(count("engine/Cargo.toml", "[dependencies]\nruntime.workspace = true"), 0);
}

// ---- lints ----

fn manifest_without_lints(source: &Source) -> Vec<String> {
    let has_lints = source
        .text
        .split("[lints]")
        .nth(1)
        .is_some_and(|rest| rest.trim_start().starts_with("workspace = true"));
    let forbids_unsafe = source.text.contains("[lints.rust]\nunsafe_code = \"forbid\"");
    match source.package() {
        // It has no workspace to take them from.
        Some(package) if package.starts_with(APART) && !forbids_unsafe => {
            vec![format!("{}: `[lints.rust]` with `unsafe_code = \"forbid\"` is missing", source.path)]
        }
        Some(package) if !package.starts_with(APART) && !has_lints => {
            vec![format!("{}: `[lints] workspace = true` is missing", source.path)]
        }
        _ => Vec::new(),
    }
}

#[test]
fn every_crate_takes_the_workspace_lints() {
    assert_tidy(manifest_without_lints);
}

#[test]
fn lints_rule_can_fail() {
    let count = |text: &str| manifest_without_lints(&Source::new("config/Cargo.toml", text)).len();
    assert_eq!(count("[package]\nname = \"x\""), 1);
    assert_eq!(count("[lints.rust]\nunsafe_code = \"allow\""), 1);
    assert_eq!(count("[lints]\nworkspace = true"), 0);
    let count_apart =
        |text| manifest_without_lints(&Source::new("bench/contenders/x/Cargo.toml", text)).len();
    assert_eq!(count_apart("[package]"), 1);
    assert_eq!(count_apart("[lints.rust]\nunsafe_code = \"forbid\""), 0);
}

// ---- shape of a file ----

fn file_too_long(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    if !source.is_rust() || lines <= LINES_MAX {
        return Vec::new();
    }
    vec![format!("{}: {lines} lines, more than {LINES_MAX}: split it", source.path)]
}

#[test]
fn no_file_is_too_long() {
    assert_tidy(file_too_long);
}

#[test]
fn length_rule_can_fail() {
    let count = |lines: usize| file_too_long(&Source::new("a.rs", "\n".repeat(lines))).len();
    assert_eq!((count(LINES_MAX), count(LINES_MAX + 1)), (0, 1));
}

fn file_without_question(source: &Source) -> Vec<String> {
    // What the module is for must be its first words, and must be words.
    let answers =
        source.text.strip_prefix("//! ").is_some_and(|text| text.starts_with(char::is_alphanumeric));
    if !source.is_rust() || answers {
        return Vec::new();
    }
    vec![format!("{}:1: a module starts with `//!` and the question that it answers", source.path)]
}

#[test]
fn every_file_says_what_it_answers() {
    assert_tidy(file_without_question);
}

#[test]
fn question_rule_can_fail() {
    let count = |text: &str| file_without_question(&Source::new("a.rs", text)).len();
    assert_eq!(count("use std::fs;"), 1);
    assert_eq!(count("//! .\n"), 1);
    assert_eq!(count("//! What is kept?\n"), 0);
}

// ---- tests ----

fn ignored_test(source: &Source) -> Vec<String> {
    if !source.is_rust() {
        return Vec::new();
    }
    let code = code_of(&source.text);
    let hits = code.lines().zip(1..).filter(|(line, _)| line.trim_start().starts_with("#[ignore"));
    hits.map(|(_, line)| format!("{}:{line}: a test that does not run is no test", source.path)).collect()
}

#[test]
fn no_test_is_ignored() {
    assert_tidy(ignored_test);
}

#[test]
fn ignore_rule_can_fail() {
    let count = |text: &str| ignored_test(&Source::new("a.rs", text)).len();
    assert_eq!(count("#[test]\n#[ignore]\nfn f() {}"), 1);
    assert_eq!(count("    #[ignore = \"slow\"]"), 1);
    assert_eq!(count("// #[ignore]"), 0);
}

/// A thread that sleeps in a black-box test must say what it waits for that cannot be seen.
fn unexplained_sleep(source: &Source) -> Vec<String> {
    if !source.is_rust() || !source.path.contains("/tests/") {
        return Vec::new();
    }
    let code = code_of(&source.text);
    let texts: Vec<&str> = source.text.lines().collect();
    let has_comment =
        |line: usize| texts[line.saturating_sub(2)..line].iter().any(|text| text.contains("// "));
    let hits =
        code.lines().zip(1..).filter(|(code, line)| code.contains("thread::sleep(") && !has_comment(*line));
    hits.map(|(_, line)| {
        format!("{}:{line}: a sleep is no synchronisation; say what it waits for", source.path)
    })
    .collect()
}

#[test]
fn no_test_sleeps_without_a_reason() {
    assert_tidy(unexplained_sleep);
}

#[test]
fn sleep_rule_can_fail() {
    let count = |path: &str, text: &str| unexplained_sleep(&Source::new(path, text)).len();
    assert_eq!(count("engine/tests/a.rs", "fn f() {\n    thread::sleep(LONG);\n}"), 1);
    assert_eq!(count("engine/tests/a.rs", "// Half the deadline has passed.\nthread::sleep(LONG);"), 0);
    assert_eq!(count("engine/src/a.rs", "\nthread::sleep(LONG);"), 0);
}

// ---- absences ----

fn forbidden_word(source: &Source) -> Vec<String> {
    let mut violations = Vec::new();
    for (dir, forbidden, reason) in ABSENCES {
        if !source.is_rust() || !source.path.starts_with(dir) {
            continue;
        }
        let code = code_of(&source.text);
        let hits = words(&code).filter(|(_, word)| forbidden.contains(word));
        violations.extend(hits.map(|(line, word)| format!("{}:{line}: `{word}`: {reason}", source.path)));
    }
    violations
}

#[test]
fn absences_hold() {
    assert_tidy(forbidden_word);
}

#[test]
fn absence_rule_can_fail() {
    let count = |path: &str, text: &str| forbidden_word(&Source::new(path, text)).len();
    assert_eq!(count("engine/proto/src/a.rs", "let now = std::time::Instant::now();"), 1);
    assert_eq!(count("engine/proto/src/a.rs", "use std::net::{IpAddr, TcpStream};"), 1);
    assert_eq!(count("engine/proxy/src/a.rs", "use std::{fs, io};"), 1);
    assert_eq!(count("engine/proxy/src/a.rs", "#[derive(serde::Serialize)]"), 1);
    assert_eq!(count("engine/proxy/src/a.rs", "// toml, serde\nuse std::time::Instant;"), 0);
    assert_eq!(count("engine/proto/src/a.rs", "let instant = 1; let randomly = \"rand\";"), 0);
}

// ---- the reader of code itself ----

#[test]
fn code_is_what_remains_without_comments_and_literals() {
    let check = |text: &str, expected: &str| {
        let code = code_of(text);
        assert_eq!(code.split_whitespace().collect::<Vec<_>>().join(" "), expected, "{text}");
        assert_eq!(code.lines().count(), text.lines().count(), "{text}");
    };
    check("a // b\nc", "a c");
    check("a /* b /* c */ d */ e", "a e");
    check(r#"a "b \" c" d"#, "a d");
    check(r##"a r#"b " c"# d"##, "a d");
    check(r#"a br"b\" c"#, "a b c");
    check("a '\"' b '\\'' c", "a b c");
    check("fn f<'a>(x: &'a str) -> &'a str", "fn f<'a>(x: &'a str) -> &'a str");
    check("let r = 1; for r in x {}", "let r = 1; for r in x {}");
    check("\"a\nb\" c", "c");
}
