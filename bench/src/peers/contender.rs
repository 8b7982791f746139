//! Who is measured, and how is each one set up?
//!
//! A reverse proxy adds `X-Forwarded-For`. The engine has its statistics and histograms on all the same, and matches a
//! regular expression. A minimal relay only waits for whole messages: it shows what its runtime costs.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, ensure};
use bench::process::{Child, CoreList, free_addr};
use bench::traffic::Traffic;

use crate::certificate::PemFiles;
use crate::configuration::{
    WATCHFUL, engine_config, engine_logging_config, engine_tcp_config, engine_upstream_config,
    haproxy_config, haproxy_tcp_config, nginx_config, nginx_stream_config,
};

/// Something that passes requests on, or bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Contender {
    /// Our relay that parses nothing.
    Null,
    /// Our gateway, `--driver epoll`.
    EngineEpoll,
    /// Our gateway, `--driver uring`.
    EngineUring,
    /// The same on epoll, with health checks, sticky cookies and the choice by least time.
    WatchfulEpoll,
    /// The same on io_uring.
    WatchfulUring,
    /// Our gateway on epoll, with an access log.
    LoggingEpoll,
    /// The same on io_uring.
    LoggingUring,
    /// nginx as packaged by Debian.
    Nginx,
    /// HAProxy as packaged by Debian.
    Haproxy,
    /// A proxy built on pingora.
    Pingora,
    /// The minimal relay on our executor and epoll.
    RelayEpoll,
    /// The minimal relay on our executor and io_uring.
    RelayUring,
    /// The minimal relay on monoio and io_uring.
    MonoioUring,
    /// The minimal relay on monoio and epoll.
    MonoioEpoll,
    /// The minimal relay on glommio.
    Glommio,
    /// The minimal relay on tokio.
    Tokio,
}

/// The peers that our gateway is compared with.
pub(crate) const PEERS: [Contender; 2] = [Contender::Nginx, Contender::Haproxy];

/// Our gateway with more to do, on its two drivers, where it is measured what that costs.
pub(crate) fn busier_engines(traffic: Traffic) -> Option<[Contender; 2]> {
    match traffic {
        Traffic::Sessions => Some([Contender::WatchfulEpoll, Contender::WatchfulUring]),
        Traffic::Logged => Some([Contender::LoggingEpoll, Contender::LoggingUring]),
        _ => None,
    }
}

/// The two drivers of our gateway.
pub(crate) const ENGINES: [Contender; 2] = [Contender::EngineEpoll, Contender::EngineUring];

impl Contender {
    /// The same without what more it has to do.
    pub(crate) fn without(self) -> Option<Self> {
        match self {
            Self::WatchfulEpoll | Self::LoggingEpoll => Some(Self::EngineEpoll),
            Self::WatchfulUring | Self::LoggingUring => Some(Self::EngineUring),
            _ => None,
        }
    }

