//! Is a file checked, compared and watched as an operator expects, and is whatever may be wrong with it never half applied?
//!
//! Never about what a key means; what a reload does to connections is for `apply.rs` and `reload.rs`.

mod common;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;

use common::connection::Connection;
use common::engine::{Driver, Engine};
use common::{eventually, on_both_drivers};
use serde_json::{Value, json};

/// Mutated files that a running engine is told to read, on each driver.
const MUTATIONS: usize = 100;

/// A configuration whose answers all say `mark`. Two ways in, three channels, an upstream.
fn marked(mark: &str) -> String {
    format!(
        "process.drain_timeout = \"30s\"\n\
         [listener.web]\nbind = \"127.0.0.1:0\"\nbacklog = 100\ndeny = [\"203.0.113.0/24\"]\n\
         [listener.more]\nbind = \"127.0.0.1:0\"\ntimeouts.idle = \"50s\"\n\
         [channel.a]\npriority = 1\nmatch = {{ path_prefix = \"/a\", methods = [\"GET\"] }}\n\
         respond = {{ status = 200, body = \"{mark}\" }}\n\
         [channel.b]\npriority = 2\nmatch.path = \"^/b[0-9]*$\"\nrespond = {{ status = 203, body = \"{mark}\" }}\n\
         [channel.all]\nrespond = {{ body = \"{mark}\" }}\n\
         [upstream.idle]\nendpoints = [\"10.0.0.1:8000\", {{ address = \"10.0.0.2:8000\", weight = 2 }}]\n\
         idle_connections = 5\nidle_timeout = \"20s\"\n\
         [admin]\nbind = \"127.0.0.1:0\"\n"
    )
}

/// Marsaglia's xorshift64*: any seed but zero replays its run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let random = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(random).expect("31 bits fit") % bound.max(1)
    }

    /// A line that may be changed. Where something listens stays: another port may be somebody else's.
    fn line(&mut self, lines: &[String]) -> usize {
        loop {
            let index = self.below(lines.len());
            if !lines[index].starts_with("bind") {
                return index;
            }
        }
    }
}

/// None, one or two edits, so that many files are right and are taken up between those that are not: a line removed, doubled, moved or cut, the values of two keys exchanged, a byte replaced.
fn mutate(text: &str, dice: &mut Dice) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for _ in 0..dice.below(3) {
        let (one, other) = (dice.line(&lines), dice.line(&lines));
        match dice.below(6) {
            0 => drop(lines.remove(one)),
            1 => lines.insert(other, lines[one].clone()),
            2 => lines.swap(one, other),
            3 => {
                let end = lines[one].floor_char_boundary(dice.below(lines[one].len()));
                lines[one].truncate(end);
            }
            4 => {
                let value = |line: &str| {
                    line.split_once(" = ").map(|(key, value)| (key.to_owned(), value.to_owned()))
                };
                if let (Some((key, value)), Some((other_key, other_value))) =
                    (value(&lines[one]), value(&lines[other]))
                {
                    lines[one] = format!("{key} = {other_value}");
                    lines[other] = format!("{other_key} = {value}");
                }
            }
            _ => {
                let place = dice.below(lines[one].len());
                let byte = b"0az\"[]{}=.,#-_ "[dice.below(15)];
                if lines[one].is_ascii() && !lines[one].is_empty() {
                    lines[one].replace_range(place..=place, std::str::from_utf8(&[byte]).expect("ASCII"));
                }
            }
        }
    }
    lines.join("\n") + "\n"
}

/// Where each listener is.
fn listeners(stats: &Value) -> Vec<(String, SocketAddr)> {
    let rows = stats["listeners"].as_array().expect("listeners").iter();
    rows.filter_map(|row| Some((row["name"].as_str()?.to_owned(), row["address"].as_str()?.parse().ok()?)))
        .collect()
}

/// The inode of every socket that the engine listens at: one that was closed and opened again has another.
fn listening(engine: &Engine) -> Vec<String> {
    let table = fs::read_to_string(format!("/proc/{}/net/tcp", engine.pid())).expect("the kernel's table");
    let is_listening = |line: &&str| line.split_whitespace().nth(3) == Some("0A");
    let inodes = table.lines().filter(is_listening).filter_map(|line| line.split_whitespace().nth(9));
    let all: Vec<String> = inodes.map(|inode| format!("socket:[{inode}]")).collect();
    let held = fs::read_dir(format!("/proc/{}/fd", engine.pid())).expect("its descriptors");
    let held = held.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let mut own: Vec<String> =
        held.map(|link| link.display().to_string()).filter(|link| all.contains(link)).collect();
    own.sort();
    own
}

/// What all ways in answer, which must be one thing.
fn answers(stats: &Value) -> Vec<String> {
    let mut bodies = Vec::new();
    for (name, address) in listeners(stats) {
        if !["web", "more"].contains(&&*name) {
            continue;
        }
        for path in ["/", "/a/1", "/b1"] {
            let response = Connection::open(address)
                .ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
            bodies.push(String::from_utf8(response.body).expect("text"));
        }
    }
    bodies
}

