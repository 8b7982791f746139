//! What does a plain reverse proxy look like on pingora? A contender of `bench/peers`.
//!
//! One worker thread that keeps its connections on both sides and adds `X-Forwarded-For`; no cache, no log, no module.
//!
//! Usage: `pingora_proxy LISTEN UPSTREAM`, both `ADDRESS:PORT`.

use std::net::SocketAddr;
use std::process::ExitCode;

use async_trait::async_trait;
use pingora_core::Result;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_http::RequestHeader;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

/// It allocates with every request: a fifth of its CPU time was the C library's `malloc`. The engine has the same.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Kept upstream connections, as for nginx.
const UPSTREAM_POOL: usize = 512;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, upstream] = arguments.as_slice() else {
        eprintln!("usage: pingora_proxy LISTEN UPSTREAM");
        return ExitCode::from(2);
    };
    let Ok(upstream) = upstream.parse::<SocketAddr>() else {
        eprintln!("pingora_proxy: bad address {upstream}");
        return ExitCode::FAILURE;
    };
    let configuration = ServerConf {
        threads: 1,
        // With one thread there is nobody to steal from: its cheaper executor.
        work_stealing: false,
        upstream_keepalive_pool_size: UPSTREAM_POOL,
        // It would wait for five minutes before it ends.
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, configuration);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Proxy { upstream });
    service.add_tcp(listen);
    server.add_service(service);
    server.run_forever()
}

struct Proxy {
    upstream: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _session: &mut Session, _context: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        _context: &mut (),
    ) -> Result<()> {
        if let Some(address) = session.client_addr().and_then(|address| address.as_inet()) {
            request.append_header("X-Forwarded-For", address.ip().to_string())?;
        }
        Ok(())
    }
}
