//! How is a running process told to read its configuration again? By its admin listener, with an answer.
//!
//! Never reads the file here: what counts is what the process finds there.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::Value;

use crate::cli::ReloadArgs;
use crate::client::AdminClient;
use crate::difference;
use crate::print;

/// `engine reload`.
pub(crate) fn run(args: &ReloadArgs) -> anyhow::Result<ExitCode> {
    if args.dry_run {
        return difference::of_own_file(&args.admin);
    }
    let answer = AdminClient::new(&args.admin.admin).send("POST", "/config/reload", None)?;
    if args.admin.json {
        return print(&format!("{answer:#}\n"));
    }
    print(&text(&answer))
}

fn text(answer: &Value) -> String {
    let texts = |key: &str| answer[key].as_array().into_iter().flatten().filter_map(Value::as_str);
    let number = &answer["number"];
    if answer["unchanged"] == true {
        return format!("configuration {number} is what is written: nothing to do\n");
    }
    let mut out = format!("configuration {number} runs\n");
    // Writing to a String does not fail.
    for change in texts("changes") {
        let _ = writeln!(out, "  {change}");
    }
    for key in texts("needs_restart") {
        let _ = writeln!(out, "  {key} takes effect with a restart");
    }
    for warning in texts("warnings") {
        let _ = writeln!(out, "warning: {warning}");
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_changed_is_told_line_by_line() {
        let answer = json!({ "number": 2, "unchanged": false, "changes": ["channel.a added"],
            "needs_restart": ["process.spin"], "warnings": ["it is late"] });
        let expected = "configuration 2 runs\n  channel.a added\n  process.spin takes effect with a restart\n\
                        warning: it is late\n";
        assert_eq!(text(&answer), expected);
        let same = json!({ "number": 2, "unchanged": true });
        assert_eq!(text(&same), "configuration 2 is what is written: nothing to do\n");
    }
}
