//! A process is killed while it commits: what was there is there, or what is new, and never half of it.

use std::io::{BufRead, BufReader};
use std::rc::Rc;
use std::time::Duration;

use store::{ConfigState, Store};

use super::children::{assert_sound, assert_whole, child};
use crate::ground::Ground;

/// How often, unless `STORE_TEST_KILLS` says otherwise.
const KILLS: u32 = 15;

/// Within how many milliseconds after a commit, unevenly: it takes some, so that every part of one is met.
const SPREAD_MS: u32 = 40;

pub(crate) async fn a_commit_is_whole_or_was_not(ground: Rc<Ground>) {
    let kills = std::env::var("STORE_TEST_KILLS").map_or(KILLS, |said| said.parse().expect("a number"));
    let mut last = 0;
    for round in 0..kills {
        let said = killed_after(&ground, Duration::from_millis(u64::from((round * 17) % SPREAD_MS)));
        let store = ground.store().await;
        let version = check(&store).await;
        assert!(version >= said, "round {round}: version {said} was said to be active, and {version} is");
        assert!(version > last || round == 0, "round {round}: nothing was written since {last}");
        last = version;
        store.close().await;
        if let Some(file) = ground.settings().url.file() {
            assert_sound(&file.display().to_string()).await;
        }
    }
}

/// Lets a child publish, and kills it so long after the first version that it said to be active. The last one that it said.
fn killed_after(ground: &Ground, delay: Duration) -> u64 {
    let mut process = child("publishes", ground.url()).spawn().expect("this program");
    let mut said = BufReader::new(process.stderr.take().expect("a pipe")).lines();
    let parse = |line: std::io::Result<String>| {
        let line = line.expect("text");
        line.parse::<u64>().unwrap_or_else(|_| panic!("the child says: {line}"))
    };
    // The second tells that it has written by itself.
    let mut last = [said.next(), said.next()].map(|line| parse(line.expect("it publishes")))[1];
    // Nothing is waited for: it is to be met wherever it is.
    std::thread::sleep(delay);
    process.kill().expect("it runs");
    for line in said {
        last = parse(line);
    }
    process.wait().expect("its end");
    last
}

/// That all there is belongs together. The version that is active.
async fn check(store: &Store) -> u64 {
    let history = store.config_history("gateway", 10_000).await.expect("an answer");
    let newest = history.first().expect("a version").version;
    let versions: Vec<_> = history.iter().map(|one| one.version).collect();
    assert_eq!(versions, (1..=newest).rev().collect::<Vec<_>>(), "no gap");
    let active: Vec<_> =
        history.iter().filter(|one| one.state == ConfigState::Active).map(|one| one.version).collect();
    assert_eq!(active.len(), 1, "one is active");
    let proposed: Vec<_> =
        history.iter().filter(|one| one.state == ConfigState::Proposed).map(|one| one.version).collect();
    assert!(
        proposed.is_empty() || proposed == [newest] && active == [newest - 1],
        "{proposed:?} after {active:?}"
    );
    for version in [newest, active[0]] {
        assert_whole(
            &store
                .config_version("gateway", version)
                .await
                .expect("an answer")
                .expect("it is in the history"),
        );
    }
    let current = store.current_config("gateway").await.expect("an answer").expect("a version");
    assert_eq!(current.summary.version, active[0]);
    let nodes = store.nodes().await.expect("an answer");
    assert_eq!(nodes[0].config_version, Some(active[0]), "the node and its version agree");
    active[0]
}
