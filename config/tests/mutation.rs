//! Does any text whatever come back as a configuration or as problems inside the text, and never as a panic?

use config::{Format, default_config, load_str};

/// Edited texts per starting text: more than ten thousand together. Every edit keeps most of the text, so most of them reach past
/// the parser.
const MUTATIONS: u32 = 1_000;

/// Likewise of a configuration in several files, which are written each time.
const MUTATIONS_OF_FILES: u32 = 300;

/// What tends to hurt: structure, quotes, units, references, borders of characters and of numbers.
const FRAGMENTS: &[&str] = &[
    "[",
    "]",
    "{",
    "}",
    "[[",
    "]]",
    "\"",
    "'",
    "\"\"\"",
    "=",
    ".",
    ",",
    ":",
    "\n",
    "\r",
    "\t",
    "\0",
    "#",
    "\\",
    "\\u0000",
    "${",
    "${X}",
    "${X:-",
    "$${",
    "}",
    "é",
    "\u{feff}",
    "\u{1f980}",
    "\u{202e}",
    "-1",
    "0",
    "65536",
    "1e400",
    "0x",
    "inf",
    "9223372036854775808",
    "99999999999999999999999999999999999999999",
    "true",
    "null",
    "1979-05-27",
    "s",
    "ms",
    "KiB",
    "h",
    "listener",
    "channel.a.b",
    "upstream",
    "origin",
    "listener:",
    "listener:web",
    "unix:",
    "unix:/run/x.sock",
    "*.example",
    "sha256:",
    "protocol = \"tcp\"\n",
    "sni = {}\n",
    "10.0.0.1:80",
    "[::1]:0",
    "/33",
    "(",
    "*",
    "+",
    "(?i",
    "{1000}",
    "\\p{L}",
    "match",
    "respond",
    "priority = 1\n",
    "[listener.web]\n",
    "[admin]\n",
];

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

    /// A place in the text where a character begins, or its end.
    fn place(&mut self, text: &str) -> usize {
        text.floor_char_boundary(self.below(text.len() + 1))
    }
}

/// One to four edits: a piece removed, doubled, swapped for a fragment, or a fragment put in; and now and then one of whole lines.
fn mutate(text: &str, dice: &mut Dice) -> String {
    let mut text = text.to_owned();
    for _ in 0..=dice.below(4) {
        if dice.below(3) == 0 {
            text = mutate_lines(&text, dice);
            continue;
        }
        let start = dice.place(&text);
        let end = text.ceil_char_boundary((start + dice.below(12)).min(text.len()));
        let fragment = FRAGMENTS[dice.below(FRAGMENTS.len())];
        match dice.below(5) {
            0 => text.replace_range(start..end, ""),
            1 => text.insert_str(start, &text.clone()[start..end]),
            2 => text.replace_range(start..end, fragment),
            3 => text.insert_str(start, fragment),
            _ => text.truncate(start.max(text.floor_char_boundary(text.len() / 2))),
        }
    }
    text
}

/// As people mistake: a line removed, doubled, moved, or the values of two keys exchanged.
fn mutate_lines(text: &str, dice: &mut Dice) -> String {
    let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
    let (one, other) = (dice.below(lines.len()), dice.below(lines.len()));
    match dice.below(4) {
        0 => drop(lines.remove(one)),
        1 => lines.insert(other, lines[one].clone()),
        2 => lines.swap(one, other),
        _ => {
            let parts =
                |line: &str| line.split_once(" = ").map(|(key, value)| (key.to_owned(), value.to_owned()));
            if let (Some((key, value)), Some((other_key, other_value))) =
                (parts(&lines[one]), parts(&lines[other]))
            {
                lines[one] = format!("{key} = {other_value}");
                lines[other] = format!("{other_key} = {value}");
            }
        }
    }
    lines.join("\n")
}

/// Loads the text and holds every problem against it.
fn check(text: &str, format: Format, hint: &str) -> bool {
    let problems = match load_str("f", text, format, &|_| None) {
        Ok(loaded) => {
            assert!(!loaded.warnings.has_errors(), "{hint}\n{text}");
            return true;
        }
        Err(problems) => problems,
    };
    assert!(problems.has_errors(), "refused without an error: {hint}\n{text}");
    let lines: Vec<&str> = text.split('\n').collect();
    for problem in &problems {
        let line =
            lines.get(problem.line as usize - 1).unwrap_or_else(|| panic!("{problem}: {hint}\n{text}"));
        assert!(
            (1..=line.chars().count() + 1).contains(&(problem.column as usize)),
            "{problem}: {hint}\n{text}"
        );
        assert!(!problem.cause.is_empty(), "{hint}\n{text}");
        assert!(!problem.to_string().contains('\n'), "more than one line: {problem}: {hint}\n{text}");
    }
    assert!(!problems.render(false).is_empty() && !problems.render(true).is_empty());
    false
}

