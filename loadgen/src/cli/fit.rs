//! Do the options go together with what the URL asks for?
//!
//! Never lets an option pass that would be ignored.

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, CommandFactory};

use super::{Cli, Command, CommonArgs, LoadArgs, MessageArgs, ModeArg};
use crate::target::{Scheme, Target};

/// What only a stream has no use for, and why.
const NOT_OF_STREAMS: &str = "it goes at its own pace until the end, and no part of it has a latency";

/// Checks what was read from `matches`. The error says which option does not fit, and why.
pub(crate) fn check(matches: &ArgMatches, cli: &Cli) -> Result<(), String> {
    match (&cli.command, &cli.load.url) {
        (None, Some(url)) => check_url(matches, url, &cli.load),
        (Some(Command::Tcp(tcp)), _) => check_mode(&tcp.messages, &tcp.common),
        (None, None) | (Some(_), _) => Ok(()),
    }
}

fn check_url(matches: &ArgMatches, url: &Target, load: &LoadArgs) -> Result<(), String> {
    let foreign: Vec<String> = match url.scheme {
        Scheme::Http => {
            let mut foreign = own_options(&MessageArgs::augment_args(clap::Command::new("")));
            foreign.push("text".to_owned());
            foreign
        }
        Scheme::Tcp => request_options(&[]),
        Scheme::WebSocket => {
            let mut foreign = request_options(&["headers", "text"]);
            foreign.extend(["mode".to_owned(), "direction".to_owned()]);
            foreign
        }
    };
    let is_given = |id: &&String| matches.value_source(id) == Some(ValueSource::CommandLine);
    if let Some(id) = foreign.iter().find(is_given) {
        let command = Cli::command();
        let long = command.get_arguments().find(|argument| argument.get_id() == id);
        let long = long.and_then(Arg::get_long).unwrap_or(id);
        let article = if url.scheme == Scheme::Http { "an" } else { "a" };
        return Err(format!(
            "--{long} does not go with {article} {}:// URL; leave it out",
            url.scheme_name()
        ));
    }
    match url.scheme {
        Scheme::Http | Scheme::WebSocket => Ok(()),
        Scheme::Tcp => check_mode(&load.messages, &load.common),
    }
}

/// What is said about requests alone, neither common nor about messages; but for the allowed ones.
fn request_options(allowed: &[&str]) -> Vec<String> {
    let all = own_options(&LoadArgs::augment_args(clap::Command::new("")));
    let common = own_options(&CommonArgs::augment_args(clap::Command::new("")));
    let messages = own_options(&MessageArgs::augment_args(clap::Command::new("")));
    let is_own = |id: &String| {
        id != "url" && !common.contains(id) && !messages.contains(id) && !allowed.contains(&id.as_str())
    };
    all.into_iter().filter(is_own).collect()
}

fn own_options(command: &clap::Command) -> Vec<String> {
    command.get_arguments().map(|argument| argument.get_id().to_string()).collect()
}

fn check_mode(messages: &MessageArgs, common: &CommonArgs) -> Result<(), String> {
    let mode = messages.mode.unwrap_or(ModeArg::PingPong);
    match mode {
        ModeArg::PingPong | ModeArg::Connect if messages.direction.is_some() => {
            Err("--direction is said about a stream; add --mode stream".into())
        }
        ModeArg::Connect if messages.size.is_some() => {
            Err("--size has no meaning here: --mode connect sends nothing".into())
        }
        ModeArg::Connect | ModeArg::Stream if common.no_keepalive || common.requests_per_connection.is_some() => {
            Err("--no-keepalive and --requests-per-connection have no meaning here: each connection serves once".into())
        }
        ModeArg::Stream if messages.size.is_some() => {
            Err("--size has no meaning here: a stream has no messages".into())
        }
        ModeArg::Stream => {
            let given = [
                (common.rate.is_some(), "--rate"),
                (common.find_max.is_some(), "--find-max"),
                (common.hdr.is_some(), "--hdr"),
                (common.hlog.is_some(), "--hlog"),
                (common.requests.is_some(), "--requests"),
                (common.target.is_some(), "--target"),
            ];
            match given.into_iter().find(|(is_given, _)| *is_given) {
                Some((_, option)) => Err(format!("{option} has no meaning for a stream: {NOT_OF_STREAMS}")),
                None => Ok(()),
            }
        }
        ModeArg::PingPong | ModeArg::Connect => Ok(()),
    }
}
