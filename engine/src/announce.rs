//! What does the process say once it serves? Where, with what, and what to try next.
//!
//! Never before everything accepts: scripts wait for these lines.

use std::fmt::Write as _;
use std::net::SocketAddr;

use config::snapshot::Snapshot;
use control::bind::reachable;
use proxy::address::Address;
use runtime::driver::Chosen;

use crate::logging;
use crate::say;
use crate::settings::{Source, count};

/// What the process serves.
pub(crate) struct Serving<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) source: Source<'a>,
    pub(crate) listeners: &'a [Address],
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) driver: &'a Chosen,
    pub(crate) cores: usize,
}

impl Serving<'_> {
    /// Says it on standard error, in the form of the log.
    pub(crate) fn announce(&self) {
        if logging::is_json() {
            self.log();
        } else {
            say(&self.text());
        }
    }

    fn text(&self) -> String {
        let names = self.snapshot.listeners.iter().map(|listener| listener.name.len());
        let width = names.max().unwrap_or(0).max("web    ".len());
        let label_width = "listener ".len() + width;
        let cores = count(self.cores, "core");
        let mut text = String::new();
        for (listener, address) in self.snapshot.listeners.iter().zip(self.listeners) {
            let internal = if listener.internal { ", internal" } else { "" };
            let scheme = listener.protocol.name();
            let name = &listener.name;
            let line = match address {
                Address::Tcp(address) => {
                    format!("listener {name:width$} {scheme}://{address} ({cores}{internal})")
                }
                // No URL has a path for an authority.
                Address::Unix(_) => format!("listener {name:width$} {address} ({scheme}, {cores}{internal})"),
            };
            push_line(&mut text, &line);
        }
        if let Some(address) = self.admin {
            push_line(&mut text, &format!("{:label_width$} http://{address}", "admin"));
        }
        push_line(&mut text, &format!("{:label_width$} {}", "driver", driver(self.driver)));
        if self.source == Source::Default {
            self.push_hints(&mut text);
        }
        text
    }

    /// For whoever started it without knowing what to do with it.
    fn push_hints(&self, text: &mut String) {
        let mut listeners = self.snapshot.listeners.iter().zip(self.listeners);
        let web = listeners.find_map(|(listener, address)| match address {
            Address::Tcp(address) if !listener.internal => Some(reachable(*address)),
            _ => None,
        });
        let Some(web) = web else { return };
        push_line(text, "\ntry next");
        push_line(text, &format!("  curl http://{web}/"));
        push_line(text, &format!("  loadgen http://{web}/ -c 64 -d 10s"));
        if let Some(admin) = self.admin {
            push_line(text, &format!("  engine stats --admin http://{}", reachable(admin)));
        }
        push_line(text, "  engine config default > corelane.toml    # then: engine --config corelane.toml");
    }

    fn log(&self) {
        for (listener, address) in self.snapshot.listeners.iter().zip(self.listeners) {
            let scheme = listener.protocol.name();
            let url = match address {
                Address::Tcp(address) => format!("{scheme}://{address}"),
                Address::Unix(_) => address.to_string(),
            };
            let internal = listener.internal;
            tracing::info!(
                listener = listener.name,
                url,
                protocol = scheme,
                cores = self.cores,
                internal,
                "listening"
            );
        }
        if let Some(address) = self.admin {
            tracing::info!(url = %format_args!("http://{address}"), "admin");
        }
        tracing::info!(driver = driver(self.driver), "driver");
    }
}

/// The driver, and why it is not the other one.
fn driver(chosen: &Chosen) -> String {
    let mut text = chosen.kind.to_string();
    if let Some(error) = &chosen.uring_error {
        // Writing to a String does not fail.
        let _ = write!(text, " (io_uring refused: {error})");
    }
    text
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use std::io;

    use runtime::DriverKind;

    use super::*;

    fn snapshot() -> Snapshot {
        let text = config::default_config();
        config::load_str("default.toml", text, config::Format::Toml, &|_| None).expect("the default").snapshot
    }

    #[test]
    fn every_line_begins_as_scripts_expect_it() {
        let snapshot = snapshot();
        let tcp = |text: &str| Address::Tcp(text.parse().expect(text));
        let listeners = [tcp("127.0.0.1:8080"), tcp("127.0.0.1:40123")];
        let refused = io::Error::from_raw_os_error(1);
        let serving = Serving {
            snapshot: &snapshot,
            source: Source::Flags { listen: &[], to: &[] },
            listeners: &listeners,
            admin: Some("127.0.0.1:9000".parse().expect("address")),
            driver: &Chosen { kind: DriverKind::Epoll, uring_error: Some(refused) },
            cores: 2,
        };
        let expected = "\
listener web     http://127.0.0.1:8080 (2 cores)
listener origin  http://127.0.0.1:40123 (2 cores, internal)
admin            http://127.0.0.1:9000
driver           epoll (io_uring refused: Operation not permitted (os error 1))
";
        assert_eq!(serving.text(), expected);
        let at_a_path = [Address::Unix(std::path::Path::new("/run/web.sock").into()), tcp("127.0.0.1:40123")];
        let text = Serving { listeners: &at_a_path, ..serving }.text();
        assert!(text.starts_with("listener web     unix:/run/web.sock (http, 2 cores)\n"), "{text}");
        let hinted = Serving { source: Source::Default, cores: 1, ..serving }.text();
        assert!(hinted.contains("(1 core)\n"), "{hinted}");
        assert!(hinted.contains("curl http://127.0.0.1:8080/\n"), "{hinted}");
    }
}
