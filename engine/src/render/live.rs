//! What is there to render, in a running process? Its own account of listeners and endpoints.
//!
//! Never takes half an answer: one that is not as expected is of another version.

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::input::{Goal, Group, Hash, Input, Listening, Persistence, Server, Spoken};

/// What `GET /upstreams` says.
pub(super) fn parse(answer: &Value) -> anyhow::Result<Input> {
    let groups: Vec<_> = list(answer, "upstreams")?.iter().map(parse_group).collect::<anyhow::Result<_>>()?;
    let listener = |listener: &Value| parse_listener(listener, &groups);
    let listeners = list(answer, "listeners")?.iter().map(listener).collect::<anyhow::Result<_>>()?;
    Ok(Input { listeners, groups })
}

fn parse_listener(listener: &Value, groups: &[Group]) -> anyhow::Result<Listening> {
    let upstream = listener["upstream"].as_str();
    let group = || {
        let index = groups.iter().position(|group| Some(group.name.as_str()) == upstream);
        index.context("a listener leads to an upstream that is not there")
    };
    Ok(Listening {
        name: text(listener, "name")?,
        protocol: match text(listener, "protocol")?.as_str() {
            "http" => Spoken::Http,
            "https" => Spoken::Https,
            "tcp" => Spoken::Bytes,
            "tls" => Spoken::Hellos,
            other => bail!("a listener speaks {other:?}"),
        },
        address: address(listener)?,
        is_internal: listener["internal"] == true,
        goal: match text(listener, "goal")?.as_str() {
            "all" => Goal::All(group()?),
            "some" => Goal::Some(group()?),
            "several" => Goal::Several,
            _ => Goal::Nowhere,
        },
    })
}

fn parse_group(upstream: &Value) -> anyhow::Result<Group> {
    let hash = &upstream["hash"];
    let persistence = &upstream["persistence"];
    Ok(Group {
        name: text(upstream, "name")?,
        balance: text(upstream, "balance")?,
        hash: match hash {
            Value::Null => None,
            hash => Some(Hash { on: text(hash, "on")?, table: text(hash, "table")? }),
        },
        persistence: match persistence {
            Value::Null => None,
            persistence => Some(Persistence {
                timeout_s: number(persistence, "timeout_s")?,
                mask: number(persistence, "mask")?,
                mask6: number(persistence, "mask6")?,
            }),
        },
        is_tls: upstream["tls"] == true,
        sends_proxy_header: upstream["proxy_protocol"] == true,
        servers: list(upstream, "endpoints")?.iter().map(parse_server).collect::<anyhow::Result<_>>()?,
    })
}

/// An endpoint that gets nothing new here gets nothing new there either.
fn parse_server(endpoint: &Value) -> anyhow::Result<Server> {
    let threshold = |key: &str| match &endpoint[key] {
        Value::Null => Ok(None),
        _ => number(endpoint, key).map(Some),
    };
    let is_up = endpoint["state"] == "up";
    Ok(Server {
        name: text(endpoint, "name")?,
        address: address(endpoint)?,
        weight: if is_up { number(endpoint, "weight")? } else { 0 },
        connections_max: threshold("max_connections")?,
        connections_min: threshold("min_connections")?,
        priority: number(endpoint, "priority")?,
    })
}

/// A TCP address; `None` for a path.
fn address(row: &Value) -> anyhow::Result<Option<SocketAddr>> {
    let text = text(row, "address")?;
    if text.starts_with("unix:") {
        return Ok(None);
    }
    text.parse().map(Some).with_context(|| format!("{text:?} is no address"))
}

fn list<'v>(value: &'v Value, key: &str) -> anyhow::Result<&'v [Value]> {
    value[key].as_array().map(Vec::as_slice).with_context(|| missing(key))
}

fn text(value: &Value, key: &str) -> anyhow::Result<String> {
    value[key].as_str().map(str::to_owned).with_context(|| missing(key))
}

fn number<T: TryFrom<u64>>(value: &Value, key: &str) -> anyhow::Result<T> {
    value[key].as_u64().and_then(|number| T::try_from(number).ok()).with_context(|| missing(key))
}

fn missing(key: &str) -> String {
    format!("the answer has no {key:?} as this version expects it: is the engine of another version?")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_gets_nothing_new_has_weight_zero_and_masks_come_along() {
        let endpoint = |address: &str, state: &str| {
            json!({ "name": address, "address": address, "state": state, "weight": 3, "priority": 0,
                    "max_connections": null, "min_connections": null })
        };
        let answer = json!({
            "listeners": [{ "name": "db", "protocol": "tcp", "address": "10.0.0.9:1", "internal": false,
                            "goal": "all", "upstream": "db" }],
            "upstreams": [{ "name": "db", "balance": "source_hash", "hash": { "on": "source", "table": "maglev" },
                            "persistence": { "timeout_s": 300, "mask": 24, "mask6": 64 }, "tls": false,
                            "proxy_protocol": false,
                            "endpoints": [endpoint("10.0.0.1:1", "up"), endpoint("10.0.0.2:1", "draining"),
                                          endpoint("unix:/run/x", "up")] }],
        });
        let input = parse(&answer).expect("an answer");
        assert_eq!(input.listeners[0].goal, Goal::All(0));
        let group = &input.groups[0];
        assert_eq!(group.servers.iter().map(|server| server.weight).collect::<Vec<_>>(), [3, 0, 3]);
        assert_eq!(group.servers[2].address, None);
        assert_eq!(group.persistence, Some(Persistence { timeout_s: 300, mask: 24, mask6: 64 }));
    }

    #[test]
    fn an_answer_of_another_version_is_refused_with_the_key() {
        let error = parse(&json!({ "upstreams": [{}] })).expect_err("no name").to_string();
        assert!(error.contains("\"name\""), "{error}");
    }
}
