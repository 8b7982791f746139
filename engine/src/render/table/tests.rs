//! Each of our features against LVS's, and both texts, word by word.

use super::*;
use crate::render::{ipvsadm, keepalived};

fn server(address: &str) -> Server {
    Server {
        name: address.to_owned(),
        address: address.parse().ok(),
        weight: 1,
        connections_max: None,
        connections_min: None,
        priority: 0,
    }
}

fn group(balance: &str, servers: Vec<Server>) -> Group {
    Group {
        name: "app".to_owned(),
        balance: balance.to_owned(),
        hash: None,
        persistence: None,
        is_tls: false,
        sends_proxy_header: false,
        servers,
    }
}

fn listening(address: &str) -> Listening {
    Listening {
        name: "web".to_owned(),
        protocol: Spoken::Bytes,
        address: address.parse().ok(),
        is_internal: false,
        goal: Goal::All(0),
    }
}

fn table(listening: Listening, group: Group) -> Table {
    Table::of(&Input { listeners: vec![listening], groups: vec![group] }, None)
}

fn two() -> Vec<Server> {
    vec![server("10.0.0.1:80"), server("10.0.0.2:80")]
}

#[test]
fn every_scheduler_has_its_counterpart_or_a_note() {
    let check =
        |balance: &str, hash: Option<(&str, &str)>, weight: u32, expected: &str, note: Option<&str>| {
            let mut group = group(balance, two());
            group.servers[0].weight = weight;
            group.hash = hash.map(|(on, table)| Hash { on: on.to_owned(), table: table.to_owned() });
            let table = table(listening("10.0.0.9:80"), group);
            let service = &table.services[0];
            let notes: Vec<_> = service.notes.iter().map(|note| note.what.as_str()).collect();
            assert_eq!(service.scheduler.name(), expected, "{balance} {hash:?}");
            assert_eq!(notes, note.into_iter().collect::<Vec<_>>(), "{balance} {hash:?}");
        };
    check("round_robin", None, 1, "rr", None);
    check("round_robin", None, 3, "wrr", None);
    check("round_robin", None, 0, "rr", None);
    check("least_connections", None, 1, "lc", None);
    check("least_connections", None, 2, "wlc", None);
    check("source_hash", None, 1, "sh", None);
    check("hash", Some(("source", "maglev")), 1, "mh", None);
    check("hash", Some(("source", "ketama")), 1, "sh", None);
    let address = Some("LVS hashes the address that was asked for, not the host");
    check("hash", Some(("destination", "maglev")), 1, "dh", address);
    check("hash", Some(("uri", "maglev")), 1, "wlc", Some("LVS has no hash on uri; wlc is the nearest"));
    check("shortest_expected_delay", None, 1, "sed", None);
    check("never_queue", None, 1, "nq", None);
    check("random_two", None, 1, "wlc", Some("LVS has no random_two; wlc is the nearest"));
    check("least_time", None, 1, "wlc", Some("LVS has no least_time; wlc is the nearest"));
}

#[test]
fn what_lvs_cannot_do_is_left_out_and_said() {
    let check = |change: &dyn Fn(&mut Listening, &mut Group), expected: &str| {
        let (mut listening, mut group) = (listening("10.0.0.9:80"), group("round_robin", two()));
        change(&mut listening, &mut group);
        let table = table(listening, group);
        assert!(table.services.is_empty(), "{expected}");
        let notes: Vec<_> = table.notes().map(ToString::to_string).collect();
        assert_eq!(notes, [format!("listener web: {expected}")]);
    };
    check(&|listening, _| listening.is_internal = true, "is for this process alone");
    check(
        &|listening, _| listening.goal = Goal::Several,
        "where a request goes depends on what it says, which LVS does not read",
    );
    check(&|listening, _| listening.goal = Goal::Nowhere, "leads to no upstream");
    check(
        &|listening, _| listening.protocol = Spoken::Https,
        "TLS ends here; LVS passes it on, and the endpoints would have to have the certificates",
    );
    check(&|_, group| group.is_tls = true, "its endpoints want TLS, which LVS does not speak");
    check(&|listening, _| listening.address = None, "listens at a path; LVS knows TCP ports");
    check(
        &|listening, _| listening.address = "10.0.0.9:0".parse().ok(),
        "its port is chosen by the kernel when the process starts",
    );
    check(
        &|listening, _| listening.address = "0.0.0.0:80".parse().ok(),
        "0.0.0.0 is every address of this host, LVS wants one: say which by --address",
    );
    check(
        &|_, group| group.servers = vec![server("unix:/run/app.sock")],
        "upstream app has no endpoint that LVS can reach",
    );
}

