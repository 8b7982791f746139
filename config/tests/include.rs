//! What do a file and those that it includes say together, and where is a mistake that lies in one of them?

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use config::{Files, Loaded, Problems, dump, load_file, load_shared, shared_document};

/// A directory with files, removed with it.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let path = std::env::temp_dir().join(format!("corelane-include-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("conf.d")).expect("a directory");
        let directory = Self(path);
        files.iter().for_each(|(name, text)| directory.write(name, text));
        directory
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).expect("a file");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn load(&self) -> Result<Loaded, Problems> {
        load_file(self.path("main.toml"))
    }

    /// The problems, one in a line, without the directory.
    fn problems(&self) -> Vec<String> {
        let problems = self.load().expect_err("it is wrong").to_string();
        problems.replace(&format!("{}/", self.0.display()), "").lines().map(str::to_owned).collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn fine(loaded: Result<Loaded, Problems>) -> Loaded {
    loaded.unwrap_or_else(|problems| panic!("{problems}"))
}

const MAIN: &str = "include = \"conf.d/*.toml\"\n[listener.web]\nbind = \"127.0.0.1:8080\"\n";

#[test]
fn files_are_one_configuration_in_the_order_of_their_names() {
    let directory = Directory::new(
        "order",
        &[
            ("main.toml", MAIN),
            (
                "conf.d/20-b.toml",
                "[channel.b]\nmatch.path_prefix = \"/b\"\nrespond = {}\n[listener.web]\nbacklog = 7\n",
            ),
            ("conf.d/10-a.toml", "[channel.z]\nmatch.path_prefix = \"/a\"\nrespond = {}\n"),
            ("conf.d/.hidden.toml", "not = a configuration"),
            ("conf.d/10-a.toml~", "not = a configuration"),
            ("conf.d/notes.txt", "not = a configuration"),
        ],
    );
    let loaded = fine(directory.load());
    let names: Vec<_> = loaded.schema.channel.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["z", "b"]);
    assert_eq!(loaded.schema.listener.iter().map(|(_, listener)| listener.backlog).collect::<Vec<_>>(), [7]);
    let whole = dump(&loaded.schema);
    assert!(!whole.contains("include"), "{whole}");
    directory.write("whole.toml", &whole);
    let again = fine(load_file(directory.path("whole.toml")));
    assert_eq!(again.snapshot.fingerprint, loaded.snapshot.fingerprint);
    directory.write("conf.d/10-a.toml", "[channel.z]\nmatch.path_prefix = \"/x\"\nrespond = {}\n");
    assert_ne!(fine(directory.load()).snapshot.fingerprint, loaded.snapshot.fingerprint);
}

