//! Which load does a name stand for?
//!
//! A profile is flags in a file and nothing more: what it can say, the command line can say, and says last.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use clap::error::ContextKind;
use clap::{Arg, ArgAction, Command};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::cli::ProfileCommand;

/// The profiles that come with the program.
const SHIPPED: [(&str, &str); 9] = [
    ("openhim-slow-upstream", include_str!("../profiles/openhim-slow-upstream.toml")),
    ("openhim-no-reuse", include_str!("../profiles/openhim-no-reuse.toml")),
    ("openhim-large-bodies", include_str!("../profiles/openhim-large-bodies.toml")),
    ("keepalive-small", include_str!("../profiles/keepalive-small.toml")),
    ("body-16k", include_str!("../profiles/body-16k.toml")),
    ("churn", include_str!("../profiles/churn.toml")),
    ("latency", include_str!("../profiles/latency.toml")),
    ("pipelined", include_str!("../profiles/pipelined.toml")),
    ("tls-handshakes", include_str!("../profiles/tls-handshakes.toml")),
];
/// Keys that are no flags: what it is about, and what to start at the other end.
const DESCRIPTION: &str = "description";
const ORIGIN: &str = "origin";
/// Flags that no profile can hold: they name it, or end the program.
const NOT_IN_A_PROFILE: [&str; 3] = ["profile", "help", "version"];
/// A profile is a handful of lines; a larger file is another one.
const PROFILE_BYTES_MAX: u64 = 64 * 1024;

/// A profile that holds nothing but flags this program has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(crate) name: String,
    pub(crate) description: String,
    /// What `loadgen origin` is to be started with.
    pub(crate) origin: Option<String>,
    /// As they would stand on the command line.
    pub(crate) flags: Vec<String>,
}

impl Profile {
    /// The shipped profile of this name, or the one in this file.
    ///
    /// # Errors
    /// There is neither, or the file has mistakes; each of them with its line.
    pub(crate) fn load(name: &str, command: &Command) -> Result<Self> {
        if let Some((_, text)) = SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
            return Self::read(name, text, command).map_err(|mistakes| anyhow!(mistakes));
        }
        let path = Path::new(name);
        let unknown = || {
            format!(
                "no profile '{name}': the names are in loadgen profile list, and no such file could be read"
            )
        };
        let size = fs::metadata(path).with_context(unknown)?.len();
        if size > PROFILE_BYTES_MAX {
            return Err(anyhow!(
                "{name} is no profile: it has {size} bytes, and at most {PROFILE_BYTES_MAX} are read"
            ));
        }
        let text = fs::read_to_string(path).with_context(unknown)?;
        Self::read(name, &text, command).map_err(|mistakes| anyhow!(mistakes))
    }

    /// Reads the text of a profile whose keys are the long flags of `command`. All mistakes, a line each, are the error.
    fn read(name: &str, text: &str, command: &Command) -> Result<Self, String> {
        let mut mistakes = Mistakes { name, text, lines: Vec::new() };
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            mistakes.add(error.span().unwrap_or(0..0), error.message().trim_end().replace('\n', ", "));
        }
        let mut profile =
            Self { name: name.to_owned(), description: String::new(), origin: None, flags: Vec::new() };
        let mut places = Vec::new();
        for (key, value) in table.get_ref() {
            let name = key.get_ref().as_ref();
            match (name, value.get_ref()) {
                (DESCRIPTION, DeValue::String(text)) => profile.description = text.to_string(),
                (ORIGIN, DeValue::String(text)) => profile.origin = Some(text.to_string()),
                (DESCRIPTION | ORIGIN, _) => mistakes.add(value.span(), format!("{name}: expected a string")),
                _ => match flags(name, value, command) {
                    Ok(flags) => {
                        places.push((name.to_owned(), value.span()));
                        profile.flags.extend(flags);
                    }
                    Err(Misfit::Key(mistake)) => mistakes.add(key.span(), mistake),
                    Err(Misfit::Value(mistake)) => mistakes.add(value.span(), format!("{name}: {mistake}")),
                },
            }
        }
        mistakes.add_what_the_flags_say(&profile.flags, &places, command);
        if mistakes.lines.is_empty() { Ok(profile) } else { Err(mistakes.lines.join("\n")) }
    }

    /// Says on standard error what this run is, and what it expects at the other end.
    pub(crate) fn announce(&self) {
        eprintln!("profile {}: {}", self.name, self.description);
        if let Some(origin) = &self.origin {
            eprintln!("it is meant for an upstream such as: loadgen origin {origin}");
        }
    }

    /// What to add when a command line that has this profile's flags before its own breaks a rule: the person who wrote
    /// the rest has not seen these.
    pub(crate) fn explain(&self) -> String {
        let flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        format!("the profile {} gave: {}", self.name, flags.join(" "))
    }

    /// The command line `args`, program name first, with this profile's flags before all others: the last one counts. They
    /// belong to `tcp` where that is the command.
    pub(crate) fn put_before(
        &self,
        args: impl IntoIterator<Item = std::ffi::OsString>,
    ) -> Vec<std::ffi::OsString> {
        let mut args = args.into_iter().peekable();
        let mut whole: Vec<std::ffi::OsString> = args.next().into_iter().collect();
        whole.extend(args.next_if(|first| first == "tcp"));
        whole.extend(self.flags.iter().map(Into::into));
        whole.extend(args);
        whole
    }
}

