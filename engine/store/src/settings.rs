//! Which database, and how is it asked?
//!
//! Never shows a password: neither printed, nor in an error, nor by `Debug`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;

use crate::error::StoreError;
use crate::seal::SealingKey;

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// Which database.
    pub url: StoreUrl,
    /// Connections at once, at least 1. PostgreSQL has one more, which listens for hints.
    pub connections_max: u32,
    /// Connections that are kept while nobody needs them; at 0, each call makes its own.
    pub idle_connections_max: u32,
    /// How long one call may take; then it is [`StoreError::Unavailable`].
    pub timeout: Duration,
    /// Nothing is written, nothing created, nothing migrated.
    pub read_only: bool,
    /// What secrets are sealed with; without one, whatever holds a secret is refused.
    pub key: Option<SealingKey>,
}

impl StoreSettings {
    /// The usual ones: four connections, one of them kept, three seconds, writing, no key.
    #[must_use]
    pub fn new(url: StoreUrl) -> Self {
        Self {
            url,
            connections_max: 4,
            idle_connections_max: 1,
            timeout: Duration::from_secs(3),
            read_only: false,
            key: None,
        }
    }
}

/// Where the database is: `sqlite:PATH`, or `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=…`.
#[derive(Clone)]
pub struct StoreUrl {
    /// Without the password.
    shown: String,
    /// What it names that has to be there, by the names of parameters.
    pub(crate) files: Vec<(&'static str, PathBuf)>,
    pub(crate) place: Place,
}

/// What a URL stands for.
#[derive(Clone)]
pub(crate) enum Place {
    /// A file on this host.
    Sqlite(PathBuf),
    /// A server; boxed, being large.
    Postgres(Box<PgConnectOptions>),
}

impl StoreUrl {
    /// The file of a SQLite database.
    #[must_use]
    pub fn file(&self) -> Option<&std::path::Path> {
        match &self.place {
            Place::Sqlite(path) => Some(path),
            Place::Postgres(_) => None,
        }
    }
}

impl FromStr for StoreUrl {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let shown = without_password(text);
        let wrong = |cause: &str| {
            StoreError::refused(
                format!("\"{shown}\" is no store: {cause}"),
                "write `sqlite:PATH` for processes of one host, or `postgres://USER@HOST/DATABASE` for many",
            )
        };
        let place = if let Some(path) = text.strip_prefix("sqlite:") {
            // `sqlite://state/cluster.db` is what others write for the same.
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() || path == ":memory:" {
                return Err(wrong("a file is missing, which processes can share"));
            }
            if path.contains(['?', '#']) {
                return Err(wrong("a path has no parameters"));
            }
            Place::Sqlite(path.into())
        } else if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            if let Some((name, _)) = parameters_of(text).find(|(name, _)| !is_known(name)) {
                // A name that is a slip may be a secret's beginning: of what is unknown, letters alone are said.
                let name: String = name
                    .chars()
                    .take_while(|letter| letter.is_ascii_alphabetic() || *letter == '_')
                    .collect();
                return Err(wrong(&format!("it has an unknown parameter \"{name}\"")));
            }
            let options: PgConnectOptions = text.parse().map_err(|error| match error {
                sqlx::Error::Configuration(cause) => wrong(&cause.to_string()),
                _ => wrong("it cannot be read"),
            })?;
            Place::Postgres(Box::new(options))
        } else {
            return Err(wrong("it begins with neither `sqlite:` nor `postgres://`"));
        };
        let files = FILES.iter().filter_map(|file| {
            let (_, value) = parameters_of(text).find(|(name, _)| name == file)?;
            Some((*file, value.into()))
        });
        Ok(Self { shown, files: files.collect(), place })
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// The same URL with `***` for a password, wherever in it that stands. Of a text that is no URL at all, only the beginning is certain to
/// be none.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return match url.split_once(':') {
            Some(("sqlite", _)) => url.to_owned(),
            Some((scheme, _)) => format!("{scheme}:…"),
            None => url.chars().take(16).collect(),
        };
    };
    // A password may hold what should have been escaped, so the last `@` ends it.
    let (owner, place) = rest.rsplit_once('@').map_or((None, rest), |(owner, place)| (Some(owner), place));
    let owner = match owner.map(|owner| owner.split_once(':').map_or((owner, ""), |(user, _)| (user, ":***")))
    {
        // That is not where a user stands, so nobody can say where a password is.
        Some((user, _)) if user.contains(['/', '?', '#']) => return format!("{scheme}://…"),
        Some((user, hidden)) => format!("{user}{hidden}@"),
        // Without a host, a password looks like a port.
        None if !has_port_or_none(place) => return format!("{scheme}://…"),
        None => String::new(),
    };
    let (place, parameters) =
        place.split_once('?').map_or((place, None), |(place, parameters)| (place, Some(parameters)));
    let place = format!("{owner}{place}");
    let Some(parameters) = parameters else { return format!("{scheme}://{place}") };
    let shown: Vec<_> = parameters
        .split('&')
        .map(|parameter| match parameter.split_once('=') {
            Some((name, _)) if SHOWN.contains(&name) => parameter.to_owned(),
            Some((name, _)) if HIDDEN.contains(&name) => format!("{name}=***"),
            _ => "***".to_owned(),
        })
        .collect();
    format!("{scheme}://{place}?{}", shown.join("&"))
}

