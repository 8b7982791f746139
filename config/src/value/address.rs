//! Which socket address is "10.0.0.1:8000"?
//!
//! Never asks a name server: what a process listens on must not depend on who answers at start, and endpoints are asked for later.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

use super::Refusal;
use super::server_name::{self, ServerNameError};
use super::unix::{UnixPathError, check_path};
use crate::schema::text::{Bind, Target};

/// What stands before the name of one of the process's own listeners.
pub(crate) const LISTENER_PREFIX: &str = "listener:";

/// What stands before the name of a service that DNS knows the servers of.
pub(crate) const SERVICE_PREFIX: &str = "srv:";

/// The port of name servers (RFC 1035 §4.2).
const DNS_PORT: u16 = 53;

/// What stands before the path of a Unix socket.
pub(crate) const UNIX_PREFIX: &str = "unix:";

/// Why an address was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum AddressError {
    #[error("an address is written IP:PORT, found an empty string")]
    Empty,
    #[error("an address is written IP:PORT, found a URL")]
    Url { rest: String },
    #[error("the port is missing")]
    NoPort { host: String },
    #[error("the host is missing")]
    NoHost { port: String },
    #[error("a port is a number from 0 to 65535, found {found:?}")]
    BadPort { found: String },
    #[error("an IPv6 address stands in brackets before its port")]
    NoBrackets { text: String },
    #[error("every address of this host is written 0.0.0.0, or [::] with IPv6")]
    Star { port: String },
    #[error("an address to listen on is no host name, found {host:?}")]
    HostName { host: String },
    #[error("{host:?} is neither an address nor a name: the last label of a name has a letter")]
    BadAddress { host: String },
    #[error(
        "{host:?} is no host name: letters, digits, '-', '_' and single dots, 253 at most, 63 between two"
    )]
    BadName { host: String },
    #[error("the name of a service is missing")]
    NoService,
    #[error("a name server is an IP address, with its port if that is not 53; found {text:?}")]
    NoNameserver { text: String },
    #[error("port 0 cannot be connected to")]
    PortZero,
    #[error("{address} stands for every address of this host and cannot be connected to")]
    Unspecified { address: SocketAddr },
    #[error("the name of a listener is missing")]
    NoListener,
    #[error("a listener cannot be bound to another one")]
    ListenerHere,
    #[error("admin listens on a TCP address only")]
    UnixHere,
    #[error(transparent)]
    UnixPath(#[from] UnixPathError),
}

impl Refusal for AddressError {
    fn suggestion(&self) -> Option<String> {
        match self {
            Self::Url { rest } => Some(format!("write \"{rest}\"")),
            Self::NoPort { host }
                if host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() =>
            {
                Some(format!("for example \"{host}:8080\""))
            }
            Self::Empty | Self::NoPort { .. } => Some("for example \"127.0.0.1:8080\"".to_owned()),
            Self::NoHost { port } => {
                Some(format!("write \"127.0.0.1:{port}\", or \"0.0.0.0:{port}\" for every address"))
            }
            Self::BadPort { .. }
            | Self::PortZero
            | Self::ListenerHere
            | Self::UnixHere
            | Self::BadName { .. } => None,
            Self::BadAddress { .. } => Some("each number of an address is 0 to 255".to_owned()),
            Self::NoService => Some(format!("for example \"{SERVICE_PREFIX}_http._tcp.app.example\"")),
            Self::NoNameserver { .. } => Some("for example \"10.0.0.53\" or \"[::1]:5353\"".to_owned()),
            Self::UnixPath(refusal) => refusal.suggestion(),
            Self::NoBrackets { text } => Some(format!("for example \"[{text}]:8080\"")),
            Self::Star { port } => Some(format!("write \"0.0.0.0:{port}\"")),
            Self::HostName { .. } => Some("write an IP address or \"localhost\"".to_owned()),
            Self::Unspecified { address } => {
                let loopback: IpAddr =
                    if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
                Some(format!("did you mean \"{}\"?", SocketAddr::new(loopback, address.port())))
            }
            Self::NoListener => Some(format!("for example \"{LISTENER_PREFIX}web\"")),
        }
    }
}

/// Reads a TCP address to listen on; port 0 lets the kernel choose.
pub(crate) fn parse_tcp(text: &str) -> Result<SocketAddr, AddressError> {
    match parse_bind(text)? {
        Bind::Tcp(address) => Ok(address),
        Bind::Unix(_) => Err(AddressError::UnixHere),
    }
}