#[test]
fn what_lvs_does_otherwise_is_noted() {
    let mut listening = listening("10.0.0.9:80");
    listening.goal = Goal::Some(0);
    listening.protocol = Spoken::Http;
    let mut servers = two();
    servers.push(server("unix:/run/app.sock"));
    servers.push(server("[2001:db8::1]:80"));
    servers.push(Server { weight: 100_000, ..server("10.0.0.3:80") });
    servers.push(Server { priority: 1, ..server("10.0.0.4:80") });
    let mut group = group("round_robin", servers);
    group.sends_proxy_header = true;
    let table = table(listening, group);
    let notes: Vec<_> = table.notes().map(ToString::to_string).collect();
    assert_eq!(
        notes,
        [
            "listener web: what no channel or server name takes is refused here; LVS passes it on",
            "listener web: connections are balanced instead of requests, and no field is added or checked",
            "upstream app: LVS sends no PROXY header; the endpoints see the client's own address instead",
            "upstream app: unix:/run/app.sock has no address of its own, which LVS needs",
            "upstream app: [2001:db8::1]:80 is of another family than 10.0.0.9:80, which masquerading cannot bridge",
            "upstream app: 10.0.0.3:80: the weight 100000 is beyond LVS's 65535",
            "upstream app: ipvsadm has no endpoints that wait until the others are down",
        ]
    );
    let weights: Vec<_> = table.services[0].servers.iter().map(|server| server.weight).collect();
    assert_eq!(weights, [1, 1, 65_535]);
}

#[test]
fn an_address_of_its_own_takes_the_place_of_every_address() {
    let own = "192.0.2.1".parse().ok();
    let input = Input { listeners: vec![listening("0.0.0.0:80")], groups: vec![group("round_robin", two())] };
    assert_eq!(Table::of(&input, own).services[0].address, "192.0.2.1:80".parse().expect("an address"));
}

#[test]
fn the_words_are_those_of_the_manual_pages() {
    let mut servers = two();
    servers[0].weight = 2;
    servers[0].connections_max = Some(100);
    servers[0].connections_min = Some(80);
    servers[1].weight = 0;
    servers.push(Server { priority: 1, ..server("10.0.0.3:80") });
    let mut group4 = group("source_hash", servers);
    group4.persistence = Some(Persistence { timeout_s: 300, mask: 24, mask6: 128 });
    let mut group6 = group("never_queue", vec![server("[2001:db8::1]:443")]);
    group6.name = "six".to_owned();
    group6.persistence = Some(Persistence { timeout_s: 60, mask: 32, mask6: 64 });
    let mut six = listening("[2001:db8::9]:443");
    six.name = "six".to_owned();
    six.goal = Goal::All(1);
    let mut local = listening("10.0.0.9:1");
    local.name = "local".to_owned();
    local.is_internal = true;
    let input = Input { listeners: vec![listening("10.0.0.9:80"), six, local], groups: vec![group4, group6] };
    let table = Table::of(&input, None);
    assert_eq!(
        ipvsadm::text(&table),
        "\
# listener local: is for this process alone

# listener web, upstream app
# upstream app: ipvsadm has no endpoints that wait until the others are down
ipvsadm -A -t 10.0.0.9:80 -s sh -b sh-fallback -p 300 -M 255.255.255.0
ipvsadm -a -t 10.0.0.9:80 -r 10.0.0.1:80 -m -w 2 -x 100 -y 80
ipvsadm -a -t 10.0.0.9:80 -r 10.0.0.2:80 -m -w 0

# listener six, upstream six
ipvsadm -A -t [2001:db8::9]:443 -s nq -p 60 -M 64
ipvsadm -a -t [2001:db8::9]:443 -r [2001:db8::1]:443 -m -w 1
"
    );
    assert_eq!(
        keepalived::text(&table),
        "\
# listener local: is for this process alone

# listener web, upstream app
# upstream app: ipvsadm has no endpoints that wait until the others are down
virtual_server 10.0.0.9 80 {
    lvs_sched sh
    sh-fallback
    lvs_method NAT
    protocol TCP
    persistence_timeout 300
    persistence_granularity 255.255.255.0
    sorry_server 10.0.0.3 80
    sorry_server_lvs_method NAT
    real_server 10.0.0.1 80 {
        weight 2
        uthreshold 100
        lthreshold 80
    }
    real_server 10.0.0.2 80 {
        weight 0
    }
}

# listener six, upstream six
virtual_server 2001:db8::9 443 {
    lvs_sched nq
    lvs_method NAT
    protocol TCP
    persistence_timeout 60
    persistence_granularity 64
    real_server 2001:db8::1 443 {
        weight 1
    }
}
"
    );
}

#[test]
fn a_prefix_is_a_netmask() {
    for (prefix, mask) in [(0, "0.0.0.0"), (8, "255.0.0.0"), (24, "255.255.255.0"), (32, "255.255.255.255")] {
        assert_eq!(ipvsadm::netmask(prefix).to_string(), mask);
    }
}
