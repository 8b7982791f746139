//! Which bytes ask for something, and what must come back?
//!
//! Built once, before the run; a request that could be read in two ways is never built.

use std::sync::Arc;

use proto::http1::head;

use crate::protocol::http::expected::{Expected, ExpectedBody};
use crate::protocol::http::ids::{ID_FIELD, RunId};
use crate::protocol::http::template::{self, Piece, Values};
use crate::target::{Field, Method};

/// A request as the user described it.
#[derive(Clone, Debug)]
pub(crate) struct Description {
    pub(crate) method: Method,
    /// Host and port for the Host field.
    pub(crate) authority: String,
    /// Path and query; may have placeholders.
    pub(crate) path: String,
    /// Their values may have placeholders.
    pub(crate) fields: Vec<Field>,
    pub(crate) body: Body,
    /// Whether its connection serves another request.
    pub(crate) keepalive: bool,
    pub(crate) expected: Expected,
}

/// A request's body.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    None,
    /// May have placeholders.
    Text(String),
    /// Sent as it is.
    Bytes(Arc<[u8]>),
}

/// A request ready to be sent.
#[derive(Debug)]
pub(crate) struct Request {
    form: Form,
    /// Decides whether answers have a body.
    pub(crate) method: head::Method,
    pub(crate) expected: Expected,
    /// Which of the named accounts it counts under.
    pub(crate) account: u16,
    /// Equal for requests whose answers' heads mean the same to the byte: of one method, with the same expected fields.
    pub(crate) kin: u32,
}

#[derive(Debug)]
enum Form {
    /// The same bytes every time.
    Fixed(Box<[u8]>),
    /// Put together every time.
    Template { head: Vec<Piece>, body: Vec<Piece> },
}

impl Request {
    /// Builds the request, with an id of `run` in it if there is one.
    ///
    /// # Errors
    /// A placeholder that is none, or an expectation that cannot be met.
    pub(crate) fn build(description: &Description, run: Option<RunId>) -> Result<Self, String> {
        let Description { method, authority, path, fields, expected, .. } = description;
        let has = |name: &str| fields.iter().any(|field| field.name.eq_ignore_ascii_case(name));
        if method.kind() == head::Method::Head && !matches!(expected.body, ExpectedBody::Any) {
            return Err("an answer to HEAD has no body to check".into());
        }
        if run.is_some() && has(ID_FIELD) {
            return Err(format!("{ID_FIELD} is written by --ids itself"));
        }
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !has("host") {
            head.push_str(&format!("Host: {authority}\r\n"));
        }
        for Field { name, value } in fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(run) = run {
            head.push_str(&format!("{ID_FIELD}: {run}-{{{{seq}}}}\r\n"));
        }
        if !description.keepalive {
            head.push_str("Connection: close\r\n");
        }
        let body = match &description.body {
            Body::None => Vec::new(),
            Body::Text(text) => template::parse(text)?,
            Body::Bytes(bytes) => vec![Piece::Text(bytes.as_ref().into())],
        };
        let states_length = !matches!(description.body, Body::None) || method.anticipates_body();
        Ok(Self {
            form: Form::of(template::parse(&head)?, states_length, body),
            method: method.kind(),
            expected: expected.clone(),
            account: 0,
            kin: 0,
        })
    }

    /// About the memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        match &self.form {
            Form::Fixed(bytes) => bytes.len(),
            Form::Template { head, body } => head.iter().chain(body).map(|piece| piece.text().len()).sum(),
        }
    }

    /// The bytes, when they are the same every time.
    pub(crate) fn fixed(&self) -> Option<&[u8]> {
        match &self.form {
            Form::Fixed(bytes) => Some(bytes),
            Form::Template { .. } => None,
        }
    }

    /// Appends the request to `out`. `scratch` is overwritten.
    pub(crate) fn render(&self, values: &mut Values<'_>, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
        match &self.form {
            Form::Fixed(bytes) => out.extend_from_slice(bytes),
            Form::Template { head, body } => match body.as_slice() {
                [] => template::render(head, values, out),
                [Piece::Text(text)] => {
                    values.body_bytes = text.len();
                    template::render(head, values, out);
                    out.extend_from_slice(text);
                }
                pieces => {
                    scratch.clear();
                    template::render(pieces, values, scratch);
                    values.body_bytes = scratch.len();
                    template::render(head, values, out);
                    out.extend_from_slice(scratch);
                }
            },
        }
    }
}

impl Form {
    fn of(mut head: Vec<Piece>, states_length: bool, body: Vec<Piece>) -> Self {
        if states_length {
            head.extend([Piece::Text((*b"Content-Length: ").into()), Piece::BodyBytes]);
            head.push(Piece::Text((*b"\r\n\r\n").into()));
        } else {
            head.push(Piece::Text((*b"\r\n").into()));
        }
        let is_fixed = head.iter().all(|piece| matches!(piece, Piece::Text(_) | Piece::BodyBytes))
            && template::is_fixed(&body);
        let form = Self::Template { head, body };
        if is_fixed { form.frozen() } else { form }
    }