    /// As given to `--candidate` and `--against`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::EngineEpoll => "engine-epoll",
            Self::EngineUring => "engine-uring",
            Self::WatchfulEpoll => "watchful-epoll",
            Self::WatchfulUring => "watchful-uring",
            Self::LoggingEpoll => "logging-epoll",
            Self::LoggingUring => "logging-uring",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Pingora => "pingora",
            Self::RelayEpoll => "relay-epoll",
            Self::RelayUring => "relay-uring",
            Self::MonoioUring => "monoio-uring",
            Self::MonoioEpoll => "monoio-epoll",
            Self::Glommio => "glommio",
            Self::Tokio => "tokio",
        }
    }

    /// One line for `--list`.
    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::Null => "relays bytes, parses nothing: the floor",
            Self::EngineEpoll => "engine --cores 1 --driver epoll",
            Self::EngineUring => "engine --cores 1 --driver uring",
            Self::WatchfulEpoll => "engine-epoll with health checks, sticky cookies and least time",
            Self::WatchfulUring => "engine-uring with health checks, sticky cookies and least time",
            Self::LoggingEpoll => "engine-epoll with an access log, each request a line in a file",
            Self::LoggingUring => "engine-uring with the same",
            Self::Nginx => "nginx, one worker",
            Self::Haproxy => "HAProxy, one thread",
            Self::Pingora => "a proxy on pingora, one thread; built when asked for",
            Self::RelayEpoll => "minimal relay on our executor, epoll",
            Self::RelayUring => "minimal relay on our executor, io_uring",
            Self::MonoioUring => "minimal relay on monoio, io_uring; built by bench/runtimes",
            Self::MonoioEpoll => "minimal relay on monoio, epoll; built by bench/runtimes",
            Self::Glommio => "minimal relay on glommio, io_uring; built by bench/runtimes",
            Self::Tokio => "minimal relay on tokio, current_thread",
        }
    }

    /// Why it takes no part in `traffic`, if it does not.
    pub(crate) fn cannot_take(self, traffic: Traffic) -> Option<&'static str> {
        match (self, traffic) {
            (
                Self::EngineEpoll | Self::EngineUring | Self::WatchfulEpoll | Self::WatchfulUring,
                Traffic::Sessions,
            ) => None,
            (
                Self::LoggingEpoll | Self::LoggingUring | Self::EngineEpoll | Self::EngineUring,
                Traffic::Logged,
            ) => None,
            (Self::Null, Traffic::Sessions | Traffic::Logged) => None,
            (_, Traffic::Sessions | Traffic::Logged) => Some("it is compared with itself"),
            (Self::WatchfulEpoll | Self::WatchfulUring, _) => Some("it is measured over sessions"),
            (Self::LoggingEpoll | Self::LoggingUring, _) => Some("it is measured in access-log"),
            (_, Traffic::Kept) | (Self::Nginx | Self::Haproxy, _) => None,
            (Self::EngineEpoll | Self::EngineUring, traffic) if traffic.is_private() => None,
            (_, traffic) if traffic.is_private() => Some("it speaks no TLS"),
            (Self::Null, _) => None,
            (Self::EngineEpoll | Self::EngineUring, _) | (Self::Pingora, Traffic::Churn) => None,
            (Self::Pingora, _) => Some("it is set up as an HTTP proxy"),
            (_, _) => Some("it passes on HTTP requests over kept connections only"),
        }
    }

    /// Writes the configuration that passes `listen` on to the origin; returns the command to run.
    fn command(self, place: &Place<'_>, cores: CoreList, listen: SocketAddr) -> anyhow::Result<Vec<String>> {
        let Place { binaries, dir, origin, traffic, body_bytes, connections, private } = *place;
        let private = private.filter(|_| traffic.is_private());
        let config = dir.join(format!("{}-{}.conf", self.name(), listen.port()));
        let config_path = config.display().to_string();
        let write = |text: String| {
            fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))
        };
        let ours = |name: &str| binaries.join(name).display().to_string();
        // Built when asked for, so it may be missing.
        let (from, to, size) = (listen.to_string(), origin.to_string(), body_bytes.to_string());
        let relay = |program: &str, arguments: &[&str]| {
            let path = ours(program);
            ensure!(
                Path::new(&path).exists(),
                "{program} is not built: bench/runtimes and bench/peers build what they are asked for"
            );
            let arguments = arguments.iter().map(|argument| (*argument).to_owned());
            Ok(std::iter::once(path).chain(arguments).collect())
        };
        let engine = |driver: &str| {
            let (binary, count) = (ours("engine"), cores.count().to_string());
            [&binary, "--cores", &count, "--driver", driver, "--config", &config_path]
                .map(str::to_owned)
                .into()
        };
        Ok(match self {
            Self::Null => relay("null_relay", &[&from, &to])?,
            Self::EngineEpoll | Self::EngineUring => {
                write(match traffic {
                    Traffic::PingPong | Traffic::Bulk => engine_tcp_config(listen, origin, free_addr()?),
                    Traffic::Sessions => engine_upstream_config(listen, origin, free_addr()?, ""),
                    _ => engine_config(listen, origin, free_addr()?, private),
                })?;
                engine(if self == Self::EngineEpoll { "epoll" } else { "uring" })
            }
            Self::LoggingEpoll | Self::LoggingUring => {
                let log = dir.join(format!("{}-{}.log", self.name(), listen.port()));
                write(engine_logging_config(listen, origin, free_addr()?, &log))?;
                engine(if self == Self::LoggingEpoll { "epoll" } else { "uring" })
            }
            Self::WatchfulEpoll | Self::WatchfulUring => {
                write(engine_upstream_config(listen, origin, free_addr()?, WATCHFUL))?;
                engine(if self == Self::WatchfulEpoll { "epoll" } else { "uring" })
            }
            Self::Nginx => {
                write(match traffic {
                    Traffic::PingPong | Traffic::Bulk => nginx_stream_config(dir, listen, origin),
                    _ => nginx_config(dir, listen, origin, connections, private),
                })?;
                ["nginx", "-e", "stderr", "-c", &config_path].map(str::to_owned).into()
            }
            Self::Haproxy => {
                write(match traffic {
                    Traffic::PingPong | Traffic::Bulk => haproxy_tcp_config(listen, origin),
                    _ => haproxy_config(listen, origin, connections, body_bytes, private),
                })?;
                ["haproxy", "-db", "-f", &config_path].map(str::to_owned).into()
            }
            Self::Pingora => relay("pingora_proxy", &[&from, &to])?,
            Self::RelayEpoll => relay("minimal_relay", &["epoll", &from, &to, &size])?,
            Self::RelayUring => relay("minimal_relay", &["uring", &from, &to, &size])?,
            Self::MonoioUring => relay("monoio_relay", &["uring", &from, &to, &size])?,
            Self::MonoioEpoll => relay("monoio_relay", &["epoll", &from, &to, &size])?,
            Self::Glommio => relay("glommio_relay", &[&from, &to, &size])?,
            Self::Tokio => relay("minimal_relay", &["tokio", &from, &to, &size])?,
        })
    }
}

/// Where contenders run.
pub(crate) struct Place<'a> {
    /// Directory of the programs that are not installed.
    pub(crate) binaries: &'a Path,
    /// Directory for configurations and logs.
    pub(crate) dir: &'a Path,
    /// The origin behind every contender.
    pub(crate) origin: SocketAddr,
    /// What goes over the connections.
    pub(crate) traffic: Traffic,
    /// Bytes in the body of its answers.
    pub(crate) body_bytes: usize,
    /// Connections that clients will open to each contender.
    pub(crate) connections: u32,
    /// What contenders show where clients come over TLS.
    pub(crate) private: Option<&'a PemFiles>,
}

/// A contender that answers.
pub(crate) struct Server {
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    /// Its process.
    pub(crate) child: Child,
}

impl Server {
    /// Starts `contender` on `cores` and waits for its first good answer.
    pub(crate) fn start(contender: Contender, cores: CoreList, place: &Place<'_>) -> anyhow::Result<Self> {
        let addr = free_addr()?;
        let command = contender.command(place, cores, addr)?;
        let mut child =
            Child::start(&format!("{}-{}", contender.name(), addr.port()), cores, place.dir, &command)?;
        child.wait_until_ready(|| place.traffic.check(addr, place.body_bytes))?;
        Ok(Self { addr, child })
    }
}