/// Whether what follows a colon, if there is one before the path, can be a port. Addresses of IPv6 stand in brackets.
fn has_port_or_none(place: &str) -> bool {
    let authority = place.split(['/', '?', '#']).next().unwrap_or_default();
    let after = authority.rsplit_once(']').map_or(authority, |(_, after)| after);
    after.split_once(':').is_none_or(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A URL's parameters, by name and value.
fn parameters_of(url: &str) -> impl Iterator<Item = (&str, &str)> {
    let (_, parameters) = url.rsplit_once('?').unwrap_or_default();
    let pairs = parameters.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

fn is_known(parameter: &str) -> bool {
    SHOWN.contains(&parameter) || HIDDEN.contains(&parameter)
}

/// Parameters of a URL that are no secrets.
const SHOWN: &[&str] = &[
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "application_name",
    "statement-cache-capacity",
];

/// Parameters that name a file.
const FILES: &[&str] = &["sslrootcert", "sslcert", "sslkey"];

/// Parameters that are, or may hold some.
const HIDDEN: &[&str] = &["password", "options"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let check = |url: &str, expected: &str| {
            let shown = without_password(url);
            assert_eq!(shown, expected);
            assert!(!shown.contains("s3cret"), "{shown}");
        };
        check("postgres://eva:s3cret@db.example/cluster", "postgres://eva:***@db.example/cluster");
        check(
            "postgres://eva:s3cret@x@db:5432/c?sslmode=require",
            "postgres://eva:***@db:5432/c?sslmode=require",
        );
        check("postgres://eva:s3/cret?s3cret@db/c", "postgres://eva:***@db/c");
        check("postgres://eva@db/c?password=s3cret@", "postgres://…");
        check("postgres://eva@db/c?password=s3cret&host=/run", "postgres://eva@db/c?password=***&host=/run");
        check("postgres://eva:s3cret/cluster", "postgres://…");
        check("postgres://[::1]:5432/c?s3cret", "postgres://[::1]:5432/c?***");
        check("postgres://db/c?passwort=s3cret", "postgres://db/c?***");
        check("postgresql:eva:s3cret@db", "postgresql:…");
        check("sqlite:state/cluster.db", "sqlite:state/cluster.db");
    }

    #[test]
    fn says_what_is_wrong_with_a_url_without_its_password() {
        let check = |url: &str, cause: &str| {
            let error = url.parse::<StoreUrl>().expect_err(url).to_string();
            assert!(error.contains(cause) && error.contains("`sqlite:PATH`"), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        };
        check("mysql://eva:s3cret@db/c", "neither `sqlite:` nor `postgres://`");
        check("cluster.db", "neither `sqlite:` nor `postgres://`");
        check("sqlite:", "a file is missing");
        check("sqlite::memory:", "a file is missing");
        check("sqlite:a.db?mode=ro", "no parameters");
        check("postgres://eva:s3cret@db:port/c", "invalid port");
        check("postgres://eva@db/c?pasword=s3cret", "unknown parameter \"pasword\"");
        check("postgres://eva@db/c?sslmode=require&%73=s3cret", "unknown parameter \"\"");
        check("postgres://eva:s3cret@db/c?sslmode=perhaps", "unknown value \"perhaps\"");
    }

    #[test]
    fn neither_printing_nor_debugging_settings_shows_a_password() {
        let url: StoreUrl = "postgres://eva:s3cret@db.example/cluster".parse().expect("a URL");
        let settings = StoreSettings::new(url.clone());
        for text in [url.to_string(), format!("{url:?}"), format!("{settings:?}")] {
            assert!(text.contains("eva:***@db.example") && !text.contains("s3cret"), "{text}");
        }
    }
}
