//! What can be asked about a cluster: its processes, what each node is made of and runs, and what is to change?
//!
//! Never asked of another process: every process of the cluster knows all of it from the store.

use auth::permission::Permission::{
    ChangeConfiguration, ControlModules, ControlProcesses, ViewConfiguration, ViewStatus,
};

use crate::admin::cluster;
use crate::admin::gate::Access::Needs;
use crate::admin::table::{Route, Table, get, post, text};
use crate::cluster::{ClusterView, Decision};

/// All of them.
pub(super) fn add_to(table: &mut Table) {
    table.add(
        get("/cluster", Needs(ViewStatus), "cluster", cluster::show)
            .about("How this process belongs to its cluster.")
            .answers::<ClusterView>(200, "As it is now.")
            .refuses(404, "The process belongs to no cluster."),
    );
    table.add(of_the_store(
        get("/cluster/processes", Needs(ViewStatus), "processes", cluster::processes)
            .about("Every process of the cluster.")
            .answers::<cluster::Processes>(200, "In the order in which they joined."),
    ));
    table.add(of_the_store(
        post("/cluster/processes/{process}/drain", Needs(ControlProcesses), "drain_process", cluster::drain)
            .about("Has a process finish what it has and end.")
            .answers::<cluster::ProcessView>(202, "It learns that with its next beat."),
    ));
    table.add(of_a_node(
        get("/cluster/modules", Needs(ViewStatus), "modules", cluster::modules)
            .about("What a node is made of, and what of it runs.")
            .answers::<cluster::Modules>(200, "As they are now.")
            .refuses(422, "The node's configuration cannot be read by this process."),
    ));
    table.add(of_a_node(
        post("/cluster/modules/{module}/stop", Needs(ControlModules), "stop_module", cluster::stop)
            .about("Stops a module on every process of a node.")
            .answers::<cluster::ModuleView>(200, "It is stopped; processes apply that within a second.")
            .refuses(409, "Another module needs it and runs.")
            .refuses(422, "The node's configuration cannot be read by this process."),
    ));
    table.add(of_a_node(
        post("/cluster/modules/{module}/start", Needs(ControlModules), "start_module", cluster::start)
            .about("Starts a module again.")
            .answers::<cluster::ModuleView>(200, "It is started; processes apply that within a second.")
            .refuses(409, "It needs one that does not run.")
            .refuses(422, "The node's configuration cannot be read by this process."),
    ));
    table.add(of_a_node(
        get("/cluster/config", Needs(ViewConfiguration), "node_config", cluster::config)
            .about("A version of a node's configuration.")
            .asks("version", "Its number; left out, the active one.", text())
            .answers::<cluster::VersionView>(200, "With its document."),
    ));
    table.add(of_a_node(
        get("/cluster/config/history", Needs(ViewConfiguration), "config_history", cluster::history)
            .about("The versions of a node's configuration.")
            .answers::<cluster::History>(200, "The newest first."),
    ));
    table.add(decided(
        post("/cluster/config", Needs(ChangeConfiguration), "push_config", cluster::push)
            .about("Puts a new version of a node's configuration into the store.")
            .takes::<cluster::NewVersion>()
            .with_body_max(cluster::DOCUMENT_BYTES_MAX),
    ));
    table.add(decided(
        post("/cluster/config/rollback", Needs(ChangeConfiguration), "roll_back_config", cluster::rollback)
            .about("Makes an earlier version anew.")
            .takes::<cluster::Rollback>(),
    ));
}

fn decided(route: Route) -> Route {
    of_the_store(route)
        .answers::<Decision>(200, "Every process of the node found it good: it is active.")
        .answers::<Decision>(202, "Not all processes have answered yet.")
        .refuses(409, "Somebody else was first.")
        .refuses(422, "A process found it wrong, and it is applied nowhere; or a key of the body is.")
}

/// What of a route concerns the store.
fn of_the_store(route: Route) -> Route {
    route
        .refuses(404, "There is nothing of this name, or the process belongs to no cluster.")
        .refuses(503, "The store is away; everything is served as before.")
}

fn of_a_node(route: Route) -> Route {
    of_the_store(route).asks("node", "ID of a node; left out, that of the process that answers.", text())
}
