//! Who are a running process's endpoints, and who is to be one? Asked and told over its admin listener.
//!
//! Never decides anything: the process does, and what it refuses is said in its own words.

use std::process::ExitCode;

use serde_json::{Map, Value, json};

use crate::cli::{AddArgs, EndpointArgs, RemoveArgs, ShowArgs, TermsArgs, UpstreamCommand, WeightArgs};
use crate::client::{AdminClient, segment};
use crate::print;
use crate::report::{new_table, number, push_table, rows, text};

/// `engine upstream`.
pub(crate) fn run(command: &UpstreamCommand) -> anyhow::Result<ExitCode> {
    match command {
        UpstreamCommand::List(args) => {
            let answer = AdminClient::new(&args.admin).json("/upstreams", &[])?;
            show(&answer, rows(&answer["upstreams"]), args.json)
        }
        UpstreamCommand::Show(ShowArgs { name, admin }) => {
            let upstream =
                AdminClient::new(&admin.admin).json(&format!("/upstreams/{}", segment(name)), &[])?;
            show(&upstream, std::iter::once(&upstream), admin.json)
        }
        UpstreamCommand::Add(args) => add(args),
        UpstreamCommand::Drain(args) => change(args, &json!({ "state": "drain" })),
        UpstreamCommand::Up(args) => change(args, &json!({ "state": "up" })),
        UpstreamCommand::Weight(WeightArgs { endpoint, weight }) => {
            change(endpoint, &json!({ "weight": weight }))
        }
        UpstreamCommand::Remove(args) => remove(args),
    }
}

fn add(args: &AddArgs) -> anyhow::Result<ExitCode> {
    let EndpointArgs { name, address, admin } = &args.endpoint;
    let TermsArgs { weight, priority, max_connections, min_connections, zone } = &args.terms;
    let given = [
        ("weight", weight.map(Value::from)),
        ("priority", priority.map(Value::from)),
        ("max_connections", max_connections.map(Value::from)),
        ("min_connections", min_connections.map(Value::from)),
        ("zone", zone.clone().map(Value::from)),
    ];
    let mut body = Map::from_iter([("address".to_owned(), Value::from(address.as_str()))]);
    body.extend(given.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
    let path = format!("/upstreams/{}/endpoints", segment(name));
    let answer = AdminClient::new(&admin.admin).send("POST", &path, Some(&Value::Object(body)))?;
    tell(&answer, admin.json)
}

fn change(args: &EndpointArgs, body: &Value) -> anyhow::Result<ExitCode> {
    tell(&AdminClient::new(&args.admin.admin).send("PATCH", &path(args), Some(body))?, args.admin.json)
}

fn remove(RemoveArgs { endpoint, now }: &RemoveArgs) -> anyhow::Result<ExitCode> {
    let query = if *now { "?now=true" } else { "" };
    let client = AdminClient::new(&endpoint.admin.admin);
    tell(&client.send("DELETE", &format!("{}{query}", path(endpoint)), None)?, endpoint.admin.json)
}

fn path(EndpointArgs { name, address, .. }: &EndpointArgs) -> String {
    format!("/upstreams/{}/endpoints/{}", segment(name), segment(address))
}

fn show<'u>(
    answer: &Value,
    upstreams: impl Iterator<Item = &'u Value>,
    is_json: bool,
) -> anyhow::Result<ExitCode> {
    if is_json {
        return print(&format!("{answer:#}\n"));
    }
    let mut out = String::new();
    for upstream in upstreams {
        push_upstream(&mut out, upstream);
    }
    print(out.trim_start_matches('\n'))
}

fn push_upstream(out: &mut String, upstream: &Value) {
    let panic = if upstream["is_panic"] == true { ", too many are down: all are used" } else { "" };
    let nobody = if upstream["candidates"] == 0 { ", no endpoint can be used" } else { "" };
    let title = format!("{}: {}{panic}{nobody}", text(upstream, "name"), text(upstream, "balance"));
    let header = ["endpoint", "source", "state", "weight", "priority", "most", "active", "idle", "requests"];
    let mut table = new_table(&header, 3);
    for endpoint in rows(&upstream["endpoints"]) {
        table.add_row(endpoint_row(endpoint));
    }
    if table.is_empty() {
        out.push_str(&format!("\n{title}\n"));
    }
    push_table(out, &title, &table);
    let mut names = new_table(&["name", "state", "addresses", "answers", "failures"], 3);
    for name in rows(&upstream["names"]) {
        let addresses: Vec<_> = rows(&name["addresses"]).filter_map(Value::as_str).collect();
        names.add_row([
            text(name, "name").to_owned(),
            text(name, "state").to_owned(),
            addresses.join(", "),
            number(&name["answers"]),
            number(&name["failures"]),
        ]);
    }
    push_table(out, "names", &names);
}

fn endpoint_row(endpoint: &Value) -> Vec<String> {
    let state = text(endpoint, "state");
    let state = if endpoint["leaving"] == true { format!("{state}, leaving") } else { state.to_owned() };
    let most = if endpoint["max_connections"].is_null() {
        "-".to_owned()
    } else {
        number(&endpoint["max_connections"])
    };
    let mut row = vec![text(endpoint, "address").to_owned(), text(endpoint, "source").to_owned(), state];
    row.extend(["weight", "priority"].map(|key| number(&endpoint[key])));
    row.push(most);
    row.extend(["active", "idle", "requests"].map(|key| number(&endpoint[key])));
    row
}

/// What became of a change, and that it will be forgotten.
fn tell(answer: &Value, is_json: bool) -> anyhow::Result<ExitCode> {
    if is_json {
        return print(&format!("{answer:#}\n"));
    }
    let endpoint = &answer["endpoint"];
    let address = text(endpoint, "address");
    let state = match (answer["removed"] == true, endpoint["leaving"] == true) {
        (true, _) => "is removed".to_owned(),
        (false, true) => {
            format!(
                "drains, and is removed when it has finished ({} in progress)",
                number(&endpoint["active"])
            )
        }
        (false, false) => format!("is {}, weight {}", text(endpoint, "state"), number(&endpoint["weight"])),
    };
    print(&format!("{address} {state}\n{}\n", text(answer, "note")))
}