#[test]
fn a_list_names_patterns_and_files_of_both_formats() {
    let directory = Directory::new(
        "list",
        &[
            (
                "main.toml",
                "include = [\"b.json\", \"conf.d/*\", \"none-*.toml\"]\nlistener.web.bind = \"127.0.0.1:1\"",
            ),
            ("b.json", r#"{ "$schema": "x", "channel": { "b": { "upstream": "u" } } }"#),
            ("conf.d/a.toml", "[upstream.u]\nendpoints = [\"10.0.0.1:80\"]\n"),
        ],
    );
    fs::create_dir(directory.path("conf.d/more")).expect("a directory is not a file that is meant");
    assert_eq!(fine(directory.load()).snapshot.upstreams.len(), 1);
    let files = Files::read(&directory.path("main.toml")).expect("it is there");
    let names = |paths: Vec<&std::path::Path>| -> Vec<String> {
        let name =
            |path: &std::path::Path| path.strip_prefix(&directory.0).expect("below").display().to_string();
        paths.into_iter().map(name).collect()
    };
    assert_eq!(names(files.paths().collect()), ["main.toml", "b.json", "conf.d/a.toml"]);
    assert_eq!(names(files.directories().collect()), ["conf.d", ""]);
}

#[test]
fn what_goes_into_a_store_holds_what_is_included() {
    let directory = Directory::new(
        "store",
        &[
            ("main.toml", &format!("\"$schema\" = \"x\"\n{MAIN}")),
            ("conf.d/a.toml", "channel.a.respond.body = \"${HOME_PAGE:-x}\""),
        ],
    );
    let document =
        shared_document(&Files::read(&directory.path("main.toml")).expect("there")).expect("of form");
    assert!(
        document.contains("${HOME_PAGE:-x}")
            && !document.contains("include")
            && !document.contains("$schema")
    );
    load_shared("store", &document, &BTreeSet::new(), &|_| None)
        .unwrap_or_else(|problems| panic!("{problems}"));
    let with = document.replacen('{', "{ \"include\": \"conf.d/*.toml\",", 1);
    let problems =
        load_shared("store", &with, &BTreeSet::new(), &|_| None).expect_err("nothing is beside it");
    let expected = "store:1:14: include: files can be included by a configuration file only \
                    (push the file that includes them: engine config push FILE)";
    assert_eq!(problems.to_string(), expected);
}

#[test]
fn each_mistake_is_placed_in_its_own_file() {
    let directory = Directory::new(
        "places",
        &[
            ("main.toml", &format!("{MAIN}backlog = 0\n")),
            ("conf.d/a.toml", "# one\n\n[channel.a]\nupstrem = \"u\"\n"),
            ("conf.d/b.json", "{}"),
            ("conf.d/c.toml", "[channel.c]\nupstream = \"${CORELANE_NOT_SET}\"\n"),
        ],
    );
    assert_eq!(
        directory.problems(),
        [
            "main.toml:4:11: listener.web.backlog: must be 1 to 65535, found 0",
            "conf.d/a.toml:3:10: channel.a: a channel has an upstream, a response or a redirect, found none (for example upstream = \"NAME\")",
            "conf.d/a.toml:4:1: channel.a.upstrem: unknown key (did you mean \"upstream\"?)",
            "conf.d/c.toml:2:13: channel.c.upstream: the environment variable CORELANE_NOT_SET is not set \
             (set it, or give a default: \"${CORELANE_NOT_SET:-…}\")",
        ]
    );
    let shown = directory.load().expect_err("it is wrong").render(false);
    assert!(shown.contains("conf.d/a.toml:4:1") && shown.contains("upstrem = \"u\""), "{shown}");
}

#[test]
fn what_has_no_form_is_told_of_every_file_at_once() {
    let directory = Directory::new(
        "form",
        &[("main.toml", &format!("{MAIN}backlog = = 1\n")), ("conf.d/a.toml", "x = = 1\n")],
    );
    // Of a file without form nobody knows what it includes.
    assert_eq!(directory.problems().len(), 1);
    directory.write("main.toml", MAIN);
    directory.write("conf.d/b.toml", "y = = 1\n");
    fs::write(directory.path("conf.d/c.toml"), b"# ok\nx = \"\xff\"\n").expect("a file");
    let places: Vec<String> = directory
        .problems()
        .iter()
        .filter_map(|problem| Some(problem.split_once(": ")?.0.to_owned()))
        .collect();
    assert_eq!(places, ["conf.d/a.toml:1:5", "conf.d/b.toml:1:5", "conf.d/c.toml:2:6"]);
}

#[test]
fn no_key_is_in_two_files() {
    let directory = Directory::new(
        "twice",
        &[
            ("main.toml", MAIN),
            ("conf.d/a.toml", "[listener.web]\nbind = \"127.0.0.1:81\"\n[channel.a]\nrespond = {}\n"),
            ("conf.d/b.toml", "channel.a.respond = {}\nchannel.b = 1\n"),
            ("conf.d/c.toml", "channel.b.respond = {}\n"),
        ],
    );
    assert_eq!(
        directory.problems(),
        [
            "conf.d/a.toml:2:1: listener.web.bind: written twice: main.toml:3:1 has it too (keep one of the two)",
            "conf.d/c.toml:1:9: channel.b: written twice: conf.d/b.toml:2:9 has it too (keep one of the two)",
        ]
    );
}

#[test]
fn what_cannot_be_included_is_said_where_it_is_named() {
    let directory = Directory::new("refused", &[("conf.d/a.toml", "channel.a.respond = {}")]);
    let check = |include: &str, expected: &[&str]| {
        directory.write("main.toml", &format!("include = {include}\nlistener.web.bind = \"127.0.0.1:1\"\n"));
        assert_eq!(directory.problems(), expected, "{include}");
    };
    check(
        "\"absent.toml\"",
        &["main.toml:1:11: include: cannot read absent.toml: No such file or directory (os error 2)"],
    );
    check(
        "\"absent.d/*.toml\"",
        &["main.toml:1:11: include: cannot look into absent.d: No such file or directory (os error 2) \
           (a pattern may match no file, but its directory must be there)"],
    );
    check(
        "\"conf.d\"",
        &[
            "main.toml:1:11: include: conf.d is no file (to include what is in a directory: \"DIRECTORY/*.toml\")",
        ],
    );
    check(
        "\"*.d/a.toml\"",
        &[
            "main.toml:1:11: include: only the last part of a path may hold * or ? (name each directory in a list)",
        ],
    );
    check(
        "\"*.toml\"",
        &[
            "main.toml:1:11: include: main.toml would include itself (put what is included into another directory)",
        ],
    );
    check(
        "[\"conf.d/a.toml\", \"conf.d/*\"]",
        &[
            "main.toml:1:29: include[1]: conf.d/a.toml is included already, maybe under another name (name it once)",
        ],
    );
    check(
        "[\"\", 5]",
        &[
            "main.toml:1:12: include[0]: the name of a file is missing",
            "main.toml:1:16: include[1]: expected the name of a file, found an integer",
        ],
    );
    check(
        "true",
        &["main.toml:1:11: include: expected the name of a file or a list of them, found a boolean \
           (for example include = \"conf.d/*.toml\")"],
    );
    check(
        "\"${CORELANE_NOT_SET}/*.toml\"",
        &["main.toml:1:12: include: the environment variable CORELANE_NOT_SET is not set \
           (set it, or give a default: \"${CORELANE_NOT_SET:-…}\")"],
    );
    std::os::unix::fs::symlink("loop.toml", directory.path("loop.toml")).expect("a link");
    check(
        "\"loop.toml\"",
        &["main.toml:1:11: include: cannot read loop.toml: Too many levels of symbolic links (os error 40)"],
    );
    directory.write("conf.d/a.toml", "include = \"b.toml\"\nchannel.a.respond = {}");
    directory.write("main.toml", MAIN);
    assert_eq!(
        directory.problems(),
        ["conf.d/a.toml:1:11: include: an included file includes no others (write it in main.toml)"]
    );
}

#[test]
fn all_files_together_have_a_bound() {
    let directory = Directory::new("bound", &[("main.toml", MAIN)]);
    let half = "# 16 bytes here\n".repeat(2 * 65_536 + 1);
    directory.write("conf.d/a.toml", &half);
    directory.write("conf.d/b.toml", &half);
    assert_eq!(
        directory.problems(),
        ["main.toml:1:11: include: conf.d/b.toml: all files together may have 4194304 bytes"]
    );
    for name in ["a", "b"] {
        fs::remove_file(directory.path(&format!("conf.d/{name}.toml"))).expect("it is there");
    }
    (0..=1000).for_each(|index| directory.write(&format!("conf.d/{index:04}.toml"), ""));
    assert_eq!(
        directory.problems(),
        ["main.toml:1:11: include: conf.d/1000.toml: at most 1000 files can be included"]
    );
}

#[test]
fn paths_in_an_included_file_begin_where_those_of_the_first_do() {
    let directory = Directory::new(
        "paths",
        &[
            ("main.toml", MAIN),
            ("conf.d/a.toml", "channel.a = { respond = {}, error_page.502.file = \"page.html\" }"),
            ("page.html", "gone"),
        ],
    );
    fine(directory.load());
}
