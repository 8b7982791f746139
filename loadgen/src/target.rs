//! Which server is meant by a URL, and what is a method, a path, a field?
//!
//! Nothing here opens a connection; what could be read in two ways is refused.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

use proto::http1::field::is_token;
use proto::http1::head;

use crate::protocol::http::template;

/// How long one address of a name with several may take to accept before the next is tried.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// What is spoken with a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    /// RFC 6455 §3.
    WebSocket,
    /// Nothing but bytes.
    Tcp,
}

/// A URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) scheme: Scheme,
    /// Whether its connections are private.
    pub(crate) is_secure: bool,
    /// Name or address, an IPv6 address without its brackets.
    pub(crate) host: String,
    /// TCP port, 80 or 443 unless written; written where no protocol has one.
    pub(crate) port: u16,
    /// Path and query, starting with a slash; nothing where no protocol has any.
    pub(crate) path: String,
    /// Host and port as written: the value of the Host field.
    pub(crate) authority: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let (name, rest) =
            url.split_once("://").ok_or_else(|| format!("no scheme; did you mean 'http://{url}'?"))?;
        let (scheme, is_secure) = match name.to_ascii_lowercase().as_str() {
            "http" => (Scheme::Http, false),
            "https" => (Scheme::Http, true),
            "ws" => (Scheme::WebSocket, false),
            "wss" => (Scheme::WebSocket, true),
            "tcp" => (Scheme::Tcp, false),
            _ => {
                return Err(format!(
                    "scheme '{name}' is not spoken; use http://, https://, ws://, wss:// or tcp://"
                ));
            }
        };
        check_url_text(rest)?;
        let (authority, path) = match rest.find(['/', '?']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        if authority.contains('@') {
            return Err("a user in the URL is not sent; use -H 'Authorization: …'".into());
        }
        let (host, port) = split_authority(authority)?;
        let path = match scheme {
            Scheme::Tcp if !matches!(path, "" | "/") => {
                return Err("a path means nothing to TCP; write nothing but tcp://HOST:PORT".into());
            }
            Scheme::Tcp => String::new(),
            Scheme::Http | Scheme::WebSocket if path.starts_with('/') => path.to_owned(),
            Scheme::Http | Scheme::WebSocket => format!("/{path}"),
        };
        let port = match (port, scheme) {
            (Some(port), _) => port,
            (None, Scheme::Http | Scheme::WebSocket) => {
                if is_secure {
                    443
                } else {
                    80
                }
            }
            (None, Scheme::Tcp) => return Err("no port; expected tcp://HOST:PORT".into()),
        };
        Ok(Self { scheme, is_secure, host, port, path, authority: authority.to_owned() })
    }
}

/// Checks what of a URL is sent as it is, and its placeholders.
///
/// # Errors
/// Something that no request target has, or a placeholder that is none.
pub(crate) fn check_url_text(text: &str) -> Result<(), String> {
    template::parse(text)?;
    let text = template::outside(text);
    if let Some(byte) = text.bytes().find(|byte| !byte.is_ascii_graphic()) {
        return Err(format!("byte 0x{byte:02x} is not allowed in a URL; write it as %{byte:02X}"));
    }
    if text.contains('#') {
        return Err("a fragment ('#…') is never sent; leave it out".into());
    }
    Ok(())
}

fn split_authority(authority: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']').ok_or("an IPv6 address lacks its closing ']'")?;
            address.parse::<Ipv6Addr>().map_err(|_| format!("'{address}' is no IPv6 address"))?;
            match after.strip_prefix(':') {
                Some(port) => (address, Some(port)),
                None if after.is_empty() => (address, None),
                None => return Err(format!("'{after}' after the IPv6 address; expected ':PORT'")),
            }
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if host.is_empty() {
        return Err("no host; expected http://HOST[:PORT]/PATH".into());
    }
    let port = match port {
        None => None,
        Some(text) => match text.parse::<u16>() {
            Ok(port) if port > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Some(port),
            _ => return Err(format!("port '{text}' is not a number from 1 to 65535")),
        },
    };
    Ok((host.to_owned(), port))
}

impl Target {
    /// What its URL begins with.
    pub(crate) const fn scheme_name(&self) -> &'static str {
        match (self.scheme, self.is_secure) {
            (Scheme::Http, false) => "http",
            (Scheme::Http, true) => "https",
            (Scheme::WebSocket, false) => "ws",
            (Scheme::WebSocket, true) => "wss",
            (Scheme::Tcp, _) => "tcp",
        }
    }

    /// Reads `HOST:PORT`, with or without `tcp://` before it.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn parse_tcp(text: &str) -> Result<Self, String> {
        match text.split_once("://") {
            None => format!("tcp://{text}").parse(),
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("tcp") => text.parse(),
            Some(_) => Err("expected HOST:PORT; for other protocols write loadgen URL".into()),
        }
    }

    /// The address to connect to. A name with several addresses is asked in order and the first that accepts is taken.
    ///
    /// # Errors
    /// The name is unknown, or the resolver failed.
    pub(crate) fn resolve(&self) -> Result<SocketAddr, String> {
        let addresses: Vec<SocketAddr> = (self.host.as_str(), self.port)
            .to_socket_addrs()
            .map_err(|error| format!("cannot resolve '{}': {error}", self.host))?
            .collect();
        let accepting =
            || addresses.iter().find(|address| TcpStream::connect_timeout(address, PROBE_TIMEOUT).is_ok());
        match addresses.as_slice() {
            [] => Err(format!("'{}' has no address", self.host)),
            [only] => Ok(*only),
            [first, ..] => Ok(*accepting().unwrap_or(first)),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}://{}{}", self.scheme_name(), self.authority, self.path)
    }
}