#[test]
fn a_mutated_file_is_applied_whole_or_not_at_all() {
    on_both_drivers(|driver| {
        let seed = std::env::var("CORELANE_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok())
            .unwrap_or(0x00c0_7e1a_5eed);
        eprintln!("CORELANE_SEED={seed}");
        let mut dice = Dice(seed);
        let engine = Engine::start_on_cores(driver, 2, marked("m0"));
        let mut running = (json!(1), "m0".to_owned());
        let (mut taken, mut refused) = (0, 0);
        for number in 1..=MUTATIONS {
            let mark = format!("m{number}");
            let text = mutate(&marked(&mark), &mut dice);
            fs::write(engine.config(), &text).expect("a writable directory");
            let expected = config::load_file(engine.config());
            let before = (engine.stats(), listening(&engine));
            let (status, answer) = engine.reload();
            let after = engine.stats();
            match (status, &expected) {
                (200, Ok(loaded)) => {
                    taken += 1;
                    let fingerprint = format!("{:016x}", loaded.snapshot.fingerprint);
                    assert_eq!(after["configuration"]["fingerprint"], json!(fingerprint), "{text}");
                    running = (answer["number"].clone(), mark);
                    assert_eq!(after["configuration"]["last_failure"], Value::Null);
                }
                (422, _) => {
                    refused += 1;
                    assert!(!answer["problems"].as_array().expect("problems").is_empty(), "{text}");
                    assert_eq!(
                        after["configuration"]["fingerprint"],
                        before.0["configuration"]["fingerprint"]
                    );
                    assert_eq!(listeners(&after), listeners(&before.0), "{text}");
                    assert_eq!(listening(&engine), before.1, "{text}");
                    assert_ne!(after["configuration"]["last_failure"], Value::Null, "it is to be seen");
                }
                _ => panic!("{status} {answer:#} of what is {:?}\n{text}", expected.map(|_| "fine")),
            }
            assert_eq!(after["configuration"]["number"], running.0, "{text}");
            for body in answers(&after) {
                // An answer that says nothing is one that lost its body, or the gateway's own.
                let is_other =
                    body.starts_with('m') && body.len() > 1 && body[1..].bytes().all(|b| b.is_ascii_digit());
                assert!(!is_other || body == running.1, "{body:?} while {:?} runs\n{text}", running.1);
            }
        }
        assert!(taken > MUTATIONS / 5 && refused > MUTATIONS / 5, "{taken} taken, {refused} refused");
    });
}

/// A directory with a configuration in several files.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("configuration-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("conf.d")).expect("a directory");
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a writable directory");
        path.display().to_string()
    }

    /// As editors write: another file that takes the name.
    fn replace(&self, name: &str, text: &str) {
        let beside = self.write(&format!("{name}.new"), text);
        fs::rename(beside, self.0.join(name)).expect("renamed");
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(arguments: &[&str]) -> Output {
    Engine::command().args(arguments).output().expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn what_is_said_of_a_wrong_file_is_what_is_written_beside_it() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    for name in [
        "key_misspelt.toml",
        "yaml.toml",
        "json_comma_missing.json",
        "include_with_a_typo.toml",
        "port_in_conflict.toml",
    ] {
        let file = format!("tests/wrong/{name}");
        let ended = Engine::command()
            .current_dir(&directory)
            .args(["check", "--config", &file])
            .output()
            .expect("it runs");
        let beside = fs::read_to_string(directory.join(format!("{file}.txt"))).expect("it is there");
        // One line for each problem where nobody looks on.
        let (lines, _) = beside.split_once("\n\n").expect("two forms");
        assert_eq!(ended.status.code(), Some(1));
        let errors = lines.lines().filter(|line| !line.contains(" warning: ")).count();
        let plural = if errors == 1 { "" } else { "s" };
        let expected = format!("{lines}\nerror: {file} cannot be used: {errors} error{plural}\n");
        assert_eq!(text(&ended.stderr), expected, "{name}");
        assert!(ended.stdout.is_empty());
    }
}

const MAIN: &str = "include = \"conf.d/*.toml\"\nprocess.watch = true\n[listener.web]\nbind = \"127.0.0.1:0\"\n\
                    [admin]\nbind = \"127.0.0.1:0\"\n";

fn saying(body: &str) -> String {
    format!("[channel.all]\nrespond = {{ body = \"{body}\" }}\n")
}

#[test]
fn a_check_names_every_file_that_is_read() {
    let directory = Directory::new("check");
    let main = directory.write("main.toml", MAIN);
    let (b, a) = (directory.write("conf.d/b.toml", ""), directory.write("conf.d/a.toml", &saying("a")));
    let ended = run(&["check", "--config", &main]);
    let expected = format!(
        "{main}: configuration is fine: 1 listener, 1 channel, 0 upstreams, 0 endpoints\n  with {a}\n  with {b}\n"
    );
    assert_eq!((ended.status.code(), text(&ended.stdout)), (Some(0), expected));
    let whole = text(&run(&["config", "dump", "--config", &main]).stdout);
    assert!(whole.contains("[channel.all]") && !whole.contains("include"), "{whole}");
}

#[test]
fn a_difference_is_what_a_reload_then_does() {
    let directory = Directory::new("diff");
    let before = "[listener.web]\nbind = \"127.0.0.1:0\"\n[listener.old]\nbind = \"127.0.0.1:0\"\n\
                  [channel.all]\nupstream = \"app\"\n[upstream.app]\nendpoints = [\"10.0.0.1:80\", \"10.0.0.2:80\"]\n\
                  [admin]\nbind = \"127.0.0.1:0\"\n";
    let engine = Engine::start(Driver::Epoll, before);
    let admin = engine.admin().to_string();
    let diff = |text: &str| {
        let file = directory.write("next.toml", text);
        let ended = run(&["config", "diff", &file, "--admin", &admin]);
        (ended.status.code(), self::text(&ended.stdout), self::text(&ended.stderr))
    };
    let (code, out, _) = diff(before);
    assert!(code == Some(0) && out.ends_with("says what runs: a reload would do nothing\n"), "{out}");

    let after = before
        .replace("[listener.old]", "backlog = 77\n[listener.new]")
        .replace("10.0.0.1:80", "10.0.0.3:80")
        .replace("[channel.all]", "[process]\nbuffers_per_core = 64\n[channel.all]");
    let (code, out, error) = diff(&after);
    let expected = "~ process changes\n    process.buffers_per_core: 512 -> 64\n\
                    + listener.new is opened\n\
                    - listener.old is closed: nobody is accepted any more, what has begun goes on\n\
                    ~ listener.web changes\n    listener.web.backlog: 1024 -> 77\n\
                    ~ upstream.app changes\n    + 10.0.0.3:80\n    - 10.0.0.1:80, which drains\n    \
                    upstream.app.endpoints: [\"10.0.0.1:80\",\"10.0.0.2:80\"] -> [\"10.0.0.3:80\",\"10.0.0.2:80\"]\n\
                    ! process.buffers_per_core takes effect with a restart\n";
    assert_eq!(code, Some(1), "{error}");
    assert!(out.starts_with(expected), "{out}");

    // Nothing was done, and what was said is what is done.
    assert_eq!(engine.stats()["configuration"]["number"], 1);
    engine.rewrite(&after);
    let dry = run(&["reload", "--dry-run", "--json", "--admin", &admin]);
    let plan: Value = serde_json::from_slice(&dry.stdout).expect("JSON");
    assert_eq!((dry.status.code(), &plan["needs_restart"]), (Some(1), &json!(["process.buffers_per_core"])));
    let (_, answer) = engine.reload();
    let changes = [
        "process changed",
        "listener.new added",
        "listener.old removed",
        "listener.web changed",
        "upstream.app changed",
    ];
    assert_eq!(answer["changes"], json!(changes));
    assert_eq!(run(&["reload", "--dry-run", "--admin", &admin]).status.code(), Some(0));

    // What is wrong in itself, and what only the process can know.
    let (code, _, error) = diff("[listener.web]\nbidn = 5\n");
    assert!(code == Some(2) && error.contains("next.toml:2:1: listener.web.bidn"), "{error}");
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = other.local_addr().expect("an address");
    let (code, _, error) = diff(&format!("{before}[listener.taken]\nbind = \"{taken}\"\n"));
    assert!(
        code == Some(2) && error.contains(&format!("cannot listen on {taken} (listener.taken.bind)")),
        "{error}"
    );
    assert_eq!(engine.stats()["configuration"]["number"], 2);
}

#[test]
fn files_that_are_watched_are_read_when_they_change() {
    let directory = Directory::new("watch");
    let main = directory.write("main.toml", MAIN);
    directory.write("conf.d/a.toml", &saying("one"));
    let arguments = ["--cores", "1", "--config", &main].map(str::to_owned);
    let engine = Engine::spawn_without_file(&mut Engine::command(), &arguments);
    engine.wait_until_serving();
    let says = |expected: &str| {
        eventually(expected, || engine.connect().get("/").body == expected.as_bytes());
    };
    says("one");
    directory.replace("conf.d/a.toml", &saying("two"));
    says("two");
    // What cannot be used changes nothing, and is to be seen.
    directory.write("conf.d/a.toml", "[channel.all]\nrespnd = {}\n");
    eventually("it is refused", || engine.stats()["configuration"]["last_failure"] != Value::Null);
    says("two");
    // Of many that follow each other the last one counts.
    for number in 0..50 {
        directory.replace("conf.d/a.toml", &saying(&number.to_string()));
    }
    says("49");
    let number = engine.stats()["configuration"]["number"].as_u64().expect("a number");
    assert!(number <= 6, "{number} configurations: each was read by itself");
    eventually("it is well again", || engine.stats()["configuration"]["last_failure"] == Value::Null);
    // Once it is not wanted any more, only a signal counts.
    directory.replace("main.toml", &MAIN.replace("true", "false"));
    eventually("it was read", || engine.stats()["configuration"]["number"].as_u64() > Some(number));
    directory.replace("conf.d/a.toml", &saying("unseen"));
    engine.signal(rustix::process::Signal::HUP);
    says("unseen");
}
