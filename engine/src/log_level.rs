//! Which log lines does a running process write? Asked of its admin listener, and told to it.
//!
//! Never changes what the next process writes: that is for its `--log-level` to say.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::LogLevelArgs;
use crate::client::AdminClient;
use crate::print;
use crate::report::{text, uptime_text};

/// `engine log-level`.
pub(crate) fn run(args: &LogLevelArgs) -> anyhow::Result<ExitCode> {
    let client = AdminClient::new(&args.admin.admin);
    let answer = match &args.level {
        None => client.json("/log-level", &[])?,
        Some(level) => {
            let mut body = json!({ "level": level.to_string() });
            if let Some(time) = &args.time {
                body["for"] = json!(time);
            }
            client.send("PUT", "/log-level", Some(&body))?
        }
    };
    print(&if args.admin.json { format!("{answer:#}\n") } else { words(&answer) })
}

fn words(answer: &Value) -> String {
    let mut out = text(answer, "level").to_owned();
    if let (Some(then), Some(seconds)) =
        (answer["falls_back_to"].as_str(), answer["falls_back_in_s"].as_f64())
    {
        // Writing to a String does not fail.
        let _ = write!(out, " for {}, then {then}", uptime_text(Duration::from_secs(seconds.round() as u64)));
    }
    let started_with = text(answer, "started_with");
    if started_with != answer["level"] && answer["falls_back_to"] != started_with {
        let _ = write!(out, " (started with {started_with})");
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_and_what_comes_after_it_are_one_line() {
        let check = |answer: Value, expected: &str| assert_eq!(words(&answer), expected);
        check(json!({ "level": "info", "started_with": "info" }), "info\n");
        check(json!({ "level": "debug", "started_with": "info" }), "debug (started with info)\n");
        let passing = json!({ "level": "debug", "started_with": "info", "falls_back_to": "info", "falls_back_in_s": 599.9 });
        check(passing, "debug for 10 min 0 s, then info\n");
        let both = json!({ "level": "trace", "started_with": "info", "falls_back_to": "warn", "falls_back_in_s": 9.6 });
        check(both, "trace for 10 s, then warn (started with info)\n");
    }
}
