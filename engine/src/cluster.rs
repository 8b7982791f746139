//! Who else is in the cluster of a running process, and what are they to do? Asked and told over its admin listener.
//!
//! Never decides anything: the process does, and what it refuses is said in its own words.

use std::process::ExitCode;

use serde_json::Value;

use crate::cli::{AdminArgs, ClusterCommand, DrainArgs, ModuleChange, ModulesArgs};
use crate::client::{AdminClient, segment};
use crate::print;
use crate::report::{new_table, number, push_table, rows, text};
use crate::versions::cluster_path;

/// `engine cluster`.
pub(crate) fn run(command: &ClusterCommand) -> anyhow::Result<ExitCode> {
    match command {
        ClusterCommand::Status(args) => status(args),
        ClusterCommand::Processes(args) => {
            let answer = AdminClient::new(&args.admin).json("/cluster/processes", &[])?;
            show(&answer, args.json, &processes(&answer))
        }
        ClusterCommand::Drain(DrainArgs { process, admin }) => {
            let path = cluster_path("processes", process, "drain");
            let answer = AdminClient::new(&admin.admin).send("POST", &path, None)?;
            show(&answer, admin.json, &format!("{process} is to drain; it learns that with its next beat\n"))
        }
        ClusterCommand::Modules(args) => modules(args),
    }
}

fn status(args: &AdminArgs) -> anyhow::Result<ExitCode> {
    let client = AdminClient::new(&args.admin);
    let mut status = client.json("/cluster", &[])?;
    // With the store away, what this process knows of itself is still worth telling.
    match client.json("/cluster/processes", &[]) {
        Ok(answer) => status["processes"] = answer["processes"].clone(),
        Err(error) => status["error"] = Value::from(error.to_string()),
    }
    let mut out = String::new();
    let mut line = |label: &str, value: &str| out.push_str(&format!("{label:9}{value}\n"));
    line("node", text(&status, "node"));
    line("process", status["process"].as_str().unwrap_or("not registered"));
    let epoch = &status["lease_epoch"];
    let role = text(&status, "role");
    line(
        "role",
        &if epoch.is_null() { role.to_owned() } else { format!("{role} (epoch {})", number(epoch)) },
    );
    let config = &status["config"];
    line("config", &format!("version {}", number(&config["version"])));
    if let Some(cause) = config["refused"]["cause"].as_str() {
        line("", &format!("version {} cannot be applied: {cause}", number(&config["refused"]["version"])));
    }
    if let Some(file) = config["drift"].as_str() {
        line("", &format!("{file} says something else"));
    }
    let store = &status["store"];
    line("store", &format!("{} {}", text(store, "url"), text(store, "state")));
    if let Some(cause) = store["cause"].as_str() {
        line("", cause);
    }
    out.push_str(&processes(&status));
    show(&status, args.json, &out)
}

fn processes(answer: &Value) -> String {
    let header =
        ["process", "state", "host", "version", "addresses", "config", "pid", "cores", "open", "req/s"];
    let mut table = new_table(&header, 5);
    for process in rows(&answer["processes"]) {
        let me = if process["is_self"] == true { " *" } else { "" };
        let addresses: Vec<_> = process["addresses"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, address)| {
                format!("{} {}", name.trim_start_matches("listener."), address.as_str().unwrap_or("?"))
            })
            .collect();
        let load = &process["load"];
        let mut row = vec![format!("{}{me}", text(process, "id"))];
        row.extend(["state", "host", "version"].map(|key| text(process, key).to_owned()));
        row.push(addresses.join(", "));
        row.extend(["config_version", "pid", "cores"].map(|key| number(&process[key])));
        row.push(number(&load["connections"]));
        row.push(load["requests_per_s"].as_f64().map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}")));
        table.add_row(row);
    }
    let mut out = String::new();
    push_table(&mut out, "processes", &table);
    out
}

fn modules(args: &ModulesArgs) -> anyhow::Result<ExitCode> {
    let ModulesArgs { change, name, node, admin } = args;
    let client = AdminClient::new(&admin.admin);
    if let (Some(change), Some(name)) = (change, name) {
        let word = match change {
            ModuleChange::Start => "start",
            ModuleChange::Stop => "stop",
        };
        let query = node.as_ref().map(|node| format!("?node={}", segment(node))).unwrap_or_default();
        let path = format!("{}{query}", cluster_path("modules", name, word));
        let answer = client.send("POST", &path, None)?;
        return show(&answer, admin.json, &format!("{name} is {}\n", text(&answer, "state")));
    }
    let query: Vec<_> = node.iter().map(|node| ("node", node.as_str())).collect();
    let answer = client.json("/cluster/modules", &query)?;
    let mut table = new_table(&["module", "state", "needs"], 3);
    for module in rows(&answer["modules"]) {
        let state = match module["blocked_by"].as_str() {
            Some(by) => format!("{} by {by}", text(module, "state")),
            None => text(module, "state").to_owned(),
        };
        let needs: Vec<_> = rows(&module["requires"]).filter_map(Value::as_str).collect();
        table.add_row([text(module, "name").to_owned(), state, needs.join(", ")]);
    }
    let mut out = String::new();
    push_table(&mut out, &format!("node {}", text(&answer, "node")), &table);
    show(&answer, admin.json, out.trim_start_matches('\n'))
}

fn show(answer: &Value, is_json: bool, text: &str) -> anyhow::Result<ExitCode> {
    if is_json { print(&format!("{answer:#}\n")) } else { print(text) }
}
