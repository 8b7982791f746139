//! Do `--listen` and `--to` make the proxy they promise, and is a mistake in them named by the flag?

use config::{Loaded, Problems, quick_proxy};

fn flags(listen: &[&str], to: &[&str]) -> Result<Loaded, Problems> {
    let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    quick_proxy(&owned(listen), &owned(to))
}

#[test]
fn flags_make_a_proxy() {
    let loaded =
        flags(&["127.0.0.1:8080", "[::1]:8081"], &["10.0.0.1:80,10.0.0.2:80", "10.0.0.3:80"]).unwrap();
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let snapshot = loaded.snapshot;
    let listeners: Vec<_> = snapshot.listeners.iter().map(|l| format!("{} {}", l.name, l.bind)).collect();
    assert_eq!(listeners, ["web 127.0.0.1:8080", "web-2 [::1]:8081"]);
    let endpoints: Vec<_> =
        snapshot.upstreams[0].endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
    assert_eq!(endpoints, ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]);
    assert_eq!(
        (snapshot.upstreams[0].name.as_str(), snapshot.channels[0].name.as_str()),
        ("upstream", "default")
    );
    assert_eq!(snapshot.admin.map(|admin| admin.bind.port()), Some(9000));
}

#[test]
fn problems_of_flags_are_named_by_the_flag_and_placed_in_it() {
    let check = |listen: &[&str], to: &[&str], expected: &[&str]| {
        let problems = flags(listen, to).expect_err("wrong flags");
        assert_eq!(problems.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
    };
    check(
        &["127.0.0.1"],
        &["10.0.0.1:80,10.0.0:80", "10.0.0.1:0"],
        &[
            "command line:1:10: --listen: the port is missing (for example \"127.0.0.1:8080\")",
            "command line:1:37: --to: \"10.0.0\" is neither an address nor a name: the last label of a name has a letter (each number of an address is 0 to 255)",
            "command line:1:52: --to: port 0 cannot be connected to",
        ],
    );
    let taken =
        "command line:1:10: --listen: 127.0.0.1:9000 is already bound by admin.bind (choose another port)";
    check(&["127.0.0.1:9000"], &["10.0.0.1:80"], &[taken]);
    let twice = "command line:1:22: --listen: 127.0.0.1:1 is already bound by --listen (choose another port)";
    check(&["127.0.0.1:1,127.0.0.1:1"], &["10.0.0.1:80"], &[twice]);
    let none = "command line:1:17: --listen: no listener is defined (add [listener.web] with bind = \"127.0.0.1:8080\")";
    check(&[], &["10.0.0.1:80"], &[none]);
}