/// A request method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Method(String);

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "CONNECT" => Err("CONNECT asks for a tunnel, which is not measured here".into()),
            _ if is_token(text.as_bytes()) => Ok(Self(text.to_owned())),
            _ => Err("not a method name; expected GET, POST, …".into()),
        }
    }
}

impl Method {
    /// What kind of request it makes.
    pub(crate) fn kind(&self) -> head::Method {
        head::Method::of(self.0.as_bytes())
    }

    /// Whether a request without a body still states its length (RFC 9110 §8.6).
    pub(crate) fn anticipates_body(&self) -> bool {
        matches!(self.kind(), head::Method::Post | head::Method::Put | head::Method::Patch)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A field given on the command line as `Name: value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: String,
    /// May have placeholders.
    pub(crate) value: String,
}

impl FromStr for Field {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let field = Self::of_answer(text)?;
        template::parse(&field.value)?;
        let own = ["content-length", "transfer-encoding", "connection"];
        if own.iter().any(|name| field.name.eq_ignore_ascii_case(name)) {
            return Err(format!(
                "{} is written by loadgen itself; use --body, --body-file or --no-keepalive",
                field.name
            ));
        }
        Ok(field)
    }
}

impl Field {
    /// A field that an answer is expected to have: any, and nothing in it is a placeholder.
    ///
    /// # Errors
    /// Not a field.
    pub(crate) fn of_answer(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once(':').ok_or("expected 'Name: value'")?;
        let value = value.trim_matches([' ', '\t']);
        if !is_token(name.as_bytes()) {
            return Err(format!("'{name}' is no field name; expected 'Name: value'"));
        }
        if value.bytes().any(|byte| byte != b'\t' && (byte < b' ' || byte == 0x7f)) {
            return Err(format!("the value of '{name}' holds a control character"));
        }
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let good = [
            ("ws://h:81/chat?a", "h", 81, "/chat?a", "h:81"),
            ("WS://h", "h", 80, "/", "h"),
            ("wss://h", "h", 443, "/", "h"),
            ("tcp://[::1]:9", "::1", 9, "", "[::1]:9"),
            ("tcp://h:9/", "h", 9, "", "h:9"),
            ("http://localhost", "localhost", 80, "/", "localhost"),
            ("https://localhost", "localhost", 443, "/", "localhost"),
            ("https://[::1]:8443/", "::1", 8443, "/", "[::1]:8443"),
            ("http://localhost/", "localhost", 80, "/", "localhost"),
            ("HTTP://10.0.0.1:8080/a/b?c=d", "10.0.0.1", 8080, "/a/b?c=d", "10.0.0.1:8080"),
            ("http://[::1]:8080/x", "::1", 8080, "/x", "[::1]:8080"),
            ("http://[::1]", "::1", 80, "/", "[::1]"),
            ("http://host?query", "host", 80, "/?query", "host"),
            ("http://host/{{random 1..9}}", "host", 80, "/{{random 1..9}}", "host"),
        ];
        for (url, host, port, path, authority) in good {
            let scheme = match url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase()).as_deref()
            {
                Some("ws" | "wss") => Scheme::WebSocket,
                Some("tcp") => Scheme::Tcp,
                _ => Scheme::Http,
            };
            let (host, path, authority) = (host.into(), path.into(), authority.into());
            let is_secure = url.starts_with("https:") || url.starts_with("wss:");
            let expected = Target { scheme, is_secure, host, port, path, authority };
            assert_eq!(url.parse::<Target>(), Ok(expected), "{url}");
        }
    }

    #[test]
    fn bad_urls_are_refused_with_the_way_out() {
        let bad = [
            ("tcp://h", "no port"),
            ("tcp://h:1/path", "means nothing to TCP"),
            ("ftp://localhost/", "use http://"),
            ("127.0.0.1:8080/x", "did you mean 'http://127.0.0.1:8080/x'?"),
            ("http://", "no host"),
            ("http://:80/", "no host"),
            ("http://host:0/", "from 1 to 65535"),
            ("http://host:65536/", "from 1 to 65535"),
            ("http://host:+80/", "from 1 to 65535"),
            ("http://host:/", "from 1 to 65535"),
            ("http://[::1/", "closing ']'"),
            ("http://[::g]/", "no IPv6 address"),
            ("http://[::1]8080/", "expected ':PORT'"),
            ("http://user@host/", "Authorization"),
            ("http://host/a b", "%20"),
            ("http://host/\r\nX: y", "%0D"),
            ("http://host/é", "%C3"),
            ("http://host/#top", "fragment"),
            ("http://host/{{number}}", "{{seq}}"),
        ];
        for (url, hint) in bad {
            let refusal = url.parse::<Target>().expect_err(url);
            assert!(refusal.contains(hint), "{url}: {refusal}");
        }
    }

    #[test]
    fn fields_cannot_split_the_request() {
        assert!("X-A: b".parse::<Field>().is_ok());
        assert!("X-Empty:".parse::<Field>().is_ok());
        for text in [
            "",
            "X-A",
            ": b",
            "X A: b",
            "X-A: b\r\nX-B: c",
            "X-A: b\0",
            "X-A: {{b}}",
            "X-{{seq}}: b",
            "Content-Length: 3",
            "connection: close",
        ] {
            assert!(text.parse::<Field>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn addresses_need_no_resolver() {
        let target: Target = "http://[::1]:8080/".parse().expect("a URL");
        assert_eq!(target.resolve(), Ok("[::1]:8080".parse().expect("an address")));
    }
}
