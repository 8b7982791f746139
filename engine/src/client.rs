//! How is a running process asked? Over HTTP at its admin address.
//!
//! Never through a proxy, and never for longer than [`TIMEOUT`].

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use serde_json::Value;

/// A process that is alive answers in milliseconds.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Longest answer that is read; thousands of channels fit in.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The admin listener of a process.
pub(crate) struct AdminClient {
    agent: ureq::Agent,
    url: String,
}

impl AdminClient {
    /// For a URL such as `http://127.0.0.1:9000`, or just its address.
    pub(crate) fn new(url: &str) -> Self {
        let url = url.trim_end_matches('/');
        let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            // Admin is next door: HTTP_PROXY does not concern it.
            .proxy(None)
            .build();
        Self { agent: config.into(), url }
    }

    /// The JSON under `path`.
    pub(crate) fn json(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Value> {
        let text = self.text(path, query)?;
        serde_json::from_str(&text).with_context(|| format!("{}{path} did not answer in JSON", self.url))
    }

    fn text(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<String> {
        let request = self.agent.get(format!("{}{path}", self.url)).query_pairs(query.iter().copied());
        let mut response = request.call().map_err(|error| self.no_answer(error))?;
        let status = response.status();
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
        let body = body.with_context(|| format!("the answer of {}{path} broke off", self.url))?;
        if !status.is_success() {
            bail!("{}{path} answered {status}: {}", self.url, body.trim_end());
        }
        Ok(body)
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
