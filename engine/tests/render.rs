//! Does `engine render` say to LVS and to systemd what a configuration says? Whole texts, word by word.
//!
//! Nothing here touches the kernel, or a systemd that runs.

use std::fs;
use std::io::{self, Write};
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

/// What a unit depends on: a port below 1024, a socket in a directory of its own, a long drain.
const FOR_A_UNIT: &str = r#"
[process]
drain_timeout = "2m"

[listener.web]
bind = "0.0.0.0:80"

[listener.local]
bind = "unix:/srv/sockets/web.sock"

[channel.all]
respond = {}
"#;

/// A unit without the lines that name this test's own files.
#[track_caller]
fn unit(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let is_own = |line: &&str| line.starts_with("ExecStart=");
    rendered(output).lines().filter(|line| !is_own(line)).map(|line| format!("{line}\n")).collect()
}

#[test]
fn systemd_gets_a_unit_that_takes_away_what_is_not_needed() {
    let output = render("unit", FOR_A_UNIT, &["systemd", "--program", "/usr/bin/corelane"]);
    assert!(
        rendered(&output).contains("\nExecStart=/usr/bin/corelane --config /"),
        "{}",
        text(&output.stdout)
    );
    assert_eq!(unit(&output), include_str!("render.service"));
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn an_older_systemd_gets_a_unit_that_it_understands() {
    let output = render("older", FOR_A_UNIT, &["systemd", "--systemd-version", "252"]);
    let unit = unit(&output);
    assert!(unit.contains("\nType=notify\nExecReload=/bin/sh -c 'kill -HUP $MAINPID'\n"), "{unit}");
    assert!(!unit.contains("\nType=notify-reload"), "{unit}");
}

#[test]
fn a_unit_has_no_capability_without_a_port_that_takes_it() {
    let output = render("ports", &FOR_A_UNIT.replace(":80", ":8080"), &["systemd"]);
    let unit = unit(&output);
    assert!(
        unit.contains("\nCapabilityBoundingSet=\n") && !unit.contains("\nAmbientCapabilities="),
        "{unit}"
    );
}

#[test]
fn what_a_unit_keeps_from_working_is_said() {
    let config =
        FOR_A_UNIT.replace("/srv/sockets", "/tmp").replace("[process]", "[process]\nuser = \"nobody\"");
    let output = render("notes", &config, &["systemd"]);
    let notes = text(&output.stderr);
    assert!(
        notes.contains("note: unit: nobody else sees what the service puts into /tmp (PrivateTmp=yes)"),
        "{notes}"
    );
    assert!(
        notes.contains("note: unit: the service begins as corelane, which is not to change (process.user)"),
        "{notes}"
    );
}

#[test]
fn a_unit_passes_systemd_s_own_examination() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("units-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("a writable directory");
    let path = directory.join("corelane.service");
    // The one that every systemd of today understands.
    fs::write(&path, render("verify", FOR_A_UNIT, &["systemd", "--systemd-version", "252"]).stdout)
        .expect("ours");
    let examine = |arguments: &[&str]| Command::new("systemd-analyze").args(arguments).arg(&path).output();
    match (examine(&["verify"]), examine(&["security", "--offline=true", "--threshold=20", "--no-pager"])) {
        (Ok(verified), Ok(secure)) => {
            assert!(verified.status.success(), "{}", text(&verified.stderr));
            let said: Vec<_> =
                text(&verified.stderr).lines().filter(|line| line.contains("corelane.service")).collect();
            assert!(said.is_empty(), "{said:?}");
            assert!(secure.status.success(), "{}", text(&secure.stdout));
        }
        _ => {
            let _ = writeln!(io::stderr(), "not tested: there is no systemd-analyze here (Debian: systemd)");
        }
    }
    fs::remove_dir_all(&directory).expect("ours");
}
