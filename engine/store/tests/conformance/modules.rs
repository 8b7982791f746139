//! Modules that were stopped or started.

use std::rc::Rc;

use crate::ground::Ground;

pub(crate) async fn states_are_by_node_and_module(ground: Rc<Ground>) {
    let store = ground.store().await;
    assert_eq!(store.module_states("gateway").await, Ok(Vec::new()));
    store.set_module_state("gateway", "upstream.fhir", true, "eva").await.expect("noted");
    store.set_module_state("gateway", "channel.patients", true, "adam").await.expect("noted");
    store.set_module_state("admin", "upstream.fhir", true, "eva").await.expect("noted");
    let before = store.revisions().await.expect("an answer").modules;
    store.set_module_state("gateway", "upstream.fhir", false, "adam").await.expect("noted");
    assert_eq!(store.revisions().await.expect("an answer").modules, before + 1);
    let states = store.module_states("gateway").await.expect("an answer");
    let said: Vec<_> =
        states.iter().map(|state| (state.module.as_str(), state.stopped, state.by.as_str())).collect();
    assert_eq!(said, [("channel.patients", true, "adam"), ("upstream.fhir", false, "adam")]);
}
