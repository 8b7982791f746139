//! What does the gateway itself answer when it does not forward?
//!
//! Builds short, complete answers; never says more than status and reason, so nothing of the inside gets out.

use arrayvec::ArrayVec;

/// Room for any head of [`answer_head`] and any answer of [`error_answer`], in bytes.
pub const ANSWER_BYTES_MAX: usize = 512;

/// Longest `Content-Type` of a configured answer, in bytes.
pub const CONTENT_TYPE_BYTES_MAX: usize = 256;

/// What an answer depends on besides its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerPlan<'a> {
    /// An HTTP/1.1 connection serves another request; else the answer says `Connection: close`.
    pub keep_alive: bool,
    /// The request was HEAD: the fields of the answer without its body (RFC 9110 §9.3.2).
    pub head_only: bool,
    /// Seconds after which to try again, RFC 9110 §10.2.3.
    pub retry_after_seconds: Option<u32>,
    /// The time as an IMF-fixdate (RFC 9110 §5.6.7); who has a clock says it in every answer, RFC 9110 §6.6.1.
    pub date: Option<&'a str>,
}

/// A `Content-Type` is longer than [`CONTENT_TYPE_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the content type is longer than {CONTENT_TYPE_BYTES_MAX} bytes")]
pub struct ContentTypeTooLong;

/// Replaces `out` by a complete HTTP/1.1 answer of `status` whose text is the reason phrase.
pub fn error_answer(status: u16, plan: &AnswerPlan<'_>, out: &mut ArrayVec<u8, ANSWER_BYTES_MAX>) {
    let reason = reason_phrase(status);
    head(status, "text/plain; charset=utf-8", reason.len() + 1, plan, out);
    if has_body(status, plan) {
        put(out, reason);
        put(out, "\n");
    }
}

/// Replaces `out` by the head of an HTTP/1.1 answer whose body of `body_bytes` the caller sends, unless
/// [`has_body`] says that there is none.
///
/// # Errors
/// [`ContentTypeTooLong`], which only a configuration can cause.
pub fn answer_head(
    status: u16,
    content_type: &str,
    body_bytes: usize,
    plan: &AnswerPlan<'_>,
    out: &mut ArrayVec<u8, ANSWER_BYTES_MAX>,
) -> Result<(), ContentTypeTooLong> {
    if content_type.len() > CONTENT_TYPE_BYTES_MAX {
        return Err(ContentTypeTooLong);
    }
    head(status, content_type, body_bytes, plan, out);
    Ok(())
}

/// Whether a body follows the head of such an answer, RFC 9112 §6.3.
#[must_use]
pub fn has_body(status: u16, plan: &AnswerPlan<'_>) -> bool {
    !plan.head_only && has_content(status)
}

/// RFC 9110 §8.6: 204 has no length; 304 need not repeat that of the representation.
fn has_content(status: u16) -> bool {
    !matches!(status, 100..=199 | 204 | 304)
}

fn head(
    status: u16,
    content_type: &str,
    body_bytes: usize,
    plan: &AnswerPlan<'_>,
    out: &mut ArrayVec<u8, ANSWER_BYTES_MAX>,
) {
    let mut number = itoa::Buffer::new();
    out.clear();
    put(out, "HTTP/1.1 ");
    put(out, number.format(status));
    put(out, " ");
    put(out, reason_phrase(status));
    if has_content(status) {
        put(out, "\r\nContent-Type: ");
        put(out, content_type);
        put(out, "\r\nContent-Length: ");
        put(out, number.format(body_bytes));
    }
    if let Some(date) = plan.date {
        put(out, "\r\nDate: ");
        put(out, date);
    }
    if let Some(seconds) = plan.retry_after_seconds {
        put(out, "\r\nRetry-After: ");
        put(out, number.format(seconds));
    }
    if !plan.keep_alive {
        put(out, "\r\nConnection: close");
    }
    put(out, "\r\n\r\n");
}

/// The interim answer that lets a client send its body, RFC 9110 §15.2.1.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// # Panics
/// Never: besides the content type, whose length is checked, an answer stays below half of the room.
fn put(out: &mut ArrayVec<u8, ANSWER_BYTES_MAX>, text: &str) {
    out.try_extend_from_slice(text.as_bytes()).expect("ANSWER_BYTES_MAX covers every answer");
}

