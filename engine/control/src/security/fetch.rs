//! What stands at this address? A set of keys, asked for over HTTP or HTTPS.
//!
//! Never without a deadline and a bound, and never follows where the answer sends it: whoever could send it elsewhere could send keys.

use std::sync::Arc;
use std::time::Duration;

use auth::token::jwks::JWKS_BYTES_MAX;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, Uri, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// From asking for its address to the last byte of the answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What is at `url`.
///
/// # Errors
/// Why it could not be had, in words for the operator.
pub(super) async fn fetch(url: &str) -> Result<Vec<u8>, String> {
    let asked = tokio::time::timeout(TIMEOUT, ask(url)).await;
    asked.unwrap_or_else(|_| Err(format!("no answer within {TIMEOUT:?}")))
}

async fn ask(url: &str) -> Result<Vec<u8>, String> {
    let uri: Uri = url.parse().map_err(|error| format!("no address: {error}"))?;
    let host = uri.host().ok_or("an address without a host")?.to_owned();
    let is_private = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_private { 443 } else { 80 });
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((bare, port)).await.map_err(|error| error.to_string())?;
    if !is_private {
        return exchange(stream, &uri).await;
    }
    let name = ServerName::try_from(bare.to_owned()).map_err(|error| error.to_string())?;
    let connector = TlsConnector::from(Arc::new(client_config()?));
    let stream = connector.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
    exchange(stream, &uri).await
}

/// Whom this host trusts.
fn client_config() -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = versions.map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    uri: &Uri,
) -> Result<Vec<u8>, String> {
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // It ends with the sender, at the latest with the deadline above.
    let driving = tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let request = Request::get(path)
        .header(header::HOST, authority)
        .header(header::ACCEPT, "application/jwk-set+json, application/json")
        .body(Body::empty())
        .map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(|error| error.to_string());
    let read = match answer {
        Ok(answer) if answer.status() == StatusCode::OK => {
            let body = to_bytes(Body::new(answer.into_body()), JWKS_BYTES_MAX).await;
            body.map(|bytes| bytes.to_vec()).map_err(|error| error.to_string())
        }
        Ok(answer) => Err(format!("it answers {}", answer.status())),
        Err(error) => Err(error),
    };
    driving.abort();
    read
}