    /// What is rendered without a number or dice is the same every time.
    fn frozen(self) -> Self {
        let Self::Template { head, body } = self else { return self };
        let mut bytes = Vec::new();
        let body: Vec<u8> = body.iter().flat_map(|piece| piece.text().to_vec()).collect();
        for piece in &head {
            match piece {
                Piece::BodyBytes => bytes.extend_from_slice(body.len().to_string().as_bytes()),
                piece => bytes.extend_from_slice(piece.text()),
            }
        }
        bytes.extend_from_slice(&body);
        Self::Fixed(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Dice;

    fn description(method: &str, path: &str, fields: &[&str], body: Body) -> Description {
        Description {
            method: method.parse().expect("a method"),
            authority: "h:81".into(),
            path: path.into(),
            fields: fields.iter().map(|field| field.parse().expect("a field")).collect(),
            body,
            keepalive: true,
            expected: Expected { statuses: [200].into(), fields: [].into(), body: ExpectedBody::Any },
        }
    }

    fn rendered(description: &Description, run: Option<RunId>, seq: u64) -> (bool, String) {
        let request = Request::build(description, run).expect("a request");
        let (mut scratch, mut out) = (b"old".to_vec(), Vec::new());
        let mut values = Values { seq, connection: 5, body_bytes: 0, dice: &mut Dice::new(1, 0) };
        request.render(&mut values, &mut scratch, &mut out);
        assert!(request.fixed().is_none_or(|fixed| fixed == out));
        (request.fixed().is_some(), String::from_utf8(out).expect("text"))
    }

    #[test]
    fn requests_say_what_was_asked_for() {
        let fixed = |description: &Description| match rendered(description, None, 0) {
            (true, text) => text,
            (false, text) => panic!("put together every time: {text}"),
        };
        assert_eq!(
            fixed(&description("GET", "/p", &[], Body::None)),
            "GET /p HTTP/1.1\r\nHost: h:81\r\n\r\n"
        );
        let post = description("POST", "/", &["Host: other", "A: b"], Body::Text("xyz".into()));
        assert_eq!(
            fixed(&Description { keepalive: false, ..post }),
            "POST / HTTP/1.1\r\nHost: other\r\nA: b\r\nConnection: close\r\nContent-Length: 3\r\n\r\nxyz"
        );
        assert_eq!(
            fixed(&description("PUT", "/", &[], Body::None)),
            "PUT / HTTP/1.1\r\nHost: h:81\r\nContent-Length: 0\r\n\r\n"
        );
        let verbatim = Body::Bytes((*b"{{seq}}").into());
        assert_eq!(
            fixed(&description("GET", "/", &[], verbatim)),
            "GET / HTTP/1.1\r\nHost: h:81\r\nContent-Length: 7\r\n\r\n{{seq}}"
        );
    }

    #[test]
    fn placeholders_count_and_lengths_stay_right() {
        let body = Body::Text("n={{seq}}".into());
        let described = description("POST", "/{{seq}}?c={{connection}}", &["A: {{seq}}"], body);
        for (seq, length) in [(9, 3), (10, 4)] {
            assert_eq!(
                rendered(&described, None, seq),
                (
                    false,
                    format!(
                        "POST /{seq}?c=5 HTTP/1.1\r\nHost: h:81\r\nA: {seq}\r\nContent-Length: {length}\r\n\r\nn={seq}"
                    )
                )
            );
        }
        let in_head = description("POST", "/{{seq}}", &[], Body::Text("xyz".into()));
        assert!(rendered(&in_head, None, 1).1.ends_with("Content-Length: 3\r\n\r\nxyz"));
    }

    #[test]
    fn an_id_is_a_field_of_its_own() {
        let described = description("GET", "/", &[], Body::None);
        let (_, text) = rendered(&described, Some(RunId(0xa)), 12);
        assert!(text.ends_with("\r\nX-Loadgen-Id: 000000000000000a-12\r\n\r\n"), "{text}");
        let own = description("GET", "/", &["x-loadgen-id: 1"], Body::None);
        assert!(Request::build(&own, Some(RunId(1))).is_err_and(|error| error.contains("--ids")));
        assert!(Request::build(&own, None).is_ok());
    }

    #[test]
    fn a_body_that_cannot_come_cannot_be_expected() {
        let mut described = description("HEAD", "/", &[], Body::None);
        described.expected.body = ExpectedBody::Same((*b"x").into());
        assert!(Request::build(&described, None).is_err_and(|error| error.contains("HEAD")));
    }
}
