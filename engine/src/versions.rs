//! How is the configuration of a node's processes changed, compared and taken back? By a process of the cluster, or in its store.
//!
//! Never decides anything: processes check what is put there, and what they refuse is said in their words.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use control::{Decision, Editor, Local, LocalTerms, Push, differences, node_of};
use serde_json::{Map, Value, json};

use crate::cli::{ClusterArgs, DiffArgs, HistoryArgs, PushArgs, RollbackArgs};
use crate::client::{AdminClient, segment};
use crate::difference;
use crate::join::{access, shared_document};
use crate::print;
use crate::report::{new_table, number, push_table, rows, text};

/// A process waits for the others of its node before it answers.
const DECISION_TIMEOUT: Duration = Duration::from_secs(15);

/// Versions that a history shows.
const HISTORY_MAX: u32 = 100;

/// `engine config push`.
pub(crate) fn push(args: &PushArgs) -> anyhow::Result<ExitCode> {
    let document = shared_document(&args.file)?;
    let decision = match editor(&args.at, Some(&document))? {
        Some(editor) => {
            let comment = args.comment.clone();
            decided(&editor.push(Push { document, base: args.base, author: author(), comment })?)?
        }
        None => {
            let mut body = Map::from_iter([("document".to_owned(), json!(document))]);
            body.extend(args.base.map(|base| ("base".to_owned(), json!(base))));
            body.insert("comment".to_owned(), json!(args.comment));
            body.extend(args.at.member.node.as_ref().map(|node| ("node".to_owned(), json!(node))));
            ask(&args.at, "/cluster/config", body)?
        }
    };
    tell(&decision, args.at.json)
}

/// `engine config rollback`.
pub(crate) fn rollback(args: &RollbackArgs) -> anyhow::Result<ExitCode> {
    let decision = match editor(&args.at, None)? {
        Some(editor) => {
            let version = args.version;
            let there = editor.version(version)?.ok_or_else(|| anyhow!("there is no version {version}"))?;
            let base = editor.current()?.map(|current| current.summary.version);
            let comment = format!("back to version {version}");
            decided(&editor.push(Push { document: there.document, base, author: author(), comment })?)?
        }
        None => {
            let mut body = Map::from_iter([("version".to_owned(), json!(args.version))]);
            body.extend(args.at.member.node.as_ref().map(|node| ("node".to_owned(), json!(node))));
            ask(&args.at, "/cluster/config/rollback", body)?
        }
    };
    tell(&decision, args.at.json)
}

/// `engine config diff`.
pub(crate) fn diff(args: &DiffArgs) -> anyhow::Result<ExitCode> {
    if args.at.store.is_none() && args.at.member.node.is_none() {
        // A process of a cluster runs what the store has, and is asked for that below.
        if let Some(code) = difference::of_file(&args.file, &args.at)? {
            return Ok(code);
        }
    }
    let document = shared_document(&args.file)?;
    let (version, there) = match editor(&args.at, Some(&document))? {
        Some(editor) => {
            let current =
                editor.current()?.ok_or_else(|| anyhow!("the node has no configuration in the store"))?;
            (current.summary.version, current.document)
        }
        None => {
            let answer = AdminClient::new(&args.at.admin).json("/cluster/config", &node_query(&args.at))?;
            let document = answer["document"].as_str().context("the answer has no document")?.to_owned();
            (answer["version"].as_u64().unwrap_or_default(), document)
        }
    };
    let differences = differences(&there, &document).context("a document is no JSON")?;
    let is_same = differences.is_empty();
    if args.at.json {
        let differences = serde_json::to_value(&differences)?;
        print(&format!("{:#}\n", json!({ "version": version, "differences": differences })))?;
    } else if is_same {
        print(&format!("{} says what version {version} says\n", args.file.display()))?;
    } else {
        let mut out = format!("--- version {version} in the store\n+++ {}\n", args.file.display());
        for difference in &differences {
            let lines = [('-', &difference.before), ('+', &difference.after)];
            for (sign, value) in lines.into_iter().filter_map(|(sign, value)| Some((sign, value.as_ref()?))) {
                out.push_str(&format!("{sign} {} = {value}\n", difference.key));
            }
        }
        print(&out)?;
    }
    Ok(ExitCode::from(u8::from(!is_same)))
}

/// `engine config history`.
pub(crate) fn history(args: &HistoryArgs) -> anyhow::Result<ExitCode> {
    let answer = match editor(&args.at, None)? {
        Some(editor) => {
            let versions = editor.history(HISTORY_MAX)?;
            let rows = versions.iter().map(|version| {
                json!({
                    "version": version.version,
                    "state": version.state.as_str(),
                    "author": version.author,
                    "comment": version.comment,
                    "cause": version.cause,
                    "fingerprint": version.fingerprint,
                })
            });
            json!({ "versions": rows.collect::<Vec<_>>() })
        }
        None => AdminClient::new(&args.at.admin).json("/cluster/config/history", &node_query(&args.at))?,
    };
    if args.at.json {
        return print(&format!("{answer:#}\n"));
    }
    let mut table = new_table(&["version", "state", "author", "comment", "cause"], 5);
    for version in rows(&answer["versions"]) {
        table.add_row([
            number(&version["version"]),
            text(version, "state").to_owned(),
            text(version, "author").to_owned(),
            text(version, "comment").to_owned(),
            version["cause"].as_str().unwrap_or_default().to_owned(),
        ]);
    }
    let mut out = String::new();
    push_table(&mut out, "versions", &table);
    print(out.trim_start_matches('\n'))
}

/// The store itself, if that is what is to be asked. A document may say which node it is of.
fn editor(at: &ClusterArgs, document: Option<&str>) -> anyhow::Result<Option<Editor>> {
    let Some(access) = access(at.store.as_deref(), &at.member, None, None) else { return Ok(None) };
    let node = at.member.node.clone().or_else(|| document.and_then(node_of));
    let Some(node) = node else { bail!("which node of the cluster? --node ID") };
    Ok(Some(Editor::open(&Local { node, access, terms: LocalTerms::default() })?))
}

fn node_query(at: &ClusterArgs) -> Vec<(&'static str, &str)> {
    at.member.node.iter().map(|node| ("node", node.as_str())).collect()
}

fn ask(at: &ClusterArgs, path: &str, body: Map<String, Value>) -> anyhow::Result<Value> {
    AdminClient::patient(&at.admin, DECISION_TIMEOUT).send("POST", path, Some(&Value::Object(body)))
}

/// Who changes something in the store by himself: whoever the system says he is.
fn author() -> String {
    std::env::var("USER").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "command line".to_owned())
}

fn decided(decision: &Decision) -> anyhow::Result<Value> {
    match decision {
        Decision::Rejected { version, cause } => {
            bail!("version {version} is rejected: {cause}; nothing was changed anywhere")
        }
        Decision::Active { .. } | Decision::Proposed { .. } => Ok(serde_json::to_value(decision)?),
    }
}

fn tell(decision: &Value, is_json: bool) -> anyhow::Result<ExitCode> {
    let is_active = decision["state"] == "active";
    if is_json {
        print(&format!("{decision:#}\n"))?;
    } else {
        let version = number(&decision["version"]);
        let state = if is_active { "is active" } else { "waits for processes that have not answered yet" };
        print(&format!("version {version} {state}\n"))?;
    }
    Ok(ExitCode::from(u8::from(!is_active)))
}

/// The path of a module or process below the cluster's.
pub(crate) fn cluster_path(kind: &str, name: &str, rest: &str) -> String {
    format!("/cluster/{kind}/{}/{rest}", segment(name))
}
