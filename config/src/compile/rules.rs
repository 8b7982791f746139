//! Which requests does each channel take? The written matches as rules of the channel table.
//!
//! Never decides the order itself: the table sorts by priority and keeps the order written.

use proto::matching::{ChannelTable, HostPattern, MethodSet, PathPattern, Rule};

use super::Names;
use crate::document::key::Key;
use crate::schema::{Channel, Config, Matching};

/// The table of all enabled channels. `None` means that the report names a listener or pattern that is wrong.
pub(super) fn compile(config: &Config, names: &Names<'_>) -> Option<ChannelTable> {
    let mut rules = Vec::new();
    let mut channel_id = 0;
    for (name, channel) in config.channel.iter() {
        let listener = compile_listeners(name, &channel.matching, names);
        if channel.enabled {
            rules.push(compile_rule(channel_id, channel, listener));
            channel_id += 1;
        }
    }
    if check_patterns(config, names) {
        ChannelTable::new(rules.into_iter().collect::<Option<_>>()?).ok()
    } else {
        None
    }
}

fn compile_rule(channel_id: u16, channel: &Channel, listener: Option<Vec<u16>>) -> Option<Rule> {
    let matching = &channel.matching;
    // The reader refused what these would not take, so `ok` loses nothing.
    let host: Option<Vec<_>> = matching.host.iter().map(|host| HostPattern::parse(host).ok()).collect();
    let methods = MethodSet::new(matching.methods.iter().map(String::as_str)).ok()?;
    Some(Rule {
        channel: channel_id,
        priority: channel.priority.map(u32::from),
        listener: Some(listener?).filter(|listeners| !listeners.is_empty()),
        host: host?,
        path: compile_path(matching),
        methods: Some(methods).filter(|_| !matching.methods.is_empty()),
    })
}

fn compile_path(matching: &Matching) -> Option<PathPattern> {
    let regex = || matching.path.clone().map(PathPattern::Regex);
    let prefix = || matching.path_prefix.clone().map(PathPattern::Prefix);
    let exact = || matching.path_exact.clone().map(PathPattern::Exact);
    regex().or_else(prefix).or_else(exact)
}

fn compile_listeners(channel: &str, matching: &Matching, names: &Names<'_>) -> Option<Vec<u16>> {
    let key = Key::of(["channel", channel, "match", "listener"]);
    // Each is looked up before the first failure counts, so that all of them are reported.
    let ids = matching.listener.iter().map(|name| names.listener(name, &names.report.item_key(&key, name)));
    let ids: Vec<_> = ids.collect();
    ids.into_iter().map(|id| id.map(|id| id.0)).collect()
}

/// Tries each regular expression alone, so that all that are wrong are reported; those of disabled channels too.
fn check_patterns(config: &Config, names: &Names<'_>) -> bool {
    let mut all_hold = true;
    for (name, channel) in config.channel.iter() {
        let Some(path) = channel.matching.path.clone() else { continue };
        let alone = Rule { path: Some(PathPattern::Regex(path)), ..Rule::default() };
        if let Err(error) = ChannelTable::new(vec![alone]) {
            all_hold = false;
            let key = Key::of(["channel", name, "match", "path"]);
            names.report.error(&key, one_line(&error.message), None);
        }
    }
    all_hold
}

/// The parser of regular expressions draws a picture of several lines; its last one says what is wrong.
pub(super) fn one_line(message: &str) -> String {
    let last = message.lines().last().unwrap_or(message).trim();
    format!("not a regular expression: {}", last.strip_prefix("error: ").unwrap_or(last))
}