/// Where a value does not fit.
enum Misfit {
    Key(String),
    Value(String),
}

fn flags(name: &str, value: &Spanned<DeValue<'_>>, command: &Command) -> Result<Vec<String>, Misfit> {
    let known = |flag: &&Arg| flag.get_long() == Some(name) && !NOT_IN_A_PROFILE.contains(&name);
    let Some(flag) = command.get_arguments().find(known) else {
        let names: Vec<&str> = command
            .get_arguments()
            .filter_map(Arg::get_long)
            .filter(|name| !NOT_IN_A_PROFILE.contains(name))
            .collect();
        return Err(Misfit::Key(format!(
            "{name}: no such key; there are {DESCRIPTION}, {ORIGIN}, and the flags {}",
            names.join(", ")
        )));
    };
    let is_switch = matches!(flag.get_action(), ArgAction::SetTrue);
    let one = |value: &DeValue<'_>| match value {
        DeValue::String(text) => Some(format!("--{name}={text}")),
        DeValue::Integer(number) => Some(format!("--{name}={}", number.as_str())),
        DeValue::Float(number) => Some(format!("--{name}={}", number.as_str())),
        _ => None,
    };
    match value.get_ref() {
        DeValue::Boolean(is_on) if is_switch => Ok(is_on.then(|| format!("--{name}")).into_iter().collect()),
        _ if is_switch => Err(Misfit::Value("expected true or false".into())),
        DeValue::Array(values) if matches!(flag.get_action(), ArgAction::Append) => {
            let flags: Option<Vec<String>> = values.iter().map(|value| one(value.get_ref())).collect();
            flags.ok_or_else(|| Misfit::Value("expected strings or numbers in the list".into()))
        }
        value => match one(value) {
            Some(flag) => Ok(vec![flag]),
            None => Err(Misfit::Value("expected a string or a number".into())),
        },
    }
}

/// What is wrong with a profile, with the places.
struct Mistakes<'a> {
    name: &'a str,
    text: &'a str,
    lines: Vec<String>,
}

impl Mistakes<'_> {
    fn add(&mut self, span: Range<usize>, mistake: impl AsRef<str>) {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        self.lines.push(format!("{}:{line}:{column}: {}", self.name, mistake.as_ref()));
    }

    /// Lets the command line's own rules judge the values.
    fn add_what_the_flags_say(
        &mut self,
        flags: &[String],
        places: &[(String, Range<usize>)],
        command: &Command,
    ) {
        if !self.lines.is_empty() {
            return;
        }
        let line = ["loadgen", "http://profile.invalid/"].into_iter().chain(flags.iter().map(String::as_str));
        let Err(error) = command.clone().try_get_matches_from(line) else { return };
        let named = error.get(ContextKind::InvalidArg).map(ToString::to_string).unwrap_or_default();
        let is_meant = |(name, _): &&(String, Range<usize>)| {
            named.strip_prefix("--").and_then(|rest| rest.split(' ').next()) == Some(name)
        };
        let (key, span) = places.iter().find(is_meant).cloned().unwrap_or_default();
        let text = error.to_string();
        let mistake = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        self.add(span, format!("{key}{}{mistake}", if key.is_empty() { "" } else { ": " }));
    }
}