/// Mutates `text` under a seed that is printed when the test fails; `CORELANE_SEED` replays another one.
fn survives(text: &str, format: Format) {
    let seed =
        std::env::var("CORELANE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x00c0_7e1a_5eed);
    println!("CORELANE_SEED={seed}");
    let mut dice = Dice(seed);
    assert!(check(text, format, "unedited"));
    let accepted =
        (0..MUTATIONS).filter(|n| check(&mutate(text, &mut dice), format, &format!("edit {n}"))).count();
    // Edits in comments and bodies do no harm; were all or none accepted, the test would not test.
    assert!((1..MUTATIONS as usize).contains(&accepted), "{accepted} of {MUTATIONS} accepted");
}

fn as_json(text: &str) -> String {
    let loaded = load_str("f", text, Format::Toml, &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
    serde_json::to_string_pretty(&loaded.schema).expect("every schema has a JSON form")
}

#[test]
fn the_default_survives_any_edit() {
    survives(default_config(), Format::Toml);
}

#[test]
fn the_quickstart_example_survives_any_edit() {
    survives(include_str!("../examples/quickstart.toml"), Format::Toml);
}

#[test]
fn the_channels_example_survives_any_edit() {
    survives(include_str!("../examples/channels.toml"), Format::Toml);
}

#[test]
fn the_tcp_example_survives_any_edit() {
    survives(include_str!("../examples/tcp.toml"), Format::Toml);
}

#[test]
fn the_https_example_survives_any_edit() {
    survives(include_str!("../examples/https.toml"), Format::Toml);
}

#[test]
fn the_rules_example_survives_any_edit() {
    survives(include_str!("../examples/rules.toml"), Format::Toml);
}

#[test]
fn json_survives_any_edit() {
    survives(&as_json(include_str!("../examples/channels.toml")), Format::Json);
    survives(&as_json(include_str!("../examples/tcp.toml")), Format::Json);
    survives(&as_json(include_str!("../examples/rules.toml")), Format::Json);
}

#[test]
fn the_balancing_example_survives_any_edit() {
    survives(include_str!("../examples/balancing.toml"), Format::Toml);
}

#[test]
fn the_gateway_example_survives_any_edit() {
    survives(include_str!("../examples/gateway_node.toml"), Format::Toml);
}

#[test]
fn a_configuration_in_several_files_survives_any_edit() {
    let directory = std::env::temp_dir().join(format!("corelane-mutation-{}", std::process::id()));
    std::fs::create_dir_all(directory.join("conf.d")).expect("a directory");
    let [main, one, two] = ["main.toml", "conf.d/1.toml", "conf.d/2.toml"].map(|name| directory.join(name));
    let whole = include_str!("../examples/channels.toml");
    let (_, from_channels) = whole.split_at(whole.find("\n[channel").expect("channels"));
    let channels = from_channels.find("\n[upstream").expect("upstreams");
    let texts = [
        format!("include = \"conf.d/*.toml\"\n{}", &whole[..whole.len() - from_channels.len()]),
        from_channels[..channels].to_owned(),
        from_channels[channels..].to_owned(),
    ];
    let mut dice = Dice(0x00c0_7e1a_f11e);
    let mut accepted = 0;
    for edit in 0..=MUTATIONS_OF_FILES {
        let mut edited = texts.clone();
        if edit > 0 {
            let index = dice.below(3);
            edited[index] = mutate(&texts[index], &mut dice);
        }
        for (path, text) in [&main, &one, &two].into_iter().zip(&edited) {
            std::fs::write(path, text).expect("a file");
        }
        let Err(problems) = config::load_file(&main) else {
            accepted += 1;
            continue;
        };
        assert!(edit > 0 && problems.has_errors(), "{problems}");
        for problem in &problems {
            // Each lies in the file that it names.
            let text = std::fs::read_to_string(&problem.file).unwrap_or_else(|_| panic!("{problem}"));
            let line = text
                .split('\n')
                .nth(problem.line as usize - 1)
                .unwrap_or_else(|| panic!("{problem}\n{text}"));
            assert!(problem.column as usize <= line.chars().count() + 1, "{problem}\n{text}");
        }
        assert!(!problems.render(false).is_empty());
    }
    assert!(accepted > 10 && accepted < MUTATIONS_OF_FILES, "{accepted}");
    std::fs::remove_dir_all(&directory).expect("it is there");
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000));
    check(&format!("a = {}", deep("[", "]")), Format::Toml, "lists");
    check(&format!("a = {}", deep("{a=", "}")), Format::Toml, "tables");
    check(&format!("a{} = 1", ".a".repeat(100_000)), Format::Toml, "dotted keys");
    check(&deep("[", "]"), Format::Json, "lists");
    check(&deep("{\"a\":", "}"), Format::Json, "tables");
    check(
        &format!("{{\"listener\": {}1{}}}", "[".repeat(400), "]".repeat(400)),
        Format::Json,
        "allowed nesting",
    );
}
