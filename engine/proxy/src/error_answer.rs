//! What does the gateway say when it cannot do what was asked? A page of the operator's, or a line in the client's form.
//!
//! Never tells of the inside: status, reason and the request's own id, no address, no version, no cause. Everything here
//! is off the way of a request that succeeds.

use std::io::Write as _;

use arrayvec::ArrayVec;
use config::snapshot::{Channel, Listener};
use proto::http1::accept::{Form, field_values, preferred_form};
use proto::http1::answer::{ANSWER_BYTES_MAX, AnswerPlan, answer_head, has_body, reason_phrase};

/// A longer id is nobody's but a troublemaker's.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// Replaces `out` by a complete answer of `status` to the request whose head is `asked`: as it was received, as it was
/// rewritten, or empty where it could not be read.
pub(crate) fn compose(
    status: u16,
    asked: &[u8],
    listener: &Listener,
    channel: Option<&Channel>,
    plan: &AnswerPlan<'_>,
    out: &mut Vec<u8>,
) {
    let page = channel.and_then(|channel| channel.error_pages.find(status));
    let page = page.or_else(|| listener.error_pages.find(status));
    let mut text = Vec::new();
    let (content_type, body) = match page {
        Some(page) => (&*page.content_type, &*page.body),
        None => {
            let form = preferred_form(field_values(asked, "Accept"));
            write_text(form, status, &mut text);
            (form.content_type(), &*text)
        }
    };
    let mut head = ArrayVec::<u8, ANSWER_BYTES_MAX>::new();
    answer_head(status, content_type, body.len(), plan, &mut head)
        .expect("the configuration bounds the content type");
    out.clear();
    match field_values(asked, "X-Request-ID").next().filter(|id| id.len() <= REQUEST_ID_BYTES_MAX) {
        Some(id) => {
            let before_end = head.len() - b"\r\n".len();
            out.extend_from_slice(&head[..before_end]);
            out.extend([b"X-Request-ID: ", id, b"\r\n\r\n"].concat());
        }
        None => out.extend_from_slice(&head),
    }
    if has_body(status, plan) {
        out.extend_from_slice(body);
    }
}

/// Adds a field line to an answer, behind its status line.
pub(crate) fn add_line(line: &str, out: &mut Vec<u8>) {
    if let Some(end) = out.windows(2).position(|pair| pair == b"\r\n") {
        out.splice(end + 2..end + 2, line.bytes());
    }
}

fn write_text(form: Form, status: u16, text: &mut Vec<u8>) {
    let reason = reason_phrase(status);
    let written = match form {
        Form::Text => writeln!(text, "{reason}"),
        // RFC 9457 §4.2.1: without a type of its own, the title is the reason phrase. None of those needs escapes.
        Form::Json | Form::Problem => writeln!(text, r#"{{"title":"{reason}","status":{status}}}"#),
    };
    written.expect("memory takes what is written");
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: AnswerPlan<'static> =
        AnswerPlan { keep_alive: true, head_only: false, retry_after_seconds: None, date: None };

    #[track_caller]
    fn check(config: &str, status: u16, asked: &str, plan: &AnswerPlan<'_>, expected: &str) {
        let text = format!("[listener.web]\nbind = '127.0.0.1:1'\n[channel.a]\nrespond = {{}}\n{config}");
        let loaded = config::load_str("a.toml", &text, config::Format::Toml, &|_| None);
        let snapshot = loaded.unwrap_or_else(|problems| panic!("{problems}")).snapshot;
        let mut out = b"before".to_vec();
        let channel = Some(&snapshot.channels[0]);
        compose(status, asked.as_bytes(), &snapshot.listeners[0], channel, plan, &mut out);
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }

    #[test]
    fn a_client_is_told_in_the_form_it_prefers() {
        let start = "HTTP/1.1 502 Bad Gateway\r\nContent-Type:";
        let text = format!("{start} text/plain; charset=utf-8\r\nContent-Length: 12\r\n");
        check("", 502, "", &PLAN, &format!("{text}\r\nBad Gateway\n"));
        let asked = "GET / HTTP/1.1\r\naccept: application/json\r\nx-request-id: a1\r\n\r\n";
        let json =
            "Content-Length: 37\r\nX-Request-ID: a1\r\n\r\n{\"title\":\"Bad Gateway\",\"status\":502}\n";
        check("", 502, asked, &PLAN, &format!("{start} application/json\r\n{json}"));
        let asked = asked.replace("application/", "application/problem+");
        check("", 502, &asked, &PLAN, &format!("{start} application/problem+json\r\n{json}"));
        let id = format!("GET / HTTP/1.1\r\nX-Request-ID: {}\r\n\r\n", "a".repeat(REQUEST_ID_BYTES_MAX + 1));
        check("", 502, &id, &PLAN, &format!("{text}\r\nBad Gateway\n"));
        let head_only = AnswerPlan { head_only: true, ..PLAN };
        check("", 502, "", &head_only, &format!("{text}\r\n"));
    }

    #[test]
    fn pages_of_a_channel_come_before_those_of_its_listener() {
        let pages = "[listener.web.error_page]\n502.body = 'web'\n503.body = 'later'\n\
                     [channel.a.error_page]\n502 = { body = 'a', content_type = 'text/x' }";
        let asked = "GET / HTTP/1.1\r\nAccept: application/json\r\n\r\n";
        let head = |status: &str, kind: &str, length: usize| {
            format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n")
        };
        check(pages, 502, asked, &PLAN, &format!("{}a", head("502 Bad Gateway", "text/x", 1)));
        let html = "text/html; charset=utf-8";
        check(pages, 503, asked, &PLAN, &format!("{}later", head("503 Service Unavailable", html, 5)));
        let json = "{\"title\":\"Not Found\",\"status\":404}\n";
        let found = format!("{}{json}", head("404 Not Found", "application/json", json.len()));
        check(pages, 404, asked, &PLAN, &found);
    }
}
