//! How is a running process told to finish what it has and end? By its admin listener, and watched until it is gone.
//!
//! Never ends anything itself, and never the process that came after the one that was meant.

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use serde_json::{Value, json};

use crate::cli::DrainSelfArgs;
use crate::client::AdminClient;
use crate::report::left;
use crate::{print, say};

/// Pause before it is asked again what is left.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// What a process may take beyond its own deadline: to close what is left, and to leave its cluster.
const GRACE: Duration = Duration::from_secs(6);

/// `engine drain`.
pub(crate) fn run(args: &DrainSelfArgs) -> anyhow::Result<ExitCode> {
    let client = AdminClient::new(&args.admin.admin);
    let stats = client.json("/stats", &[])?;
    let pid = stats["process"]["pid"].as_u64().ok_or_else(|| anyhow!("/stats names no process"))?;
    let answer = client.send("POST", "/process/drain", Some(&json!({ "pid": pid })))?;
    if args.wait {
        wait(&client, pid, &answer)?;
    }
    if args.admin.json {
        return print(&format!("{answer:#}\n"));
    }
    if args.wait {
        return print(&format!("process {pid} has ended\n"));
    }
    let already = if answer["already"] == true { " already" } else { "" };
    print(&format!("process {pid} drains{already}{}\n", terms(&answer)))
}

fn terms(answer: &Value) -> String {
    let seconds = |key: &str| answer[key].as_f64().unwrap_or_default();
    let (delay, timeout) = (seconds("delay_s"), seconds("timeout_s"));
    let delay = if delay > 0.0 { format!("; listeners close in {delay} s") } else { String::new() };
    format!("{delay}; what is in progress may take {timeout} s")
}

/// Waits until nobody, or somebody else, answers where the process did.
fn wait(client: &AdminClient, pid: u64, answer: &Value) -> anyhow::Result<()> {
    let allowed = ["delay_s", "timeout_s"].map(|key| answer[key].as_f64().unwrap_or_default()).iter().sum();
    let deadline = Instant::now() + Duration::from_secs_f64(allowed) + GRACE;
    let mut last = String::new();
    loop {
        let is_there = client.json("/stats", &[]).ok().filter(|stats| stats["process"]["pid"] == pid);
        let Some(stats) = is_there else { return Ok(()) };
        let now = left(&stats);
        if now != last {
            say(&format!("left: {now}\n"));
            last = now;
        }
        if Instant::now() > deadline {
            bail!("process {pid} has not ended by its deadline; left: {last}");
        }
        thread::sleep(ASK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_is_told_and_a_delay_where_there_is_one() {
        let check = |answer: Value, expected: &str| assert_eq!(terms(&answer), expected);
        check(json!({ "delay_s": 0.0, "timeout_s": 30.0 }), "; what is in progress may take 30 s");
        let delayed = json!({ "delay_s": 2.5, "timeout_s": 30.0 });
        check(delayed, "; listeners close in 2.5 s; what is in progress may take 30 s");
    }
}
