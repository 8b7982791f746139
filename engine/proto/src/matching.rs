//! Which channel does a request belong to?
//!
//! Tries rules in order of priority and stops at the first that matches. Never backtracks (every pattern is linear
//! in the length of the path), never locks, and never decodes or normalises a path: `%2F`, `//` and `..` are
//! compared as received, and reach the upstream as received.

use std::cell::OnceCell;

use regex_automata::Input;
use regex_automata::meta::{self, Regex};
use regex_automata::util::syntax;

use crate::http1::field::is_token;
use crate::http1::head::Method;

/// Largest compiled pattern in bytes. A class like `\p{L}` repeated a few hundred times reaches it.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// Largest lazily built automaton per pattern and core, in bytes.
const REGEX_CACHE_BYTES_MAX: usize = 256 * 1024;

/// What one channel accepts. Parts left empty accept anything.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// The channel that a match yields.
    pub channel: u16,
    /// 1 is tried first; rules without one last; equal ones in the order given.
    pub priority: Option<u32>,
    /// Listeners the request may have come in by.
    pub listener: Option<Vec<u16>>,
    /// Hosts, one of which must match; empty for any.
    pub host: Vec<HostPattern>,
    /// What the path must look like.
    pub path: Option<PathPattern>,
    /// Methods, one of which must match.
    pub methods: Option<MethodSet>,
}

/// A host name or the names below one. Compared without regard to ASCII case, port or a final dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// This name or address.
    Exact(String),
    /// Any name that ends with this, which starts with a dot; at any depth, but not the bare domain.
    Below(String),
}

impl HostPattern {
    /// Parses `example.org`, `*.example.org` or `[2001:db8::1]`.
    ///
    /// # Errors
    /// [`HostPatternError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, HostPatternError> {
        let (is_below, name) = text.strip_prefix('*').map_or((false, text), |suffix| (true, suffix));
        if is_below && !name.starts_with('.') || name.contains('*') {
            return Err(HostPatternError::Wildcard);
        }
        let labels = name.trim_start_matches('.').trim_end_matches('.');
        if labels.is_empty() {
            return Err(HostPatternError::Empty);
        }
        if let Some(address) = labels.strip_prefix('[') {
            let address = address.strip_suffix(']').unwrap_or("");
            let is_valid = !is_below && address.parse::<std::net::Ipv6Addr>().is_ok();
            return if is_valid {
                Ok(Self::Exact(labels.to_owned()))
            } else {
                Err(HostPatternError::Address)
            };
        }
        if labels.contains(':') {
            return Err(HostPatternError::Port);
        }
        let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if !labels.bytes().all(is_name_byte) || labels.contains("..") || (!is_below && name.starts_with('.'))
        {
            return Err(HostPatternError::Name);
        }
        Ok(if is_below { Self::Below(format!(".{labels}")) } else { Self::Exact(labels.to_owned()) })
    }

    fn matches(&self, host: &[u8]) -> bool {
        match self {
            Self::Exact(name) => host.eq_ignore_ascii_case(name.as_bytes()),
            Self::Below(suffix) => {
                host.len() > suffix.len()
                    && host[host.len() - suffix.len()..].eq_ignore_ascii_case(suffix.as_bytes())
            }
        }
    }
}

/// Why a host pattern is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostPatternError {
    /// Nothing to compare with.
    #[error("a host pattern needs a name")]
    Empty,
    /// `*` elsewhere than in front of the first dot.
    #[error("a wildcard stands for whole labels in front: \"*.example.org\"")]
    Wildcard,
    /// A port, which matching ignores.
    #[error("a host pattern has no port; match on the listener instead")]
    Port,
    /// Brackets around something else than an IPv6 address.
    #[error("brackets hold an IPv6 address: \"[2001:db8::1]\"")]
    Address,
    /// A byte no host name has.
    #[error("a host name has letters, digits, '-', '_' and single dots; write others in their xn-- form")]
    Name,
}

