//! May this request change something? Not when a page of another site made somebody's browser send it.
//!
//! Never asks who sends it: the listener has no passwords yet, and is for this host alone.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Refusal;

/// Where a page is from that a browser sends a request for (Fetch Metadata).
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Lets reads pass, and changes that no page of another site can have made.
pub(super) async fn guard(request: Request, next: Next) -> Response {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    match refused(request.headers()) {
        Some(cause) if !is_read => refusal(cause).into_response(),
        _ => next.run(request).await,
    }
}

fn refusal(cause: &'static str) -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, cause)
        .help("send it by a program such as `engine upstream` or curl, or from a page of this address")
}

/// Why a change is refused. Programs send neither of the two fields; browsers send at least one of them.
fn refused(headers: &HeaderMap) -> Option<&'static str> {
    let site = headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes);
    let origin = headers.get(header::ORIGIN).map(HeaderValue::as_bytes);
    if site.is_none() && origin.is_none() {
        return None;
    }
    if !matches!(site, None | Some(b"same-origin" | b"none")) {
        return Some("a page of another site may not change anything here (Sec-Fetch-Site)");
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    // A name can be made to stand for this address by whoever owns it, and its pages would be of this site then.
    if !is_address(host) {
        return Some("a browser has to ask for this listener by its address or as localhost (Host)");
    }
    let own = format!("http://{host}");
    match origin {
        Some(origin) if !origin.eq_ignore_ascii_case(own.as_bytes()) => {
            Some("a page of another site may not change anything here (Origin)")
        }
        _ => None,
    }
}

/// Whether `host[:port]` is an IP address or `localhost`.
fn is_address(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok()
}

/// Whether a body says that it is JSON. A form of another site cannot say so without asking first (CORS).
pub(super) fn is_json<B>(request: &axum::http::Request<B>) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let essence = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
    essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn a_program_may_change_things_and_a_page_of_another_site_may_not() {
        let check = |fields: &[(&'static str, &'static str)], is_allowed: bool| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            assert_eq!(refused(&headers).is_none(), is_allowed, "{fields:?}: {:?}", refused(&headers));
        };
        let own = ("host", "127.0.0.1:9000");
        check(&[], true);
        check(&[("host", "admin.example")], true);
        check(&[own, ("sec-fetch-site", "same-origin")], true);
        check(&[own, ("sec-fetch-site", "none")], true);
        check(&[own, ("origin", "http://127.0.0.1:9000")], true);
        check(&[("host", "[::1]:9000"), ("origin", "http://[::1]:9000")], true);
        check(&[("host", "localhost"), ("origin", "http://localhost")], true);
        check(&[own, ("sec-fetch-site", "cross-site")], false);
        check(&[own, ("sec-fetch-site", "same-site")], false);
        check(&[own, ("origin", "http://evil.example")], false);
        check(&[own, ("origin", "http://127.0.0.1:8080")], false);
        check(&[own, ("origin", "null")], false);
        // A name of somebody else's that was made to stand for this address.
        let rebound = ("host", "evil.example:9000");
        check(&[rebound, ("origin", "http://evil.example:9000"), ("sec-fetch-site", "same-origin")], false);
        check(&[("origin", "http://127.0.0.1:9000")], false);
    }

    #[test]
    fn json_is_what_says_so() {
        let check = |kind: &'static str, expected: bool| {
            let request = axum::http::Request::builder().header("content-type", kind).body(Body::empty());
            assert_eq!(is_json(&request.expect("a request")), expected, "{kind}");
        };
        check("application/json", true);
        check("Application/JSON; charset=utf-8", true);
        check("text/plain", false);
        check("application/x-www-form-urlencoded", false);
    }
}
