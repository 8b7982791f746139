//! What can be asked of the admin listener, and who may ask it? Every route, in one table.
//!
//! Never a route beside it: whoever looks for what a role may do looks here.

use auth::permission::Permission::{
    ChangeConfiguration, ChangeUpstreams, ViewAudit, ViewStatistics, ViewStatus,
};

use super::audit::{self, AuditPage};
use super::cluster_stats::{self, ClusterStats};
use super::configuration::{self, Kept};
use super::document::{self, Document};
use super::gate::Access::{Needs, Public};
use super::latency_query::LatencySummary;
use super::runtime_status::{self, HealthChecks, NodeStatuses};
use super::table::{Route, Table, delete, get, one_of, patch, post, text, whole};
use super::views::{
    EndpointChange, EndpointChanged, EndpointRemoved, NewEndpoint, Registered, Registration, UpstreamView,
    Upstreams,
};
use super::{process, register, upstreams};
use crate::apply::Applied;
use crate::certificates::Reloaded;
use crate::latency::Window;
use crate::metrics;
use crate::stats::Stats;

const TEXT: &str = "text/plain; charset=utf-8";

/// All of them, by subject.
pub(super) fn table() -> Table {
    let mut table = Table::default();
    of_the_process(&mut table);
    of_upstreams(&mut table);
    of_all_processes(&mut table);
    table
}

fn of_the_process(table: &mut Table) {
    table.add(
        get("/healthz", Public, "lives", process::lives)
            .about("Whether the process runs.")
            .answers_text(200, "It runs.", TEXT),
    );
    table.add(ready(get("/readyz", Public, "ready", process::ready)));
    table.add(ready(get("/endpoint-health", Public, "endpoint_health", process::ready)));
    table.add(
        get("/openapi.json", Public, "document", document::show)
            .about("This document.")
            .answers::<Document>(200, "OpenAPI 3.1."),
    );
    table.add(
        get("/stats", Needs(ViewStatistics), "stats", process::stats)
            .about("Every counter of this process, summed and by core.")
            .answers::<Stats<'_>>(200, "As they are at this moment."),
    );
    table.add(latencies(get("/stats/latency", Needs(ViewStatistics), "latency", process::latency)));
    table.add(
        get("/metrics", Needs(ViewStatistics), "metrics", process::metrics)
            .about("The same counters and latencies for collectors.")
            .answers_text(200, "OpenMetrics text.", metrics::CONTENT_TYPE),
    );
    table.add(
        post("/config/reload", Needs(ChangeConfiguration), "reload_configuration", configuration::reload)
            .about("Reads the configuration file again and applies it, as SIGHUP does.")
            .answers::<Applied>(200, "What has changed.")
            .answers::<Kept>(422, "Something is wrong with it, or cannot be had; what runs is kept.")
            .refuses(409, "The process was started without a file, or the configuration is a store's."),
    );
    table.add(
        post(
            "/certificates/reload",
            Needs(ChangeConfiguration),
            "reload_certificates",
            process::reload_certificates,
        )
        .about("Reads certificates, keys and trust again, as SIGHUP does.")
        .answers::<Reloaded>(200, "What has become of each.")
        .answers::<Reloaded>(422, "Something in the files is of no use; whom it concerns keeps what it had."),
    );
}

fn ready(route: Route) -> Route {
    route
        .about("Whether new traffic is welcome: what balancers in front ask.")
        .answers_text(200, "It is.", TEXT)
        .refuses(503, "The process drains.")
}

fn latencies(route: Route) -> Route {
    let windows = Window::ALL.map(Window::name);
    route
        .about("How long exchanges took, merged without loss.")
        .asks("channel", "Only this channel's; left out: all but internal ones.", text())
        .asks("listener", "The messages of this listener that relays bytes.", text())
        .asks(
            "phase",
            "A part of each exchange.",
            one_of(&proxy::stats::Phase::ALL.map(|phase| phase.name())),
        )
        .asks("window", "How far back.", one_of(&windows))
        .asks("format", "`hgrm` is what HdrHistogram's plotters read.", one_of(&["json", "hgrm"]))
        .answers::<LatencySummary>(200, "The distribution.")
        .answers_text(200, "The distribution.", TEXT)
}

