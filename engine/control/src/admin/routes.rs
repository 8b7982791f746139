//! What can be asked of the admin listener, and who may ask it? Every route, in one table.
//!
//! Never a route beside it: whoever looks for what a role may do looks here.

mod cluster;

use auth::permission::Permission::{
    ChangeConfiguration, ChangeUpstreams, ControlProcesses, ManageClients, ManageKeys, ManageUsers,
    ViewAudit, ViewStatistics, ViewStatus,
};
use proxy::stats::Phase;

use super::audit::{self, AuditPage};
use super::clients::{ClientChanged, ClientView, Clients, NewClient};
use super::cluster_stats::{self, ClusterStats};
use super::configuration::{self, Kept};
use super::document::{self, Document};
use super::gate::Access::{Needs, Public};
use super::latency_query::{Latencies, LatencySummary};
use super::login::{Login, SessionView};
use super::process::Reopened;
use super::process_control::{Draining, NewLogLevel, ToDrain};
use super::runtime_status::{self, HealthChecks, NodeStatuses};
use super::table::{Route, Table, delete, get, one_of, patch, post, put, text, whole};
use super::tokens::{Keys, Revocation, Revoked, Rotated, TokenView};
use super::users::{NewUser, UserChanged, UserView, Users};
use super::views::{
    EndpointChange, EndpointChanged, EndpointRemoved, NewEndpoint, Registered, Registration, UpstreamView,
    Upstreams,
};
use super::{clients, login, process, process_control, register, tokens, upgrade, upstreams, users};
use crate::apply::Applied;
use crate::certificates::Reloaded;
use crate::latency::Window;
use crate::log_level::LogLevelView;
use crate::metrics::Form;
use crate::plan::Plan;
use crate::stats::Stats;
use crate::upgrade::Upgraded;

const TEXT: &str = "text/plain; charset=utf-8";

