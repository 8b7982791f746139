//! Does one process of an `active_passive` node serve at a time, whatever becomes of it?
//!
//! Never by what the processes say of themselves: requests are sent to all of them.

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use common::cluster::{Cluster, stop_at_rest, wait_for_processes};
use common::connection::Connection;
use common::engine::Engine;
use common::origin::Origin;
use common::{PATIENCE, eventually, on_both_drivers};
use rustix::process::Signal;

/// What the defaults promise after `kill -9` of the process that serves.
const TAKE_OVER_MAX: Duration = Duration::from_secs(5);

/// With the lease and the poll that are the defaults.
fn config(origin: &Origin) -> String {
    format!(
        "[node]\nid = \"edge\"\nmode = \"active_passive\"\n[listener.web]\nbind = \"127.0.0.1:0\"\n\
         [listener.relay]\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nupstream = \"app\"\n\
         [channel.all]\nrespond = {{ body = \"served\" }}\n[upstream.app]\nendpoints = [\"{}\"]\n",
        origin.address
    )
}

/// Which of these serve now.
fn serving(engines: &[&Engine]) -> Vec<usize> {
    (0..engines.len()).filter(|index| engines[*index].says() == "200 served").collect()
}

/// Waits until one of these serves, and says which.
#[track_caller]
fn wait_for_one(engines: &[&Engine]) -> usize {
    let mut found = Vec::new();
    eventually("one of them serves", || {
        found = serving(engines);
        assert!(found.len() < 2, "two serve at once");
        found.len() == 1
    });
    found[0]
}

fn epoch(engine: &Engine) -> Option<u64> {
    engine.membership()["lease_epoch"].as_u64()
}

#[test]
fn one_serves_and_when_it_is_killed_another_does() {
    on_both_drivers(|driver| {
        let origin = Origin::answering("HTTP/1.1 204 No Content\r\n\r\n");
        let cluster = Cluster::new();
        let mut engines = vec![cluster.first(driver, &config(&origin))];
        engines.extend((0..2).map(|_| cluster.join(driver, "edge")));
        wait_for_processes(&engines[0], 3);
        let active = wait_for_one(&engines.iter().collect::<Vec<_>>());
        let mut killed = engines.remove(active);
        let first = epoch(&killed).expect("it holds the lease");
        for standby in &engines {
            assert_eq!(standby.readiness(), "503 standby");
            let response = standby.connect().get("/");
            assert!(response.status() == 503 && response.head.value("retry-after").is_some(), "{response:?}");
            assert_eq!(standby.ask_admin("GET", "/endpoint-health", None).0, 503);
            assert!(!relays(standby), "a relay of a process that stands by");
        }
        assert!(relays(&killed));
        assert_eq!(killed.readiness(), "200 ok");
        killed.signal(Signal::KILL);
        let began = Instant::now();
        killed.wait();
        let next = wait_for_one(&engines.iter().collect::<Vec<_>>());
        assert!(began.elapsed() < TAKE_OVER_MAX, "{:?}", began.elapsed());
        assert!(
            epoch(&engines[next]).is_some_and(|epoch| epoch > first),
            "the epoch fences the first one off"
        );
        // Who leaves gives the lease back, and nobody waits for its end.
        let mut leaving = engines.remove(next);
        leaving.signal(Signal::TERM);
        assert!(leaving.wait().success());
        wait_for_one(&engines.iter().collect::<Vec<_>>());
    });
}

/// Whether the listener `relay` brings anything from the origin behind it.
fn relays(engine: &Engine) -> bool {
    let mut stream = TcpStream::connect(engine.listener("relay")).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    // Where it is cut off at once, that is the answer.
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    stream.read(&mut [0; 64]).is_ok_and(|count| count > 0)
}

#[test]
fn who_slept_through_its_lease_does_nothing_when_it_wakes() {
    on_both_drivers(|driver| {
        let origin = Origin::answering("HTTP/1.1 204 No Content\r\n\r\n");
        let cluster = Cluster::new();
        let both = [cluster.first(driver, &config(&origin)), cluster.join(driver, "edge")];
        wait_for_processes(&both[0], 2);
        let (active, mut kept) = stop_the_active(&both);
        let (asleep, awake) = (&both[active], &both[1 - active]);
        eventually("the other serves", || awake.says() == "200 served");
        // These are there when it wakes, before its control thread has heard anything.
        kept.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        let mut new = asleep.connect();
        new.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        asleep.signal(Signal::CONT);
        assert_eq!(kept.response().status(), 503);
        assert_eq!(new.response().status(), 503);
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until {
            assert_eq!(serving(&[asleep, awake]), [1]);
            // That nothing happens has no moment: it is looked at for a while.
            thread::sleep(Duration::from_millis(20));
        }
    });
}

/// Stops the one that serves. With a connection to it that it has served.
fn stop_the_active(both: &[Engine; 2]) -> (usize, Connection) {
    loop {
        let active = wait_for_one(&[&both[0], &both[1]]);
        let mut kept = both[active].connect();
        if kept.get("/").status() != 200 {
            continue;
        }
        if stop_at_rest(&both[active], &both[1 - active]) {
            return (active, kept);
        }
    }
}