fn of_upstreams(table: &mut Table) {
    table.add(
        get("/upstreams", Needs(ViewStatus), "upstreams", upstreams::list)
            .about("Every upstream with its endpoints, and the listeners before them.")
            .answers::<Upstreams>(200, "As they are now."),
    );
    table.add(
        get("/upstreams/{name}", Needs(ViewStatus), "upstream", upstreams::show)
            .about("One upstream with its endpoints.")
            .answers::<UpstreamView>(200, "As it is now."),
    );
    table.add(
        post("/upstreams/{name}/endpoints", Needs(ChangeUpstreams), "add_endpoint", upstreams::add)
            .about("Makes a server an endpoint of this process.")
            .takes::<NewEndpoint>()
            .answers::<EndpointChanged>(201, "It is one.")
            .answers::<EndpointChanged>(200, "It was one on the same terms.")
            .refuses(409, "It is one on other terms, or there are as many as there may be."),
    );
    table.add(
        patch(
            "/upstreams/{name}/endpoints/{endpoint}",
            Needs(ChangeUpstreams),
            "change_endpoint",
            upstreams::change,
        )
        .about("Changes its terms, drains it or takes it back up; what is left out stays.")
        .takes::<EndpointChange>()
        .answers::<EndpointChanged>(200, "As it is now."),
    );
    table.add(
        delete(
            "/upstreams/{name}/endpoints/{endpoint}",
            Needs(ChangeUpstreams),
            "remove_endpoint",
            upstreams::remove,
        )
        .about("Lets it finish what it has begun, and go.")
        .asks("now", "Without waiting for what it has begun.", one_of(&["true", "false"]))
        .answers::<EndpointChanged>(202, "It finishes what it has begun.")
        .answers::<EndpointRemoved>(200, "It is gone.")
        .refuses(409, "Something would bring it back: a name, or its registration."),
    );
    table.add(
        post("/upstreams/{name}/register", Public, "register", register::register)
            .about("What a server says of itself, with the token of the upstream: that it is there, for a while.")
            .reads_field("Authorization", "`Bearer` and what is in `register.token_file`.", text())
            .takes::<Registration>()
            .answers::<Registered>(201, "It is an endpoint.")
            .answers::<Registered>(200, "It goes on to be one.")
            .refuses(401, "The token is missing or wrong.")
            .refuses(403, "The upstream lets no server register, or a page of another site has sent it.")
            .refuses(409, "It is one already that needs no lease, or there are as many as there may be."),
    );
    table.add(
        delete("/upstreams/{name}/register/{endpoint}", Public, "leave", register::leave)
            .about("What a server says of itself, with the token of the upstream: that it goes.")
            .reads_field("Authorization", "`Bearer` and what is in `register.token_file`.", text())
            .answers::<EndpointChanged>(202, "It finishes what it has begun.")
            .refuses(401, "The token is missing or wrong.")
            .refuses(403, "The upstream lets no server register, or a page of another site has sent it.")
            .refuses(409, "It has not registered itself."),
    );
}

/// What is known of every process of the cluster; of this one, where it belongs to none.
fn of_all_processes(table: &mut Table) {
    table.add(
        get(
            "/runtime-status/node-statuses/complete",
            Needs(ViewStatus),
            "node_statuses",
            runtime_status::complete,
        )
        .about("Every node, process and module, and whether it runs.")
        .answers::<NodeStatuses>(200, "As they are known."),
    );
    table.add(
        get(
            "/runtime-status/node-statuses/health-checks",
            Needs(ViewStatus),
            "health_checks",
            runtime_status::health_checks,
        )
        .about("What the modules of every process stand on, and whether it is well.")
        .answers::<HealthChecks>(200, "As they are known."),
    );
    table.add(
        get("/cluster/stats", Needs(ViewStatistics), "cluster_stats", cluster_stats::stats)
            .about("Every counter of all processes of the cluster together, those that are gone included.")
            .answers::<ClusterStats>(200, "Of others, as they were some seconds ago.")
            .refuses(400, "There is no such parameter.")
            .refuses(503, "The store does not answer, and has not yet."),
    );
    table.add(
        get("/cluster/stats/latency", Needs(ViewStatistics), "cluster_latency", cluster_stats::latency)
            .about("How long exchanges of all processes took, merged without loss.")
            .asks("channel", "Only this channel's; left out: all but internal ones.", text())
            .asks("listener", "The messages of this listener that relays bytes.", text())
            .asks(
                "phase",
                "A part of each exchange.",
                one_of(&proxy::stats::Phase::ALL.map(|phase| phase.name())),
            )
            .asks("format", "`hgrm` is what HdrHistogram's plotters read.", one_of(&["json", "hgrm"]))
            .answers::<LatencySummary>(200, "The distribution since the beginning.")
            .answers_text(200, "The distribution since the beginning.", TEXT)
            .refuses(503, "The store does not answer, and has not yet."),
    );
    table.add(
        get("/audit", Needs(ViewAudit), "audit", audit::show)
            .about("Who changed what in the cluster, the newest first.")
            .asks("actor", "Only what this user or client did.", text())
            .asks("action", "Only this operation.", text())
            .asks("subject", "Only what was done to this.", text())
            .asks("node", "Only what was done at this node.", text())
            .asks("limit", "How many at most; 100 if left out.", whole(1, audit::PAGE_MAX))
            .asks("before", "Only entries with a lower ID.", whole(1, u32::MAX.into()))
            .answers::<AuditPage>(200, "With what `before` is to be for the next page.")
            .refuses(404, "The process belongs to no cluster: what it changed is in its log.")
            .refuses(503, "The store does not answer."),
    );
}
