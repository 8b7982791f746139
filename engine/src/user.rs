//! Who may log in? Users of a running engine, shown and changed.
//!
//! Never takes a password as an argument: every user of the machine can read those.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::cli::{AdminArgs, UserArgs, UserCommand};
use crate::client::AdminClient;
use crate::print;

/// Longer is no password.
const PASSWORD_BYTES_MAX: u64 = 4096;

pub(crate) fn run(command: &UserCommand) -> anyhow::Result<ExitCode> {
    match command {
        UserCommand::List(admin) => {
            let answer = AdminClient::new(&admin.admin).json("/users", &[])?;
            let users = answer["users"].as_array().map(Vec::as_slice).unwrap_or_default();
            if admin.json { tell(&answer, admin) } else { print(&users.iter().map(line).collect::<String>()) }
        }
        UserCommand::Add(args) => {
            let password = read_password(args.password_file.as_deref())?;
            let body = json!({ "name": args.user.name, "password": password, "roles": args.roles });
            let admin = &args.user.admin;
            tell(&AdminClient::new(&admin.admin).send("POST", "/users", Some(&body))?, admin)
        }
        UserCommand::Password(args) => {
            let password = read_password(args.password_file.as_deref())?;
            change(&args.user, &json!({ "password": password }))
        }
        UserCommand::Roles(args) => change(&args.user, &json!({ "roles": args.roles })),
        UserCommand::Disable(args) => change(args, &json!({ "disabled": true })),
        UserCommand::Enable(args) => change(args, &json!({ "disabled": false })),
        UserCommand::Remove(args) => {
            AdminClient::new(&args.admin.admin).send("DELETE", &path(&args.name), None)?;
            print("")
        }
    }
}

fn change(user: &UserArgs, body: &Value) -> anyhow::Result<ExitCode> {
    tell(&AdminClient::new(&user.admin.admin).send("PATCH", &path(&user.name), Some(body))?, &user.admin)
}

/// Every byte that is no letter or digit as %XX: whatever is no name is refused by name, and goes nowhere else.
fn path(name: &str) -> String {
    let mut path = "/users/".to_owned();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') {
            path.push(char::from(byte));
        } else {
            write!(path, "%{byte:02X}").expect("memory takes what is written");
        }
    }
    path
}

fn read_password(file: Option<&Path>) -> anyhow::Result<String> {
    let mut text = String::new();
    match file {
        Some(file) => {
            let opened = std::fs::File::open(file);
            let read = opened.and_then(|file| file.take(PASSWORD_BYTES_MAX).read_to_string(&mut text));
            read.with_context(|| format!("cannot read the password from {}", file.display()))?;
        }
        None => {
            let read = std::io::stdin().take(PASSWORD_BYTES_MAX).read_to_string(&mut text);
            read.context("cannot read the password from standard input")?;
        }
    }
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn tell(answer: &Value, admin: &AdminArgs) -> anyhow::Result<ExitCode> {
    if admin.json { print(&format!("{answer:#}\n")) } else { print(&line(answer)) }
}

/// A user in one line.
fn line(user: &Value) -> String {
    let roles = user["roles"].as_array().map(Vec::as_slice).unwrap_or_default();
    let roles: Vec<_> = roles.iter().filter_map(Value::as_str).collect();
    let roles = if roles.is_empty() { "no role".to_owned() } else { roles.join(", ") };
    let state = if user["disabled"] == json!(true) { "  (disabled)" } else { "" };
    format!("{:<24} {roles}{state}\n", user["name"].as_str().unwrap_or_default())
}
