//! Ten processes start at once on an empty database.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::children::child;
use crate::ground::Ground;

pub(crate) async fn ten_first_starts_make_one_version_and_ten_processes(ground: Rc<Ground>) {
    let started: Vec<_> =
        (0..10).map(|_| child("joins", ground.url()).spawn().expect("this program")).collect();
    let (mut ids, mut savers) = (BTreeSet::new(), 0);
    for process in started {
        let output = process.wait_with_output().expect("its end");
        let said = String::from_utf8(output.stderr).expect("text");
        assert!(output.status.success(), "{said}");
        let (id, saved) = said.trim().split_once(' ').unwrap_or_else(|| panic!("an id and a word: {said}"));
        ids.insert(id.to_owned());
        savers += u32::from(saved == "true");
    }
    assert_eq!((ids.len(), savers), (10, 1), "{ids:?}");
    let store = ground.store().await;
    assert_eq!(store.config_history("gateway", 100).await.expect("an answer").len(), 1);
    let there: BTreeSet<_> =
        store.processes().await.expect("an answer").into_iter().map(|row| row.id).collect();
    assert_eq!(there, ids);
}