/// The reason phrase of a registered status (RFC 9110 §15, RFC 6585), else the name of its class.
#[must_use]
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        511 => "Network Authentication Required",
        _ => class_phrase(status),
    }
}

/// RFC 9110 §15: an unknown status is understood by its first digit.
fn class_phrase(status: u16) -> &'static str {
    match status / 100 {
        1 => "Informational",
        2 => "Success",
        3 => "Redirection",
        4 => "Client Error",
        _ => "Server Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::framing::{ResponseFraming, decide_response_framing};
    use crate::http1::head::{Limits, Method, Parsed, ResponseHead, parse_response};

    const KEEP: AnswerPlan<'static> =
        AnswerPlan { keep_alive: true, head_only: false, retry_after_seconds: None, date: None };
    const LONGEST: AnswerPlan<'static> = AnswerPlan {
        keep_alive: false,
        head_only: false,
        retry_after_seconds: Some(u32::MAX),
        date: Some("Sun, 06 Nov 1994 08:49:37 GMT"),
    };

    #[track_caller]
    fn check(status: u16, plan: &AnswerPlan<'_>, expected: &str) {
        let mut out = ArrayVec::new();
        error_answer(status, plan, &mut out);
        assert_eq!(std::str::from_utf8(&out).unwrap(), expected);
    }

    #[test]
    fn answers_are_short_and_complete() {
        let start = "Content-Type: text/plain; charset=utf-8\r\nContent-Length:";
        check(404, &KEEP, &format!("HTTP/1.1 404 Not Found\r\n{start} 10\r\n\r\nNot Found\n"));
        let close = AnswerPlan { keep_alive: false, ..KEEP };
        check(
            400,
            &close,
            &format!("HTTP/1.1 400 Bad Request\r\n{start} 12\r\nConnection: close\r\n\r\nBad Request\n"),
        );
        let head = AnswerPlan { head_only: true, ..KEEP };
        check(502, &head, &format!("HTTP/1.1 502 Bad Gateway\r\n{start} 12\r\n\r\n"));
        let dated = AnswerPlan { date: LONGEST.date, ..head };
        check(
            502,
            &dated,
            &format!("HTTP/1.1 502 Bad Gateway\r\n{start} 12\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"),
        );
        let later = AnswerPlan { retry_after_seconds: Some(5), ..close };
        check(
            503,
            &later,
            &format!(
                "HTTP/1.1 503 Service Unavailable\r\n{start} 20\r\nRetry-After: 5\r\nConnection: close\r\n\r\nService Unavailable\n"
            ),
        );
    }

    #[test]
    fn every_answer_is_a_response_we_would_accept() {
        let limits = Limits { head_bytes_max: 4096, fields_max: 100, target_bytes_max: 0, is_secured: false };
        let (mut out, mut head) = (ArrayVec::new(), ResponseHead::new());
        for status in 200..=599 {
            error_answer(status, &LONGEST, &mut out);
            assert_eq!(has_body(status, &LONGEST), out.ends_with(b"\n") && !out.ends_with(b"\r\n"));
            assert_eq!(parse_response(&out, 0, &limits, &mut head), Ok(Parsed::Complete), "{status}");
            assert_eq!((head.status, head.connection.close), (status, true));
            if !matches!(status, 204 | 304) {
                let body_bytes = out.len() as u64 - u64::from(head.head_bytes);
                assert_eq!(decide_response_framing(&head, Method::Get), ResponseFraming::Length(body_bytes));
            }
        }
    }

    #[test]
    fn a_configured_answer_has_its_own_type_and_length() {
        let mut out = ArrayVec::new();
        answer_head(200, "a/b", 70_000, &KEEP, &mut out).unwrap();
        assert_eq!(&out[..], b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 70000\r\n\r\n");
        answer_head(204, "a/b", 0, &KEEP, &mut out).unwrap();
        assert_eq!(&out[..], b"HTTP/1.1 204 No Content\r\n\r\n");
        let longest = "a".repeat(CONTENT_TYPE_BYTES_MAX);
        assert_eq!(answer_head(511, &longest, usize::MAX, &LONGEST, &mut out), Ok(()));
        assert_eq!(answer_head(200, &format!("{longest}a"), 1, &KEEP, &mut out), Err(ContentTypeTooLong));
    }
}
