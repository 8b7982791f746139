//! What does each contender read as its configuration?
//!
//! Every one gets the settings its own community would give it for the same work; what they are and why is told in
//! docs/benchmarking.md. Nothing here starts anything.

use std::net::SocketAddr;
use std::path::Path;

use bench::client::ENDPOINTS;

use crate::certificate::{PemFiles, SUITE};

/// Connections beside those of the clients: to the origin, and to see whether all is well.
const CONNECTIONS_SPARE: u32 = 500;

/// Bodies from here on are worth splicing.
const LARGE_BODY_BYTES: usize = 256 * 1024;

/// Where Debian keeps what makes nginx pass on bytes; built in elsewhere.
const NGINX_STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// One channel by regular expression; statistics need no switch.
pub(crate) fn engine_config(
    listen: SocketAddr,
    origin: SocketAddr,
    admin: SocketAddr,
    private: Option<&PemFiles>,
) -> String {
    let (protocol, tls) = match private {
        None => ("http", String::new()),
        Some(PemFiles { certificate, key, .. }) => {
            let files = format!("{{ certificate = {certificate:?}, key = {key:?} }}");
            ("https", format!("[listener.web.tls]\ncertificates = [{files}]\n"))
        }
    };
    format!(
        r#"[listener.web]
bind = "{listen}"
protocol = "{protocol}"
forwarding = {{ x_forwarded_proto = false, x_forwarded_host = false, via = false, request_id = false }}
{tls}
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

/// The same as without private connections, and each request is a line in `log`, in the default format (`combined`).
pub(crate) fn engine_logging_config(
    listen: SocketAddr,
    origin: SocketAddr,
    admin: SocketAddr,
    log: &Path,
) -> String {
    let to = format!("file:{}", log.display());
    let plain = engine_config(listen, origin, admin, None);
    let named = plain.replacen("[listener.web]\n", "[listener.web]\naccess_log = \"all\"\n", 1);
    format!("{named}\n[access_log.all]\nto = {to:?}\n")
}

/// What a watchful upstream has.
pub(crate) const WATCHFUL: &str = r#"balance = "least_time"
health = { protocol = "http", path = "/", interval = "1s" }
sticky = { cookie = "corelane", secret = "0123456789abcdef0123456789abcdef" }
"#;

/// Several endpoints, which are one origin at several addresses of loopback; `keys` are more of the upstream's.
pub(crate) fn engine_upstream_config(
    listen: SocketAddr,
    origin: SocketAddr,
    admin: SocketAddr,
    keys: &str,
) -> String {
    let endpoints: Vec<String> =
        (1..=ENDPOINTS).map(|host| format!("\"127.0.0.{host}:{}\"", origin.port())).collect();
    format!(
        r#"[listener.web]
bind = "{listen}"
forwarding = {{ x_forwarded_proto = false, x_forwarded_host = false, via = false, request_id = false }}

[channel.all]
match = {{ path = "^/" }}
upstream = "origin"

[upstream.origin]
endpoints = [{}]
{keys}
[admin]
bind = "{admin}"
"#,
        endpoints.join(", ")
    )
}

/// Bytes passed on, as they are.
pub(crate) fn engine_tcp_config(listen: SocketAddr, origin: SocketAddr, admin: SocketAddr) -> String {
    format!(
        r#"[listener.bytes]
bind = "{listen}"
protocol = "tcp"
upstream = "origin"

[upstream.origin]
endpoints = ["{origin}"]

[admin]
bind = "{admin}"
"#
    )
}

/// The kept connections must outlast the run: nginx would otherwise close each after 1,000 requests.
pub(crate) fn nginx_config(
    dir: &Path,
    listen: SocketAddr,
    origin: SocketAddr,
    connections: u32,
    private: Option<&PemFiles>,
) -> String {
    let (ssl, certificate) = match private {
        None => ("", String::new()),
        Some(PemFiles { certificate, key, .. }) => {
            let (certificate, key) = (certificate.display(), key.display());
            let lines = format!(
                "ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.3; ssl_ecdh_curve X25519; \
                 ssl_conf_command Ciphersuites {SUITE}; ssl_session_cache off; ssl_session_tickets on;"
            );
            (" ssl", lines)
        }
    };
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
        listen {listen}{ssl} reuseport backlog=1024;
        {certificate}
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
/// not have. Large bodies are spliced, as bytes are.
pub(crate) fn haproxy_config(
    listen: SocketAddr,
    origin: SocketAddr,
    connections: u32,
    body_bytes: usize,
    private: Option<&PemFiles>,
) -> String {
    let ssl = private.map_or(String::new(), |files| {
        let both = files.both.display();
        format!(" ssl crt {both} ssl-min-ver TLSv1.3 ciphersuites {SUITE} curves X25519")
    });
    let connections_max = (connections + CONNECTIONS_SPARE).max(5000);
    let (pipes, splice) = if body_bytes >= LARGE_BODY_BYTES {
        ("tune.pipesize 1048576", "option splice-request\n    option splice-response")
    } else {
        ("", "")
    };
    format!(
        r"global
    nbthread 1
    no strict-limits
    maxconn {connections_max}
    tune.bufsize 16384
    {pipes}
defaults
    mode http
    {splice}
    timeout connect 5s
    timeout client 300s
    timeout server 300s
    option forwardfor
    http-reuse always
frontend web
    bind {listen} backlog 1024{ssl}
    default_backend origin
backend origin
    server origin {origin} pool-max-conn -1 maxconn 5000
"
    )
}

/// Bytes passed on: a connection to the origin for each connection of a client.
pub(crate) fn nginx_stream_config(dir: &Path, listen: SocketAddr, origin: SocketAddr) -> String {
    let (dir, port) = (dir.display(), listen.port());
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let is_apart = Path::new(NGINX_STREAM_MODULE).exists();
    let module = if is_apart { format!("load_module {NGINX_STREAM_MODULE};") } else { String::new() };
    format!(
        r"{module}
{user}
daemon off;
worker_processes 1;
pid {dir}/nginx-{port}.pid;
events {{
    worker_connections 8192;
    multi_accept on;
}}
stream {{
    server {{
        listen {listen} reuseport backlog=1024;
        proxy_pass {origin};
        proxy_buffer_size 64k;
        proxy_timeout 300s;
        tcp_nodelay on;
    }}
}}
"
    )
}

/// `splice-auto` is left out: Debian's HAProxy never splices under it, and always under these.
pub(crate) fn haproxy_tcp_config(listen: SocketAddr, origin: SocketAddr) -> String {
    format!(
        r"global
    nbthread 1
    no strict-limits
    maxconn 5000
    tune.bufsize 16384
    tune.pipesize 1048576
defaults
    mode tcp
    timeout connect 5s
    timeout client 300s
    timeout server 300s
    option splice-request
    option splice-response
frontend tcp
    bind {listen} backlog 1024
    default_backend origin
backend origin
    server origin {origin} maxconn 5000
"
    )
}