/// The value of `--profile` on a command line that has not been read yet, since what it names comes first.
pub(crate) fn named_in(args: &[std::ffi::OsString]) -> Option<String> {
    let mut args = args.iter().map(|arg| arg.to_string_lossy()).take_while(|arg| arg != "--");
    let mut name = None;
    while let Some(arg) = args.next() {
        match arg.strip_prefix("--profile") {
            Some("") => name = args.next().map(Into::into),
            Some(rest) => name = rest.strip_prefix('=').map(ToOwned::to_owned).or(name),
            None => {}
        }
    }
    name
}

/// Lists the shipped profiles, or shows one as it could be saved and changed.
///
/// # Errors
/// There is none of that name.
pub(crate) fn run(asked: &ProfileCommand, command: &Command) -> Result<ExitCode> {
    match asked {
        ProfileCommand::List => {
            for (name, _) in SHIPPED {
                println!("{name:<24} {}", Profile::load(name, command)?.description);
            }
        }
        ProfileCommand::Show { name } => {
            let shipped = SHIPPED.iter().find(|(shipped, _)| shipped == name);
            let (_, text) = shipped
                .ok_or_else(|| anyhow!("no profile '{name}': the names are in loadgen profile list"))?;
            print!("{text}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{self, Cli};

    fn read(text: &str) -> Result<Profile, String> {
        Profile::read("p.toml", text, &Cli::rules())
    }

    #[test]
    fn every_shipped_profile_is_a_load() {
        for (name, _) in SHIPPED {
            let profile = Profile::load(name, &Cli::rules()).expect(name);
            assert!(!profile.description.is_empty() && profile.origin.is_some(), "{profile:?}");
            let args = ["loadgen", "http://h/"].map(Into::into);
            Cli::read(&profile.put_before(args)).expect(name);
        }
    }

    #[test]
    fn keys_become_flags() {
        let profile = read(
            "connections = 7\nno-keepalive = true\nspin = false\nheader = [\"A: b\", \"C: d\"]\nrate = '1k'",
        );
        let mut flags = profile.expect("a profile").flags;
        flags.sort();
        assert_eq!(
            flags,
            ["--connections=7", "--header=A: b", "--header=C: d", "--no-keepalive", "--rate=1k"]
        );
    }

    #[test]
    fn every_kind_of_load_can_be_a_profile() {
        for text in [
            "requests-file = 'mix.jsonl'\nin-order = true\npipeline = 8\nrequests-per-connection = 100",
            "expect-header = ['A: b', 'C: d']\nexpect-status = [200, 404]\nexpect-body-file = 'page.html'",
            "ids = true\nids-at = ['http://a/', 'http://b/']",
            "insecure = true\nsni = 'h'\ntls = '1.2'\nno-resumption = true\nno-post-quantum = true",
            "unix = '/run/app.sock'\nbody = 'number {{seq}}'\ntarget = 'p99 < 5ms'",
        ] {
            let profile = read(text).expect(text);
            Cli::read(&profile.put_before(["loadgen", "http://h/"].map(Into::into))).expect(text);
        }
    }

    #[test]
    fn the_command_line_has_the_last_word() {
        let profile = read("connections = 7\nduration = '3s'\nheader = ['A: b']").expect("a profile");
        let args = ["loadgen", "http://h/", "-c", "9", "-H", "C: d"].map(Into::into);
        let load = Cli::read(&profile.put_before(args)).expect("a load").load;
        let common = &load.common;
        assert_eq!((common.connections, common.duration.map(|duration| duration.as_secs())), (9, Some(3)));
        assert_eq!(load.headers.len(), 2, "fields add up");
    }

    #[test]
    fn a_profile_holds_messages_as_well_as_requests() {
        let read_with =
            |profile: &Profile, line: &str| Cli::read(&profile.put_before(line.split(' ').map(Into::into)));
        let messages = read("mode = 'ping-pong'\nsize = '1KiB'\nconnections = 7").expect("a profile");
        let load = read_with(&messages, "loadgen tcp://h:1 -c 9").expect("a URL").load;
        assert_eq!((load.messages.size, load.common.connections), (Some(1024), 9));
        let Some(cli::Command::Tcp(tcp)) = read_with(&messages, "loadgen tcp h:1 -c 9").expect("tcp").command
        else {
            panic!("no tcp")
        };
        assert_eq!((tcp.messages.size, tcp.common.connections), (Some(1024), 9));
        // What would be ignored is refused.
        let error = read_with(&messages, "loadgen http://h/").expect_err("no messages").to_string();
        assert!(error.contains("does not go with an http:// URL"), "{error}");
        let requests = read("method = 'POST'").expect("a profile");
        for line in ["loadgen tcp://h:1", "loadgen tcp h:1", "loadgen ws://h/"] {
            let error = read_with(&requests, line).expect_err("no requests").to_string();
            assert!(error.contains("--method"), "{line}: {error}");
        }
    }

    #[test]
    fn mistakes_have_a_place_a_key_and_a_way_out() {
        let mistakes = [
            (
                "connections = 7\n  conections = 8",
                "p.toml:2:3: conections: no such key; there are description, origin,",
            ),
            ("profile = 'x'", "p.toml:1:1: profile: no such key"),
            ("connections = true", "p.toml:1:15: connections: expected a string or a number"),
            ("\n\nno-keepalive = 1", "p.toml:3:16: no-keepalive: expected true or false"),
            ("description = 1", "p.toml:1:15: description: expected a string"),
            ("duration = '10'", "p.toml:1:12: duration: invalid value '10'"),
            ("\nrate = 0", "p.toml:2:8: rate: invalid value '0'"),
            ("target = 'p95 600ms'", "p.toml:1:10: target: invalid value"),
            ("arrival = 'poisson'", "p.toml:1:1: the following required arguments"),
            ("connections = ", "p.toml:1:1"),
            ("pipeline = 0", "p.toml:1:12: pipeline: invalid value '0'"),
            ("tls = 1.4", "p.toml:1:7: tls: invalid value '1.4'"),
            ("body = '{{sek}}'", "p.toml:1:8: body: invalid value '{{sek}}'"),
            ("requests-file = 'a'\nbody-size = 1", "p.toml:2:13: body-size: the argument '--body-size"),
            ("no-keepalive = true\npipeline = 2", "p.toml:1:16: no-keepalive: the argument '--no-keepalive'"),
            ("in-order = true", "p.toml:1:1: the following required arguments"),
            ("header = [1979-05-27]", "p.toml:1:10: header: expected strings or numbers"),
        ];
        for (text, start) in mistakes {
            let mistake = read(text).expect_err(text);
            assert!(mistake.starts_with(start), "{text}: {mistake}");
        }
        let both = read("one = 1\ntwo = 2").expect_err("two mistakes");
        assert_eq!(both.lines().count(), 2, "all at once: {both}");
    }

    #[test]
    fn a_profile_is_found_on_the_command_line() {
        for (line, name) in [
            ("loadgen --profile churn http://h/", Some("churn")),
            ("loadgen http://h/ --profile=churn -c 1", Some("churn")),
            ("loadgen http://h/ -c 1", None),
            ("loadgen http://h/ --profile", None),
            ("loadgen tether -- --profile churn", None),
        ] {
            let args: Vec<std::ffi::OsString> = line.split(' ').map(Into::into).collect();
            assert_eq!(named_in(&args).as_deref(), name, "{line}");
        }
    }
}