/// Reads an address to listen on; port 0 lets the kernel choose.
pub(crate) fn parse_bind(text: &str) -> Result<Bind, AddressError> {
    match parse_target(text)? {
        Target::Tcp(address) => Ok(Bind::Tcp(address)),
        Target::Localhost(port) => Ok(Bind::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))),
        Target::Unix(path) => Ok(Bind::Unix(path)),
        Target::Listener(_) => Err(AddressError::ListenerHere),
        Target::Name { host, .. } | Target::Service(host) => Err(AddressError::HostName { host }),
    }
}

/// Reads an address to connect to, or `listener:NAME` for one of our own listeners.
pub(crate) fn parse_endpoint(text: &str) -> Result<Target, AddressError> {
    let target = parse_target(text)?;
    match target {
        Target::Tcp(address) if address.port() == 0 => Err(AddressError::PortZero),
        Target::Localhost(0) | Target::Name { port: 0, .. } => Err(AddressError::PortZero),
        Target::Tcp(address) if address.ip().is_unspecified() => Err(AddressError::Unspecified { address }),
        Target::Tcp(_) | Target::Localhost(_) | Target::Unix(_) | Target::Listener(_) => Ok(target),
        Target::Name { .. } | Target::Service(_) => Ok(target),
    }
}

/// Reads the address of a name server.
pub(crate) fn parse_nameserver(text: &str) -> Result<SocketAddr, AddressError> {
    let alone = |text: &str| text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, DNS_PORT));
    let address = text.parse().ok().or_else(|| alone(text));
    let usable = |address: &SocketAddr| address.port() != 0 && !address.ip().is_unspecified();
    address.filter(usable).ok_or_else(|| AddressError::NoNameserver { text: text.to_owned() })
}

fn parse_target(text: &str) -> Result<Target, AddressError> {
    if let Some(name) = text.strip_prefix(LISTENER_PREFIX) {
        return if name.is_empty() {
            Err(AddressError::NoListener)
        } else {
            Ok(Target::Listener(name.to_owned()))
        };
    }
    if let Some(name) = text.strip_prefix(SERVICE_PREFIX) {
        return if name.is_empty() {
            Err(AddressError::NoService)
        } else {
            parse_name(name).map(Target::Service)
        };
    }
    if let Some(path) = text.strip_prefix(UNIX_PREFIX) {
        check_path(path)?;
        return Ok(Target::Unix(path.to_owned()));
    }
    if let Ok(address) = text.parse() {
        return Ok(Target::Tcp(address));
    }
    let (host, port) = split_port(text)?;
    // `u16::from_str` would take a sign as well.
    let port_number = port.parse::<u16>().ok().filter(|_| port.bytes().all(|b| b.is_ascii_digit()));
    let Some(port_number) = port_number else {
        return Err(AddressError::BadPort { found: port.to_owned() });
    };
    match host {
        "localhost" => Ok(Target::Localhost(port_number)),
        "" => Err(AddressError::NoHost { port: port.to_owned() }),
        "*" => Err(AddressError::Star { port: port.to_owned() }),
        _ => Ok(Target::Name { host: parse_name(host)?, port: port_number }),
    }
}

/// Reads a name that DNS may know. What ends in digits is meant as an address (RFC 3696 §2).
fn parse_name(text: &str) -> Result<String, AddressError> {
    let host = || text.to_owned();
    let name = server_name::parse(text).map_err(|error| match error {
        ServerNameError::Address => AddressError::BadAddress { host: host() },
        _ => AddressError::BadName { host: host() },
    })?;
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|b| b.is_ascii_digit()) {
        return Err(AddressError::BadAddress { host: host() });
    }
    Ok(name)
}