/// All of them, by subject.
pub(super) fn table() -> Table {
    let mut table = Table::default();
    of_the_process(&mut table);
    of_its_running(&mut table);
    replacing(&mut table);
    of_upstreams(&mut table);
    of_all_processes(&mut table);
    of_logins(&mut table);
    of_users(&mut table);
    of_tokens(&mut table);
    cluster::add_to(&mut table);
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
        get("/stats/latencies", Needs(ViewStatistics), "latencies", process::latencies)
            .about("How long exchanges took, of each channel and listener that had any.")
            .asks("phase", "A part of each exchange.", one_of(&Phase::ALL.map(|phase| phase.name())))
            .asks("window", "How far back.", one_of(&Window::ALL.map(Window::name)))
            .answers::<Latencies>(200, "The distributions, and that of all."),
    );
    table.add(
        get("/metrics", Needs(ViewStatistics), "metrics", process::metrics)
            .about("The same counters and latencies for collectors.")
            .answers_text(
                200,
                "To who asks for it OpenMetrics, else plain text.",
                Form::OpenMetrics.content_type(),
            )
            .answers_text(
                200,
                "To who asks for it OpenMetrics, else plain text.",
                Form::Plain.content_type(),
            ),
    );
    table.add(
        post("/config/reload", Needs(ChangeConfiguration), "reload_configuration", configuration::reload)
            .about("Reads the configuration file again and applies it, as SIGHUP does.")
            .answers::<Applied>(200, "What has changed.")
            .answers::<Kept>(422, "Something is wrong with it, or cannot be had; what runs is kept.")
            .refuses(409, "The process was started without a file, or the configuration is a store's."),
    );
    table.add(
        post("/config/diff", Needs(ChangeConfiguration), "compare_configuration", configuration::diff)
            .about("What a reload would do, without doing it.")
            .takes::<configuration::Other>()
            .with_body_max(super::cluster::DOCUMENT_BYTES_MAX)
            .answers::<Plan>(200, "Table by table and key by key.")
            .answers::<configuration::NoPlan>(422, "Something is wrong with it, or cannot be had; or a key of the body is wrong.")
            .refuses(409, "The process was started without a file and none was sent, or the configuration is a store's."),
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

fn of_its_running(table: &mut Table) {
    table.add(
        get("/log-level", Needs(ViewStatus), "log_level", process_control::log_level)
            .about("Which log lines the process writes.")
            .answers::<LogLevelView>(200, "As it is now."),
    );
    table.add(
        put("/log-level", Needs(ControlProcesses), "set_log_level", process_control::set_log_level)
            .about("Has the process write other log lines, for good or for a while.")
            .takes::<NewLogLevel>()
            .answers::<LogLevelView>(200, "As it is now."),
    );
    table.add(
        post("/logs/reopen", Needs(ControlProcesses), "reopen_logs", process::reopen_logs)
            .about("Opens the files of access logs anew, as SIGUSR1 does: somebody has moved them.")
            .answers::<Reopened>(200, "They are being opened."),
    );
    table.add(
        post("/process/drain", Needs(ControlProcesses), "drain_this_process", process_control::drain)
            .about("Has the process that answers finish what it has and end, as SIGTERM does.")
            .takes::<ToDrain>()
            .answers::<Draining>(202, "It drains.")
            .refuses(409, "Another process answers here than the one that is meant."),
    );
}

fn replacing(table: &mut Table) {
    table.add(
        post("/process/upgrade", Needs(ControlProcesses), "upgrade", upgrade::upgrade)
            .about(
                "Starts the program again, which takes the sockets over, and drains then, as SIGUSR2 does.",
            )
            .answers::<Upgraded>(200, "The new process serves.")
            .refuses(409, "An upgrade is under way, the process drains, or it is the first of its container.")
            .refuses(422, "The new process did not serve; this one goes on as before."),
    );
}

fn ready(route: Route) -> Route {
    route
        .about("Whether new traffic is welcome: what balancers in front ask.")
        .answers_text(200, "It is.", TEXT)
        .refuses(503, "The process drains, or another of its node serves.")
}

fn latencies(route: Route) -> Route {
    let windows = Window::ALL.map(Window::name);
    route
        .about("How long exchanges took, merged without loss.")
        .asks("channel", "Only this channel's; left out: all but internal ones.", text())
        .asks("listener", "The messages of this listener that relays bytes.", text())
        .asks("phase", "A part of each exchange.", one_of(&Phase::ALL.map(|phase| phase.name())))
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
            .asks("phase", "A part of each exchange.", one_of(&Phase::ALL.map(|phase| phase.name())))
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

fn of_logins(table: &mut Table) {
    table.add(
        post("/login", Public, "log_in", login::log_in)
            .about("Begins a session, whose id is a cookie that no page can read.")
            .takes::<Login>()
            .answers::<SessionView>(200, "Who is logged in now.")
            .refuses(401, "The name or the password is wrong.")
            .refuses(404, "Admin asks for no users.")
            .refuses(429, "Too many logins of this user or from this address have failed.")
            .needs_the_store(),
    );
    table.add(
        post("/logout", Public, "log_out", login::log_out)
            .about("Ends the session, in all processes.")
            .reads_field("X-CSRF-Token", "What the log-in gave.", text())
            .answers_nothing(204, "It is over.")
            .refuses(401, "Nobody is logged in.")
            .refuses(429, "Too many logins of this user or from this address have failed.")
            .needs_the_store(),
    );
    table.add(
        get("/session", Public, "session", login::show)
            .about("Who sends this, and what he may do.")
            .answers::<SessionView>(200, "Who it is.")
            .refuses(401, "Nobody is logged in.")
            .refuses(429, "Too many logins of this user or from this address have failed.")
            .needs_the_store(),
    );
}

fn of_users(table: &mut Table) {
    table.add(
        get("/users", Needs(ManageUsers), "users", users::list)
            .about("Everybody who may log in.")
            .answers::<Users>(200, "As they are now.")
            .needs_the_store(),
    );
    table.add(
        post("/users", Needs(ManageUsers), "add_user", users::add)
            .about("Adds a user.")
            .takes::<NewUser>()
            .answers::<UserView>(201, "He may log in.")
            .refuses(409, "There is one of this name.")
            .needs_the_store(),
    );
    table.add(
        patch("/users/{user}", Needs(ManageUsers), "change_user", users::change)
            .about("Changes a user, and ends his sessions; what is left out stays.")
            .takes::<UserChanged>()
            .answers::<UserView>(200, "As he is now.")
            .refuses(
                409,
                "He is the last with the role administrator, or somebody else has changed him meanwhile.",
            )
            .needs_the_store(),
    );
    table.add(
        delete("/users/{user}", Needs(ManageUsers), "remove_user", users::remove)
            .about("Removes a user, and ends his sessions.")
            .answers_nothing(204, "He is gone.")
            .refuses(409, "He is the last with the role administrator.")
            .needs_the_store(),
    );
    table.add(
        get("/clients", Needs(ManageClients), "clients", clients::list)
            .about("Every program that is given tokens.")
            .answers::<Clients>(200, "As they are now.")
            .needs_the_store(),
    );
    table.add(
        post("/clients", Needs(ManageClients), "add_client", clients::add)
            .about("Adds a client. The answer has its secret, which nobody can show again.")
            .takes::<NewClient>()
            .answers::<ClientView>(201, "It is given tokens.")
            .refuses(409, "There is one of this name.")
            .needs_the_store(),
    );
    table.add(
        patch("/clients/{client}", Needs(ManageClients), "change_client", clients::change)
            .about("Changes a client, or has another secret made; what is left out stays.")
            .takes::<ClientChanged>()
            .answers::<ClientView>(200, "As it is now.")
            .refuses(409, "Somebody else has changed it meanwhile.")
            .needs_the_store(),
    );
    table.add(
        delete("/clients/{client}", Needs(ManageClients), "remove_client", clients::remove)
            .about("Removes a client. What it was given holds until it is over, or revoked.")
            .answers_nothing(204, "It is gone.")
            .needs_the_store(),
    );
}

fn of_tokens(table: &mut Table) {
    table.add(
        post("/token", Public, "token", tokens::give)
            .about("A token for a client: OAuth 2.0 client credentials (RFC 6749, 4.4).")
            .takes_form(&["grant_type", "scope", "client_id", "client_secret"])
            .reads_field("Authorization", "`Basic` with the client's name and secret.", text())
            .answers::<TokenView>(200, "The token.")
            .refuses(400, "Something is missing, or asked for that the client was not given.")
            .refuses(401, "The client or its secret is not known.")
            .refuses(404, "This node issues no tokens.")
            .refuses(429, "Too many tries of this client have failed.")
            .needs_the_store(),
    );
    table.add(
        post("/token/revoke", Public, "give_back_token", tokens::take_back)
            .about("Takes a client's own token back (RFC 7009).")
            .takes_form(&["token", "client_id", "client_secret"])
            .reads_field("Authorization", "`Basic` with the client's name and secret.", text())
            .answers_nothing(200, "It is believed no more.")
            .refuses(400, "Something is missing.")
            .refuses(401, "The client or its secret is not known.")
            .refuses(404, "This node issues no tokens.")
            .refuses(429, "Too many tries of this client have failed.")
            .needs_the_store(),
    );
    table.add(
        post("/tokens/revoke", Needs(ManageClients), "revoke_token", tokens::revoke)
            .about("Takes any token back that this node has issued.")
            .takes::<Revocation>()
            .answers::<Revoked>(200, "Whether it was one that held.")
            .refuses(404, "This node issues no tokens.")
            .needs_the_store(),
    );
    table.add(
        get("/jwks", Public, "jwks", tokens::keys)
            .about("The public keys that tokens of this node are verified with (RFC 7517).")
            .answers::<Keys>(200, "As they are now.")
            .refuses(404, "This node issues no tokens."),
    );
    table.add(
        post("/keys/rotate", Needs(ManageKeys), "rotate_keys", tokens::rotate)
            .about("Makes the next key for tokens. What the last one signed is believed until it is over.")
            .answers::<Rotated>(200, "It signs in a few seconds.")
            .refuses(404, "This node issues no tokens.")
            .needs_the_store(),
    );
}