/// What a path is compared with, byte by byte, query not included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    /// It starts with this. `/api` also matches `/apis`; write `/api/` to keep to the directory.
    Prefix(String),
    /// It is this.
    Exact(String),
    /// This regular expression is found in it; `^` and `$` anchor it.
    Regex(String),
}

/// A set of methods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MethodSet {
    /// One bit for each registered method.
    known: u16,
    extensions: Vec<Box<[u8]>>,
}

impl MethodSet {
    /// The set of these names, which are case-sensitive (RFC 9110 §9.1).
    ///
    /// # Errors
    /// The first name that is not a token.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, MethodNameError> {
        let mut set = Self::default();
        for name in names {
            match Method::of(name.as_bytes()) {
                Method::Extension if !is_token(name.as_bytes()) => {
                    return Err(MethodNameError(name.to_owned()));
                }
                Method::Extension => set.extensions.push(name.as_bytes().into()),
                method => set.known |= 1 << method as u16,
            }
        }
        Ok(set)
    }

    /// Whether it has `method`, whose name is `name`.
    #[must_use]
    pub fn contains(&self, method: Method, name: &[u8]) -> bool {
        match method {
            Method::Extension => self.extensions.iter().any(|extension| **extension == *name),
            method => self.known & 1 << method as u16 != 0,
        }
    }
}

/// A method name that is not a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a method: letters, digits and !#$%&'*+-.^_`|~ only")]
pub struct MethodNameError(pub String);

/// Why a table cannot be built.
#[derive(Clone, Debug, thiserror::Error)]
#[error("rule {rule}: {message}")]
pub struct RuleError {
    /// Index of the rule in the list given.
    pub rule: usize,
    /// What is wrong with its pattern, in words for the operator.
    pub message: String,
}

/// What is known of a request when its channel is sought.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// The listener it came in by.
    pub listener: u16,
    /// Its authority, `host[:port]`, if it has one.
    pub host: Option<&'a [u8]>,
    /// Its path as received, without the query.
    pub path: &'a [u8],
    /// Its method.
    pub method: Method,
    /// Its method's name as received.
    pub method_name: &'a [u8],
}

/// All rules, in the order they are tried.
#[derive(Debug, Default)]
pub struct ChannelTable {
    entries: Box<[Entry]>,
    regexes: Box<[Regex]>,
}

/// What matching needs to write to. Each core has its own, so no regex ever waits for another core.
#[derive(Debug)]
pub struct MatchCaches {
    by_regex: Box<[meta::Cache]>,
}

#[derive(Debug)]
struct Entry {
    channel: u16,
    listeners: Option<Box<[u16]>>,
    hosts: Box<[HostPattern]>,
    path: PathTest,
    methods: Option<MethodSet>,
}

#[derive(Debug)]
enum PathTest {
    Any,
    Prefix(Box<[u8]>),
    Exact(Box<[u8]>),
    /// Index in `regexes`.
    Regex(usize),
}

impl ChannelTable {
    /// Builds the table.
    ///
    /// # Errors
    /// [`RuleError`] names the first rule whose regular expression is invalid or too large.
    pub fn new(rules: Vec<Rule>) -> Result<Self, RuleError> {
        let mut rules: Vec<(usize, Rule)> = rules.into_iter().enumerate().collect();
        // Stable, so equal priorities stay in the order given.
        rules.sort_by_key(|(_, rule)| (rule.priority.is_none(), rule.priority));
        let mut regexes = Vec::new();
        let mut entries = Vec::with_capacity(rules.len());
        for (index, rule) in rules {
            let path = match rule.path {
                None => PathTest::Any,
                Some(PathPattern::Prefix(prefix)) => PathTest::Prefix(prefix.into_bytes().into()),
                Some(PathPattern::Exact(path)) => PathTest::Exact(path.into_bytes().into()),
                Some(PathPattern::Regex(pattern)) => {
                    regexes.push(
                        compile_pattern(&pattern).map_err(|message| RuleError { rule: index, message })?,
                    );
                    PathTest::Regex(regexes.len() - 1)
                }
            };
            entries.push(Entry {
                channel: rule.channel,
                listeners: rule.listener.map(Into::into),
                hosts: rule.host.into(),
                path,
                methods: rule.methods,
            });
        }
        Ok(Self { entries: entries.into(), regexes: regexes.into() })
    }

