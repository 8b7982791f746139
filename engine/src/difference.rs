//! What would a running process do with another configuration? Asked of the process itself, which checks it whole and does nothing.
//!
//! Never guesses here: what can be bound, read and resolved is known where it would be.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use config::Files;
use serde_json::{Value, json};

use crate::cli::{AdminArgs, ClusterArgs};
use crate::client::{AdminClient, refusal};
use crate::{print, say, settings};

/// Files that the configuration names may be slow to come.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Something would change.
const DIFFERS: u8 = 1;
/// It cannot be used.
const WRONG: u8 = 2;

/// `engine config diff FILE`; `None` if the process runs what a store has.
pub(crate) fn of_file(path: &Path, at: &ClusterArgs) -> anyhow::Result<Option<ExitCode>> {
    let document = Files::read(path).and_then(|files| config::whole_document(&files));
    let document = match document {
        Ok(document) => document,
        Err(problems) => {
            settings::show(&problems);
            say(&format!("error: {} cannot be used\n", path.display()));
            return Ok(Some(ExitCode::from(WRONG)));
        }
    };
    // What is wrong with it is shown where it stands, and not in what is sent of it.
    if let Err(problems) = config::load_file(path) {
        settings::show(&problems);
        say(&format!("error: {} cannot be used\n", path.display()));
        return Ok(Some(ExitCode::from(WRONG)));
    }
    let name = path.display().to_string();
    ask(&at.admin, &json!({ "document": document }), &name, at.json)
}

/// `engine reload --dry-run`.
pub(crate) fn of_own_file(args: &AdminArgs) -> anyhow::Result<ExitCode> {
    match ask(&args.admin, &json!({}), "the configuration file", args.json)? {
        Some(code) => Ok(code),
        None => bail!(
            "the configuration is that of the store, or the process was started without a file: there is nothing to read again"
        ),
    }
}

fn ask(admin: &str, body: &Value, name: &str, is_json: bool) -> anyhow::Result<Option<ExitCode>> {
    let (status, answer) =
        AdminClient::patient(admin, TIMEOUT).exchange("POST", "/config/diff", Some(body))?;
    match status {
        200 => {}
        409 => return Ok(None),
        422 => {
            if is_json {
                print(&format!("{answer:#}\n"))?;
            } else {
                say(&format!("error: {}\n", refusal(&answer)));
            }
            return Ok(Some(ExitCode::from(WRONG)));
        }
        _ => bail!("{}", refusal(&answer)),
    }
    print(&if is_json { format!("{answer:#}\n") } else { text(&answer, name) })?;
    Ok(Some(if answer["unchanged"] == true { ExitCode::SUCCESS } else { ExitCode::from(DIFFERS) }))
}

/// The plan for people: what would be otherwise, table by table, and how much would stay.
fn text(plan: &Value, name: &str) -> String {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut out = String::new();
    let mut kept = 0;
    // Writing to a String does not fail.
    for object in plan["objects"].as_array().into_iter().flatten() {
        let (fate, object_name) =
            (object["fate"].as_str().unwrap_or(""), object["name"].as_str().unwrap_or(""));
        if fate == "kept" {
            kept += 1;
            continue;
        }
        let _ = writeln!(out, "{} {object_name} {}", sign(fate), words(fate));
        for endpoint in texts(&object["endpoints_added"]) {
            let _ = writeln!(out, "    + {endpoint}");
        }
        for endpoint in texts(&object["endpoints_removed"]) {
            let _ = writeln!(out, "    - {endpoint}, which drains");
        }
        let keys = object["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
        for key in keys {
            let side = |name: &str| key[name].as_str().unwrap_or("nothing").to_owned();
            let _ = writeln!(
                out,
                "    {}: {} -> {}",
                key["key"].as_str().unwrap_or(""),
                side("before"),
                side("after")
            );
        }
        if keys.is_empty() && fate == "changed" {
            out.push_str("    what is not shown: a secret, or the order\n");
        }
    }
    for key in texts(&plan["needs_restart"]) {
        let _ = writeln!(out, "! {key} takes effect with a restart");
    }
    for warning in texts(&plan["warnings"]) {
        let _ = writeln!(out, "warning: {warning}");
    }
    match plan["unchanged"] == true {
        true => format!("{name} says what runs: a reload would do nothing\n{out}"),
        false => {
            let tables = settings::count(kept, "table");
            format!("{out}  {tables} kept as {}\n", if kept == 1 { "it is" } else { "they are" })
        }
    }
}

fn sign(fate: &str) -> char {
    match fate {
        "opened" | "added" => '+',
        "closed" | "removed" => '-',
        _ => '~',
    }
}

fn words(fate: &str) -> &str {
    match fate {
        "opened" => "is opened",
        "closed" => "is closed: nobody is accepted any more, what has begun goes on",
        "moved" => "moves: it is opened anew before the old one is closed",
        "added" => "is added",
        "removed" => "is removed",
        "changed" => "changes",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_told_table_by_table() {
        let plan = json!({
            "unchanged": false,
            "objects": [
                { "name": "process", "fate": "changed",
                  "keys": [{ "key": "process.spin", "before": "\"50us\"", "after": "\"0s\"" }] },
                { "name": "listener.web", "fate": "kept", "keys": [] },
                { "name": "listener.db", "fate": "opened", "keys": [] },
                { "name": "upstream.app", "fate": "changed", "endpoints_added": ["10.0.0.2:80"],
                  "endpoints_removed": ["10.0.0.1:80"], "keys": [] },
                { "name": "channel.old", "fate": "removed", "keys": [] },
            ],
            "needs_restart": ["process.spin"],
            "warnings": ["it is late"],
        });
        let expected = "~ process changes\n    process.spin: \"50us\" -> \"0s\"\n\
                        + listener.db is opened\n\
                        ~ upstream.app changes\n    + 10.0.0.2:80\n    - 10.0.0.1:80, which drains\n    \
                        what is not shown: a secret, or the order\n\
                        - channel.old is removed\n! process.spin takes effect with a restart\nwarning: it is late\n  \
                        1 table kept as it is\n";
        assert_eq!(text(&plan, "a.toml"), expected);
        let same = json!({ "unchanged": true, "objects": [{ "name": "node", "fate": "kept" }] });
        assert_eq!(text(&same, "a.toml"), "a.toml says what runs: a reload would do nothing\n");
    }
}