/// Parts host and port of what is not a plain socket address, or says what is in the way.
fn split_port(text: &str) -> Result<(&str, &str), AddressError> {
    if text.is_empty() {
        return Err(AddressError::Empty);
    }
    if let Some((_, rest)) = text.split_once("://") {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        return Err(AddressError::Url { rest: authority.to_owned() });
    }
    if let Some((authority, _)) = text.split_once('/') {
        return Err(AddressError::Url { rest: authority.to_owned() });
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(AddressError::NoBrackets { text: text.to_owned() });
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(("", text));
    }
    let no_port = || AddressError::NoPort { host: text.to_owned() };
    if text.ends_with(']') {
        return Err(no_port());
    }
    match text.rsplit_once(':') {
        None => Err(no_port()),
        Some((host, port)) => Ok((host, port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses_to_listen_on() {
        for (text, canonical) in [
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("0.0.0.0:8080", "0.0.0.0:8080"),
            ("[::]:8080", "[::]:8080"),
            ("[0:0::1]:80", "[::1]:80"),
            ("localhost:8080", "127.0.0.1:8080"),
        ] {
            assert_eq!(parse_bind(text).map(|address| address.to_string()), Ok(canonical.to_owned()));
        }
    }

    #[test]
    fn reads_addresses_to_connect_to() {
        assert_eq!(parse_endpoint("10.0.0.1:80"), Ok(Target::Tcp(SocketAddr::from(([10, 0, 0, 1], 80)))));
        assert_eq!(parse_endpoint("localhost:80"), Ok(Target::Localhost(80)));
        assert_eq!(parse_endpoint("listener:origin"), Ok(Target::Listener("origin".to_owned())));
        let name = |host: &str, port| Ok(Target::Name { host: host.to_owned(), port });
        assert_eq!(parse_endpoint("App.Example.:80"), name("app.example", 80));
        assert_eq!(parse_endpoint("app:80"), name("app", 80));
        let service = Target::Service("_http._tcp.app.example".to_owned());
        assert_eq!(parse_endpoint("srv:_http._tcp.app.example"), Ok(service));
    }

    #[test]
    fn a_name_server_is_an_address_and_its_port_is_53() {
        for (text, address) in [
            ("10.0.0.53", Some("10.0.0.53:53")),
            ("10.0.0.53:5353", Some("10.0.0.53:5353")),
            ("::1", Some("[::1]:53")),
            ("[::1]:5353", Some("[::1]:5353")),
            ("ns.example", None),
            ("10.0.0.53:0", None),
            ("0.0.0.0", None),
            ("", None),
        ] {
            assert_eq!(
                parse_nameserver(text).ok(),
                address.map(|address| address.parse().expect(text)),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_what_cannot_be_listened_on_or_connected_to() {
        let check = |found: Result<Target, AddressError>, cause: &str, suggestion: Option<&str>| {
            let error = found.unwrap_err();
            assert_eq!((error.to_string().as_str(), error.suggestion().as_deref()), (cause, suggestion));
        };
        let bind = |text: &str| parse_tcp(text).map(Target::Tcp);
        let example = Some("for example \"127.0.0.1:8080\"");
        check(bind(""), "an address is written IP:PORT, found an empty string", example);
        let every = Some("write \"127.0.0.1:80\", or \"0.0.0.0:80\" for every address");
        check(bind("80"), "the host is missing", every);
        check(bind(":80"), "the host is missing", every);
        check(bind("10.0.0.1"), "the port is missing", Some("for example \"10.0.0.1:8080\""));
        check(bind("web"), "the port is missing", example);
        check(bind("[::1]"), "the port is missing", Some("for example \"[::1]:8080\""));
        let brackets = "an IPv6 address stands in brackets before its port";
        check(bind("::1"), brackets, Some("for example \"[::1]:8080\""));
        check(bind("listener:web"), "a listener cannot be bound to another one", None);
        check(bind("10.0.0.1:65536"), "a port is a number from 0 to 65535, found \"65536\"", None);
        check(bind("10.0.0.1:+80"), "a port is a number from 0 to 65535, found \"+80\"", None);
        check(bind("10.0.0.1:http"), "a port is a number from 0 to 65535, found \"http\"", None);
        let star = "every address of this host is written 0.0.0.0, or [::] with IPv6";
        check(bind("*:80"), star, Some("write \"0.0.0.0:80\""));
        let names = Some("write an IP address or \"localhost\"");
        check(
            bind("web.example:80"),
            "an address to listen on is no host name, found \"web.example\"",
            names,
        );
        let neither = "\"300.0.0.1\" is neither an address nor a name: the last label of a name has a letter";
        check(bind("300.0.0.1:80"), neither, Some("each number of an address is 0 to 255"));
        check(parse_endpoint("300.0.0.1:80"), neither, Some("each number of an address is 0 to 255"));
        let no_name =
            "\"a b\" is no host name: letters, digits, '-', '_' and single dots, 253 at most, 63 between two";
        check(parse_endpoint("a b:80"), no_name, None);
        check(parse_endpoint("app.example:0"), "port 0 cannot be connected to", None);
        let service = Some("for example \"srv:_http._tcp.app.example\"");
        check(parse_endpoint("srv:"), "the name of a service is missing", service);
        let url = "an address is written IP:PORT, found a URL";
        check(parse_endpoint("http://10.0.0.1:80/fhir"), url, Some("write \"10.0.0.1:80\""));
        check(parse_endpoint("10.0.0.1:80/fhir"), url, Some("write \"10.0.0.1:80\""));
        check(parse_endpoint("10.0.0.1:0"), "port 0 cannot be connected to", None);
        check(parse_endpoint("localhost:0"), "port 0 cannot be connected to", None);
        let every = "0.0.0.0:80 stands for every address of this host and cannot be connected to";
        check(parse_endpoint("0.0.0.0:80"), every, Some("did you mean \"127.0.0.1:80\"?"));
        check(
            parse_endpoint("listener:"),
            "the name of a listener is missing",
            Some("for example \"listener:web\""),
        );
    }
}
