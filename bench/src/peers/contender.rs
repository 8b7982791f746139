//! Who is measured, and how is each one set up?
//!
//! Every contender gets the settings its own community would give it for the same work: a reverse proxy that adds
//! `X-Forwarded-For`. The engine has its statistics and histograms on all the same, and matches a regular expression.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use bench::process::{Child, CoreList, free_addr};

/// Something that passes HTTP requests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Contender {
    /// Our relay that parses nothing.
    Null,
    /// Our gateway, `--driver epoll`.
    EngineEpoll,
    /// Our gateway, `--driver uring`.
    EngineUring,
    /// nginx as packaged by Debian.
    Nginx,
    /// HAProxy as packaged by Debian.
    Haproxy,
}

/// Connections beside those of the clients: to the origin, and to see whether all is well.
const CONNECTIONS_SPARE: u32 = 500;

/// The peers that our gateway is compared with.
pub(crate) const PEERS: [Contender; 2] = [Contender::Nginx, Contender::Haproxy];

/// The two drivers of our gateway.
pub(crate) const ENGINES: [Contender; 2] = [Contender::EngineEpoll, Contender::EngineUring];

impl Contender {
    /// As given to `--candidate` and `--against`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::EngineEpoll => "engine-epoll",
            Self::EngineUring => "engine-uring",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }

    /// One line for `--list`.
    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::Null => "relays bytes, parses nothing: the floor",
            Self::EngineEpoll => "engine --cores 1 --driver epoll",
            Self::EngineUring => "engine --cores 1 --driver uring",
            Self::Nginx => "nginx, one worker",
            Self::Haproxy => "HAProxy, one thread",
        }
    }

    /// Writes the configuration that passes `listen` on to the origin; returns the command to run.
    fn command(self, place: &Place<'_>, cores: CoreList, listen: SocketAddr) -> anyhow::Result<Vec<String>> {
        let Place { binaries, dir, origin, connections, .. } = *place;
        let config = dir.join(format!("{}-{}.conf", self.name(), listen.port()));
        let config_path = config.display().to_string();
        let write = |text: String| {
            fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))
        };
        let ours = |name: &str| binaries.join(name).display().to_string();
        let engine = |driver: &str| {
            let (binary, count) = (ours("engine"), cores.count().to_string());
            [&binary, "--cores", &count, "--driver", driver, "--config", &config_path]
                .map(str::to_owned)
                .into()
        };
        Ok(match self {
            Self::Null => vec![ours("null_relay"), listen.to_string(), origin.to_string()],
            Self::EngineEpoll => {
                write(engine_config(listen, origin, free_addr()?))?;
                engine("epoll")
            }
            Self::EngineUring => {
                write(engine_config(listen, origin, free_addr()?))?;
                engine("uring")
            }
            Self::Nginx => {
                write(nginx_config(dir, listen, origin, connections))?;
                ["nginx", "-e", "stderr", "-c", &config_path].map(str::to_owned).into()
            }
            Self::Haproxy => {
                write(haproxy_config(listen, origin, connections))?;
                ["haproxy", "-db", "-f", &config_path].map(str::to_owned).into()
            }
        })
    }
}

/// Where contenders run.
pub(crate) struct Place<'a> {
    /// Directory of `engine`, `loadgen` and `null_relay`.
    pub(crate) binaries: &'a Path,
    /// Directory for configurations and logs.
    pub(crate) dir: &'a Path,
    /// The origin behind every contender.
    pub(crate) origin: SocketAddr,
    /// Bytes in the body of its answers.
    pub(crate) body_bytes: usize,
    /// Connections that clients will open to each contender.
    pub(crate) connections: u32,
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
        child.wait_until_answering(addr, place.body_bytes)?;
        Ok(Self { addr, child })
    }
}

/// One channel by regular expression; statistics need no switch.
fn engine_config(listen: SocketAddr, origin: SocketAddr, admin: SocketAddr) -> String {
    format!(
        r#"[listener.web]
bind = "{listen}"
protocol = "http"
forwarding = {{ x_forwarded_proto = false, x_forwarded_host = false, via = false, request_id = false }}

[channel.all]
match = {{ path = "^/" }}
upstream = "origin"

[upstream.origin]
endpoints = ["{origin}"]

[admin]
bind = "{admin}"
"#
    )
}

/// The kept connections must outlast the run: nginx would otherwise close each after 1,000 requests.
fn nginx_config(dir: &Path, listen: SocketAddr, origin: SocketAddr, connections: u32) -> String {
    let dir = dir.display();
    // It closes idle connections as soon as less than a sixteenth is free.
    let connections_max = (connections + connections / 8 + CONNECTIONS_SPARE).max(8192);
    let port = listen.port();
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    format!(
        r"{user}
daemon off;
worker_processes 1;
pid {dir}/nginx-{port}.pid;
events {{
    worker_connections {connections_max};
    multi_accept on;
}}
http {{
    access_log off;
    client_body_temp_path {dir}/nginx-body;
    proxy_temp_path {dir}/nginx-proxy;
    fastcgi_temp_path {dir}/nginx-fastcgi;
    uwsgi_temp_path {dir}/nginx-uwsgi;
    scgi_temp_path {dir}/nginx-scgi;
    keepalive_requests 1000000000;
    keepalive_timeout 300s;
    upstream origin {{
        server {origin};
        keepalive 512;
        keepalive_requests 1000000000;
        keepalive_timeout 300s;
    }}
    server {{
        listen {listen} reuseport backlog=1024;
        location / {{
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Connection '';
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_buffer_size 16k;
            proxy_buffers 8 64k;
            proxy_busy_buffers_size 128k;
            proxy_max_temp_file_size 0;
        }}
    }}
}}
"
    )
}

/// Its `strict-limits` would ask for descriptors for as many connections again on the other side, which idle ones do
/// not have.
fn haproxy_config(listen: SocketAddr, origin: SocketAddr, connections: u32) -> String {
    let connections_max = (connections + CONNECTIONS_SPARE).max(5000);
    format!(
        r"global
    nbthread 1
    no strict-limits
    maxconn {connections_max}
    tune.bufsize 16384
defaults
    mode http
    timeout connect 5s
    timeout client 300s
    timeout server 300s
    option forwardfor
    http-reuse always
frontend web
    bind {listen} backlog 1024
    default_backend origin
backend origin
    server origin {origin} pool-max-conn -1 maxconn 5000
"
    )
}
