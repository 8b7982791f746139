//! Does `engine render` say to LVS what a configuration says? Whole texts, word by word.
//!
//! Nothing here touches the kernel.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Listeners of every kind, two of which LVS can take over.
const CONFIG: &str = r#"
[listener.db]
bind = "10.0.0.9:5432"
protocol = "tcp"
upstream = "db"

[listener.web]
bind = "0.0.0.0:80"

[listener.local]
bind = "unix:/run/web.sock"

[channel.all]
upstream = "app"

[upstream.db]
endpoints = ["10.0.0.1:5432", "10.0.0.2:5432"]

[upstream.app]
endpoints = ["10.0.0.3:8000", "unix:/run/app.sock"]
"#;

#[track_caller]
fn render(name: &str, config: &str, arguments: &[&str]) -> Output {
    let path =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("render-{}-{name}.toml", std::process::id()));
    fs::write(&path, config).expect("a writable directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_engine"));
    command.arg("render").args(arguments).arg("--config").arg(&path).stdin(Stdio::null());
    let output = command.output().expect("the engine can be run");
    fs::remove_file(&path).expect("the file just written");
    output
}

#[track_caller]
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

/// Standard output without its first line, which names the file.
#[track_caller]
fn rendered(output: &Output) -> &str {
    let (first, rest) = text(&output.stdout).split_once('\n').expect("lines");
    assert!(first.starts_with("# Written by `engine render "), "{first}");
    rest
}

#[test]
fn ipvsadm_gets_commands() {
    let output = render("ipvsadm", CONFIG, &["ipvsadm", "--address", "192.0.2.1"]);
    assert_eq!(output.status.code(), Some(0));
    let expected = "\
# listener local: listens at a path; LVS knows TCP ports

# listener db, upstream db
ipvsadm -A -t 10.0.0.9:5432 -s rr
ipvsadm -a -t 10.0.0.9:5432 -r 10.0.0.1:5432 -m -w 1
ipvsadm -a -t 10.0.0.9:5432 -r 10.0.0.2:5432 -m -w 1

# listener web, upstream app
# listener web: connections are balanced instead of requests, and no field is added or checked
# upstream app: unix:/run/app.sock has no address of its own, which LVS needs
ipvsadm -A -t 192.0.2.1:80 -s rr
ipvsadm -a -t 192.0.2.1:80 -r 10.0.0.3:8000 -m -w 1
";
    assert_eq!(rendered(&output), expected);
    let notes = "\
note: listener local: listens at a path; LVS knows TCP ports
note: listener web: connections are balanced instead of requests, and no field is added or checked
note: upstream app: unix:/run/app.sock has no address of its own, which LVS needs
";
    assert_eq!(text(&output.stderr), notes);
}

#[test]
fn keepalived_gets_blocks() {
    let output = render("keepalived", CONFIG, &["keepalived"]);
    assert_eq!(output.status.code(), Some(0));
    let expected = "\
# listener web: 0.0.0.0 is every address of this host, LVS wants one: say which by --address
# listener local: listens at a path; LVS knows TCP ports

# listener db, upstream db
virtual_server 10.0.0.9 5432 {
    lvs_sched rr
    lvs_method NAT
    protocol TCP
    real_server 10.0.0.1 5432 {
        weight 1
    }
    real_server 10.0.0.2 5432 {
        weight 1
    }
}
";
    assert_eq!(rendered(&output), expected);
}

#[test]
fn nothing_for_lvs_is_a_failure_that_says_why() {
    let config = "[listener.web]\nbind = \"10.0.0.9:80\"\n[channel.all]\nrespond = {}\n";
    let output = render("nothing", config, &["ipvsadm"]);
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.contains("note: listener web: where a request goes depends on what it says"), "{error}");
    assert!(error.contains("error: nothing of "), "{error}");
    assert_eq!(text(&output.stdout), "");
}
