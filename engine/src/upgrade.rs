//! How is a running process replaced by the program that is installed now? By its admin listener, with an answer.
//!
//! Never starts a process here: that is for the one that runs, which has the sockets.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use crate::cli::AdminArgs;
use crate::client::AdminClient;
use crate::print;

/// Longer than the longest `process.upgrade_timeout`, which ends the attempt itself.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(660);

/// `engine upgrade`.
pub(crate) fn run(args: &AdminArgs) -> anyhow::Result<ExitCode> {
    let client = AdminClient::patient(&args.admin, ANSWER_TIMEOUT);
    let answer = client.send("POST", "/process/upgrade", None)?;
    if args.json {
        return print(&format!("{answer:#}\n"));
    }
    print(&text(&answer))
}

fn text(answer: &Value) -> String {
    let text = |key: &str| answer[key].as_str().unwrap_or("?").to_owned();
    let mut out = format!(
        "process {} (version {}) serves, after {} ms; process {} (version {}) finishes what it has begun\n",
        answer["pid"],
        text("version"),
        answer["took_ms"],
        answer["former_pid"],
        text("former_version")
    );
    for closed in answer["closed"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        // Writing to a String does not fail.
        let _ = writeln!(out, "  {closed} is not among its listeners: it is closed");
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_serves_now_is_told_and_what_is_gone() {
        let answer = json!({ "pid": 2, "version": "1.1", "former_pid": 1, "former_version": "1.0", "took_ms": 30,
            "closed": ["listener.old"] });
        let expected = "process 2 (version 1.1) serves, after 30 ms; process 1 (version 1.0) finishes what it has begun\n  \
                        listener.old is not among its listeners: it is closed\n";
        assert_eq!(text(&answer), expected);
    }
}
