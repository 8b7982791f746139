//! How is a running process asked? Over HTTP at its admin address.
//!
//! Never through a proxy, and never for longer than [`TIMEOUT`] unless the process is known to take its time.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// A process that is alive answers in milliseconds.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Longest answer that is read; thousands of channels fit in.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Who asks: `CORELANE_USER`, with his password in the file that `CORELANE_PASSWORD_FILE` names. Not in arguments, which every user of
/// the machine can read.
fn credentials() -> Option<String> {
    let user = std::env::var("CORELANE_USER").ok()?;
    let file = std::env::var("CORELANE_PASSWORD_FILE").ok()?;
    match std::fs::read_to_string(&file) {
        Ok(password) => {
            let password = password.trim_end_matches(['\r', '\n']);
            Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
        }
        Err(error) => {
            tracing::warn!("asking without a name: the password cannot be read from {file:?}: {error}");
            None
        }
    }
}

/// The admin listener of a process.
pub(crate) struct AdminClient {
    agent: ureq::Agent,
    url: String,
    /// Who asks, for `Authorization`, where somebody has said so.
    credentials: Option<String>,
}

impl AdminClient {
    /// For a URL such as `http://127.0.0.1:9000`, or just its address.
    pub(crate) fn new(url: &str) -> Self {
        Self::patient(url, TIMEOUT)
    }

    /// The same, for what takes a process longer to answer.
    pub(crate) fn patient(url: &str, timeout: Duration) -> Self {
        let url = url.trim_end_matches('/');
        let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            // Admin is next door: HTTP_PROXY does not concern it.
            .proxy(None)
            .build();
        Self { agent: config.into(), url, credentials: credentials() }
    }

    /// The JSON under `path`.
    pub(crate) fn json(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Value> {
        let text = self.text(path, query)?;
        serde_json::from_str(&text).with_context(|| format!("{}{path} did not answer in JSON", self.url))
    }

    /// Asks for a change, and gives the answer in JSON.
    pub(crate) fn send(&self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let (status, answer) = self.exchange(method, path, body)?;
        if !(200..300).contains(&status) {
            bail!("{}{}", refusal(&answer), who_asks(status));
        }
        Ok(answer)
    }

    /// The status and the answer in JSON, whichever they are.
    pub(crate) fn exchange(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(u16, Value)> {
        let url = format!("{}{path}", self.url);
        let text = body.map(Value::to_string).unwrap_or_default();
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(&url)
            .header("Content-Type", "application/json");
        let request = match &self.credentials {
            Some(credentials) => request.header("Authorization", credentials),
            None => request,
        };
        let request = request.body(text).context("a request cannot be made of this")?;
        let response = self.agent.run(request).map_err(|error| self.no_answer(error))?;
        let (status, body) = self.body(response, path)?;
        if status == ureq::http::StatusCode::NO_CONTENT {
            return Ok((status.as_u16(), Value::Null));
        }
        let answer: Value =
            serde_json::from_str(&body).with_context(|| format!("{url} did not answer in JSON"))?;
        Ok((status.as_u16(), answer))
    }

    fn text(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<String> {
        let request = self.agent.get(format!("{}{path}", self.url)).query_pairs(query.iter().copied());
        let request = match &self.credentials {
            Some(credentials) => request.header("Authorization", credentials),
            None => request,
        };
        let response = request.call().map_err(|error| self.no_answer(error))?;
        let (status, body) = self.body(response, path)?;
        if !status.is_success() {
            match serde_json::from_str::<Value>(&body) {
                Ok(answer) if answer["error"].is_string() => {
                    bail!("{}{}", refusal(&answer), who_asks(status.as_u16()))
                }
                _ => bail!("{}{path} answered {status}: {}", self.url, body.trim_end()),
            }
        }
        Ok(body)
    }

    fn body(
        &self,
        mut response: ureq::http::Response<ureq::Body>,
        path: &str,
    ) -> anyhow::Result<(ureq::http::StatusCode, String)> {
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
        let body = body.with_context(|| format!("the answer of {}{path} broke off", self.url))?;
        Ok((response.status(), body))
    }

    fn no_answer(&self, error: ureq::Error) -> anyhow::Error {
        let cause = match error {
            ureq::Error::Io(error) => error.to_string(),
            error => error.to_string(),
        };
        anyhow!(
            "no engine answers at {}: {cause}; is it running, and is its admin address another (--admin)?",
            self.url
        )
    }
}

/// What the engine says of something that it does not do: where, what, what to do.
pub(crate) fn refusal(answer: &Value) -> String {
    let part = |key: &str| answer[key].as_str();
    let at = part("at").map(|at| format!("{at}: ")).unwrap_or_default();
    let help = part("help").map(|help| format!(" ({help})")).unwrap_or_default();
    let problems = answer["problems"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let problems: String = problems.map(|problem| format!("\n  {problem}")).collect();
    format!("{at}{}{help}{problems}", part("error").unwrap_or("refused"))
}

/// What commands send in place of a log-in.
fn who_asks(status: u16) -> &'static str {
    const UNAUTHORIZED: u16 = 401;
    match status {
        UNAUTHORIZED => "; CORELANE_USER and CORELANE_PASSWORD_FILE say who asks",
        _ => "",
    }
}

/// A piece of a path, with everything written as `%XX` that would mean something else there (RFC 3986 §2.1).
pub(crate) fn segment(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'@' => {
                out.push(byte.into());
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_piece_of_a_path() {
        assert_eq!(segment("10.0.0.1:8000"), "10.0.0.1:8000");
        assert_eq!(segment("[::1]:80"), "%5B::1%5D:80");
        assert_eq!(segment("unix:/run/app.sock"), "unix:%2Frun%2Fapp.sock");
    }

    #[test]
    fn a_refusal_says_where_what_and_what_to_do() {
        let answer = serde_json::json!({ "error": "is missing", "at": "address", "help": "for example x" });
        assert_eq!(refusal(&answer), "address: is missing (for example x)");
        assert_eq!(refusal(&serde_json::json!({ "error": "draining" })), "draining");
        let several = serde_json::json!({ "error": "is wrong", "problems": ["a", "b"] });
        assert_eq!(refusal(&several), "is wrong\n  a\n  b");
    }
}