    /// Fresh caches for one core. They fit this table only.
    #[must_use]
    pub fn caches(&self) -> MatchCaches {
        MatchCaches { by_regex: self.regexes.iter().map(Regex::create_cache).collect() }
    }

    /// The channel of the first rule that matches.
    ///
    /// # Panics
    /// When `caches` were made by a table with other patterns.
    #[must_use]
    pub fn find(&self, caches: &mut MatchCaches, query: &Query<'_>) -> Option<u16> {
        // Few rules ask for it.
        let host = OnceCell::new();
        let entry = self.entries.iter().find(|entry| {
            entry.listeners.as_ref().is_none_or(|listeners| listeners.contains(&query.listener))
                && entry.methods.as_ref().is_none_or(|set| set.contains(query.method, query.method_name))
                && (entry.hosts.is_empty()
                    || host
                        .get_or_init(|| query.host.map(without_port))
                        .is_some_and(|host| entry.hosts.iter().any(|pattern| pattern.matches(host))))
                && self.path_matches(&entry.path, caches, query.path)
        })?;
        Some(entry.channel)
    }

    /// The channels that may take a request of this listener, in the order they are tried, each with whether it takes every one
    /// that comes to it.
    pub fn takers(&self, listener: u16) -> impl Iterator<Item = (u16, bool)> {
        let takes_from = move |entry: &&Entry| {
            entry.listeners.as_ref().is_none_or(|listeners| listeners.contains(&listener))
        };
        self.entries.iter().filter(takes_from).map(|entry| {
            let is_open = matches!(entry.path, PathTest::Any) && entry.hosts.is_empty();
            (entry.channel, is_open && entry.methods.is_none())
        })
    }

    fn path_matches(&self, test: &PathTest, caches: &mut MatchCaches, path: &[u8]) -> bool {
        match test {
            PathTest::Any => true,
            PathTest::Prefix(prefix) => path.starts_with(prefix),
            PathTest::Exact(expected) => *path == **expected,
            PathTest::Regex(index) => {
                let input = Input::new(path).earliest(true);
                // The explicit cache is what keeps the regex's own pool, and its lock, out of the way.
                self.regexes[*index].search_half_with(&mut caches.by_regex[*index], &input).is_some()
            }
        }
    }
}

/// A regular expression within bounds of memory and time.
pub(crate) fn compile_pattern(pattern: &str) -> Result<Regex, String> {
    let bounds = meta::Config::new()
        .utf8_empty(false)
        .nfa_size_limit(Some(REGEX_BYTES_MAX))
        .onepass_size_limit(Some(REGEX_BYTES_MAX))
        .hybrid_cache_capacity(REGEX_CACHE_BYTES_MAX);
    let result = Regex::builder().configure(bounds).syntax(syntax::Config::new().utf8(false)).build(pattern);
    result.map_err(|error| match (error.size_limit(), error.syntax_error()) {
        (Some(bytes), _) => format!("regular expression compiles to more than {bytes} bytes"),
        (None, Some(syntax)) => syntax.to_string(),
        (None, None) => error.to_string(),
    })
}

/// The host of `host[:port]`, without a final dot (which only says that the name is complete).
#[must_use]
pub fn without_port(authority: &[u8]) -> &[u8] {
    let end = match authority {
        [b'[', ..] => authority.iter().position(|&byte| byte == b']').map_or(authority.len(), |at| at + 1),
        _ => authority.iter().position(|&byte| byte == b':').unwrap_or(authority.len()),
    };
    let host = &authority[..end];
    host.strip_suffix(b".").unwrap_or(host)
}

#[cfg(test)]
mod tests;
