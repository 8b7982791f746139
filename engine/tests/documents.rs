//! Is what the documents say still there: where links lead, what configurations and counters are called?
//!
//! It reads text and starts nothing; each rule stands beside a test that shows how it fails.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Directories that hold no documents of ours.
const APART: [&str; 3] = ["target", "node_modules", "contenders"];

/// Pages whose blocks of TOML are, one after the other, a configuration that can be used.
const GUIDES: [&str; 4] =
    ["docs/getting-started.md", "docs/guide/http-proxy.md", "docs/guide/https.md", "docs/guide/tcp.md"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("engine lies in the workspace").to_owned()
}

/// Every file below the root that ends so, by its path from there.
fn files(end: &str) -> BTreeMap<PathBuf, String> {
    let root = root();
    let mut found = BTreeMap::new();
    let mut dirs = vec![root.clone()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if path.is_dir() {
                if !name.starts_with('.') && !APART.contains(&name.as_str()) {
                    dirs.push(path);
                }
            } else if name.ends_with(end) {
                let text = fs::read_to_string(&path).expect("text");
                found.insert(path.strip_prefix(&root).expect("below it").to_owned(), text);
            }
        }
    }
    found
}

/// The text without what stands in blocks of code, whose lines are kept empty.
fn prose(text: &str) -> String {
    let mut is_code = false;
    let line = |line: &str| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        if is_fence || is_code { String::new() } else { line.to_owned() }
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Where the links of a document lead, by line.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (line, number) in prose(text).lines().zip(1..) {
        // What is quoted as code is no link.
        let outside: String = line.split('`').step_by(2).collect::<Vec<_>>().join("``");
        for rest in outside.split("](").skip(1) {
            if let Some((target, _)) = rest.split_once(')') {
                found.push((number, target.to_owned()));
            }
        }
    }
    found
}

/// What a heading is called in links, as forges write it.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text);
    let headings = headings.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let title = heading.trim_start_matches('#').trim().to_lowercase();
        let kept =
            title.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
        kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
    };
    headings.map(anchor).collect()
}

/// Links of a document that lead nowhere.
fn broken(
    path: &Path,
    text: &str,
    documents: &BTreeMap<PathBuf, String>,
    exists: impl Fn(&Path) -> bool,
) -> Vec<String> {
    let mut broken = Vec::new();
    for (line, link) in links(text) {
        if link.contains("://") || link.starts_with("mailto:") {
            continue;
        }
        let (file, anchor) =
            link.split_once('#').map_or((link.as_str(), None), |(file, anchor)| (file, Some(anchor)));
        let mut target = PathBuf::new();
        let joined = path.parent().unwrap_or(Path::new("")).join(file);
        for part in if file.is_empty() { path } else { &joined }.components() {
            match part.as_os_str().to_str() {
                Some("..") => _ = target.pop(),
                Some(".") => {}
                _ => target.push(part),
            }
        }
        let has_anchor = |anchor| documents.get(&target).is_none_or(|text| anchors(text).contains(anchor));
        if !exists(&target) || !anchor.is_none_or(has_anchor) {
            broken.push(format!("{}:{line}: {link} leads nowhere", path.display()));
        }
    }
    broken
}

#[test]
fn every_link_leads_somewhere() {
    let (root, documents) = (root(), files(".md"));
    let broken: Vec<String> = documents
        .iter()
        .flat_map(|(path, text)| broken(path, text, &documents, |target| root.join(target).exists()))
        .collect();
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
    assert!(documents.values().map(|text| links(text).len()).sum::<usize>() > 100, "links are found");
}

#[test]
fn link_rule_can_fail() {
    let documents = BTreeMap::from([(PathBuf::from("docs/b.md"), "# One `two`, three\n".to_owned())]);
    let count = |text: &str| {
        broken(Path::new("docs/a.md"), text, &documents, |path| documents.contains_key(path)).len()
    };
    assert_eq!(count("[b](b.md) [b](b.md#one-two-three) [c](https://c.example)"), 0);
    assert_eq!(count("[c](c.md)"), 1);
    assert_eq!(count("[b](../b.md)"), 1);
    assert_eq!(count("[b](b.md#one)"), 1);
    assert_eq!(count("`[c](c.md)`\n```\n[c](c.md)\n```\n"), 0);
}

/// All blocks of TOML of a page.
fn toml_of(text: &str) -> String {
    let mut blocks = String::new();
    let mut is_toml = false;
    for line in text.lines() {
        match (line, is_toml) {
            ("```toml", _) => is_toml = true,
            ("```", _) => is_toml = false,
            (line, true) => blocks.extend([line, "\n"]),
            _ => {}
        }
    }
    blocks
}

/// The text with one file that can be read in place of every certificate and key.
fn with_a_file(text: &str, file: &Path) -> String {
    let is_file = |text: &str| text.ends_with(".pem") || text.ends_with(".key");
    let pieces =
        text.split('"').map(|piece| if is_file(piece) { file.to_str().expect("UTF-8") } else { piece });
    pieces.collect::<Vec<_>>().join("\"")
}

#[test]
fn what_guides_configure_can_be_used() {
    for page in GUIDES {
        let text = toml_of(&fs::read_to_string(root().join(page)).expect("a page"));
        assert!(text.contains("[listener."), "{page}");
        let text = with_a_file(&text, &root().join(page));
        let loaded = config::load_str(page, &text, config::Format::Toml, &|_| None);
        let problems = loaded.err().map(|problems| problems.to_string());
        assert_eq!(problems, None, "{page}");
    }
}

/// Words in backticks that look like the name of a counter, a fault or a key.
fn names(text: &str) -> BTreeSet<&str> {
    let quoted = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    let words =
        quoted.flat_map(|quoted| quoted.split(|letter: char| !(letter.is_alphanumeric() || letter == '_')));
    let is_name = |word: &&str| {
        word.contains('_') && word.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_')
    };
    words.filter(is_name).filter(|word| !word.starts_with('_') && !word.ends_with('_')).collect()
}

#[test]
fn what_troubleshooting_names_is_there() {
    let sources = files(".rs");
    let sources: Vec<&str> = sources
        .iter()
        .filter(|(path, _)| path.components().any(|part| part.as_os_str() == "src"))
        .map(|(_, text)| text.as_str())
        .collect();
    // The kernel's names are not ours to keep.
    let foreign = [
        "ip_local_port_range",
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "io_uring_disabled",
        "s_client",
    ];
    let page = fs::read_to_string(root().join("docs/troubleshooting.md")).expect("a page");
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    let is_there = |name: &&&str| {
        sources.iter().any(|text| text.split(|letter| !is_word(letter)).any(|word| word == **name))
    };
    let names = names(&page);
    let missing: Vec<_> =
        names.iter().filter(|name| !foreign.contains(name)).filter(|name| !is_there(name)).collect();
    assert!(missing.is_empty(), "named in docs/troubleshooting.md and nowhere else: {missing:?}");
    assert!(names.len() > 40, "{}", names.len());
}

#[test]
fn names_are_what_stands_in_backticks() {
    let found = names("`a_b` of c_d, `e.f_g = 1`, `_per_address`, `A_B`, `h`");
    assert_eq!(found, BTreeSet::from(["a_b", "f_g"]));
}
