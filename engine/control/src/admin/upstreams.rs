//! Who are the endpoints, and who is to be one? Read, added, changed and removed while the process runs.
//!
//! Never writes the configuration file: every answer to a change says so. Never breaks what is in progress.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, RequestExt};
use config::snapshot::{EndpointAddress, EndpointId, EndpointTerms, UpstreamId};
use proxy::address::Address;
use proxy::roster::keeper::KeeperError;
use proxy::roster::member::{Member, Source};

use super::body::{Object, missing, wrong};
use super::extract::{Path, Query};
use super::views::{EndpointChanged, EndpointRemoved, EndpointView, UpstreamView, Upstreams};
use super::{AppState, Refusal, cross_site};
use crate::live::Live;
use crate::membership::{Joined, Newcomer};

/// What every change is answered with, besides the endpoint: nobody is to be surprised by a restart.
const NOTE: &str = "not written to the configuration file: a restart forgets it";

/// Weights as the configuration takes them.
const WEIGHT_MAX: u32 = 65_535;

/// Connections as the configuration takes them.
const CONNECTIONS_MAX: u32 = 1_000_000;

/// `GET /upstreams`.
pub(super) async fn list(State(shared): AppState) -> Json<Upstreams> {
    Json(Upstreams::of(&shared.live()))
}

/// `GET /upstreams/NAME`.
pub(super) async fn show(
    State(shared): AppState,
    Path(name): Path<String>,
) -> Result<Json<UpstreamView>, Refusal> {
    let live = shared.live();
    let id = upstream(&live, &name)?;
    Ok(Json(UpstreamView::of(&live, id)))
}

/// `POST /upstreams/NAME/endpoints`: 201, or 200 for one that is an endpoint on the same terms.
pub(super) async fn add(
    State(shared): AppState,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    upstream(&shared.live(), &name)?;
    let mut object = read(request).await?;
    // Only now: while the body came there may have been another generation.
    let live = shared.live();
    let id = upstream(&live, &name)?;
    let address = address(&live, id, &mut object)?;
    // For one that is there, what is left out is as it is.
    let known = {
        let keeper = live.keeper();
        keeper.find_at(id, &address).and_then(|endpoint| keeper.terms(id, endpoint).cloned())
    };
    let terms = terms(&mut object, known.unwrap_or_default())?;
    object.finish()?;
    let newcomer = Newcomer { address, host: None, terms, source: Source::Added };
    let joined = live.join(id, newcomer).map_err(|error| refusal(&error))?;
    match joined {
        Joined::Added(endpoint) => {
            tell(&live, id, endpoint, "added");
            Ok(changed(&live, id, endpoint, StatusCode::CREATED))
        }
        Joined::Stays(endpoint) => Ok(changed(&live, id, endpoint, StatusCode::OK)),
        Joined::Differs(_) => {
            Err(Refusal::new(StatusCode::CONFLICT, "is an endpoint already, on other terms")
                .at("address")
                .help("change them by PATCH /upstreams/NAME/endpoints/ADDRESS"))
        }
    }
}

/// `PATCH /upstreams/NAME/endpoints/ADDRESS`: keys that are left out stay as they are.
pub(super) async fn change(
    State(shared): AppState,
    Path((name, endpoint)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Refusal> {
    let live = shared.live();
    self::endpoint(&live, upstream(&live, &name)?, &endpoint)?;
    let mut object = read(request).await?;
    // Again: while the body came there may have been another generation.
    let live = shared.live();
    let id = upstream(&live, &name)?;
    let endpoint = self::endpoint(&live, id, &endpoint)?;
    let before = live.terms(id, endpoint).ok_or_else(|| refusal(&KeeperError::Vacant))?;
    let terms = terms(&mut object, before.clone())?;
    let is_draining = match object.text("state")?.as_deref() {
        None => None,
        Some("up") => Some(false),
        Some("drain" | "draining") => Some(true),
        Some(other) => {
            return Err(wrong("state", format!("unknown state {other:?}")).help("known: up, drain"));
        }
    };
    object.finish()?;
    if terms != before {
        let set = live.change_roster(id, |keeper| keeper.set_terms(id, endpoint, terms));
        set.map_err(|error| refusal(&error))?;
        tell(&live, id, endpoint, "changed");
    }
    if let Some(is_draining) = is_draining {
        live.drain(id, endpoint, is_draining).map_err(|error| refusal(&error))?;
        tell(&live, id, endpoint, if is_draining { "draining" } else { "up" });
    }
    Ok(changed(&live, id, endpoint, StatusCode::OK))
}

/// `DELETE /upstreams/NAME/endpoints/ADDRESS`: 202 while it finishes what it has begun, or 200 with `?now=true`.
pub(super) async fn remove(
    State(shared): AppState,
    Path((name, endpoint)): Path<(String, String)>,
    query: Query,
) -> Result<Response, Refusal> {
    let live = shared.live();
    let id = upstream(&live, &name)?;
    let endpoint = self::endpoint(&live, id, &endpoint)?;
    let [now] = query.only(["now"])?;
    let is_now = match now {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => {
            return Err(Refusal::new(StatusCode::BAD_REQUEST, format!("now cannot be {other:?}"))
                .at("now")
                .help("now=true does not wait for what the endpoint has begun"));
        }
    };
    let member = live.member(id, endpoint).ok_or_else(|| refusal(&KeeperError::Vacant))?;
    if let Some(name) = live.names.standing_for(id, &member.address) {
        let cause = format!("{name} stands for it, and would bring it back");
        let help = "change what the name server says, or PATCH {\"state\": \"drain\"}";
        return Err(Refusal::new(StatusCode::CONFLICT, cause).help(help));
    }
    if member.source == Source::Registered && live.leases.contains(endpoint) {
        let help = "DELETE /upstreams/NAME/register/ADDRESS ends its lease; PATCH {\"state\": \"drain\"} outlasts its word";
        return Err(
            Refusal::new(StatusCode::CONFLICT, "it has registered itself, and would come back").help(help)
        );
    }
    if is_now {
        let endpoint_before = EndpointView::of(&live, &member);
        tell(&live, id, endpoint, "removed");
        live.remove(id, endpoint).map_err(|error| refusal(&error))?;
        return Ok(
            Json(EndpointRemoved { endpoint: endpoint_before, removed: true, note: NOTE }).into_response()
        );
    }
    live.leave(id, endpoint).map_err(|error| refusal(&error))?;
    tell(&live, id, endpoint, "leaving");
    Ok(changed(&live, id, endpoint, StatusCode::ACCEPTED))
}

/// The upstream of this name.
pub(super) fn upstream(live: &Live, name: &str) -> Result<UpstreamId, Refusal> {
    let mut upstreams = (0..).map(UpstreamId).zip(&live.snapshot.upstreams);
    let found = upstreams.find(|(_, upstream)| upstream.name == name).map(|(id, _)| id);
    found.ok_or_else(|| {
        let known: Vec<_> = live.snapshot.upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
        Refusal::new(StatusCode::NOT_FOUND, format!("there is no upstream {name:?}"))
            .help(format!("known: {}", known.join(", ")))
    })
}

pub(super) fn endpoint(live: &Live, upstream: UpstreamId, text: &str) -> Result<EndpointId, Refusal> {
    live.endpoint_named(upstream, text).ok_or_else(|| {
        let members = live.roster.members(upstream);
        let known: Vec<_> = members.all.iter().map(|member| &*member.name).collect();
        Refusal::new(StatusCode::NOT_FOUND, format!("there is no endpoint {text:?}"))
            .help(format!("known: {}", known.join(", ")))
    })
}

/// The object in a request's body, which has to say that it is JSON.
pub(super) async fn read(request: Request) -> Result<Object, Refusal> {
    if !cross_site::is_json(&request) {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the body does not say that it is JSON",
        )
        .at("Content-Type")
        .help("send Content-Type: application/json"));
    }
    let bytes: Bytes = request.extract().await.map_err(|_| {
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long, or broke off")
            .help("a few keys are enough")
    })?;
    Object::parse(&bytes)
}

/// Where an endpoint is to be: somewhere that can be connected to as it is, and that can prove who it is where it must.
pub(super) fn address(live: &Live, upstream: UpstreamId, object: &mut Object) -> Result<Address, Refusal> {
    let Some(text) = object.text("address")? else {
        return Err(missing("address", "{\"address\": \"10.0.0.3:8000\"}"));
    };
    let parsed = config::parse_address(&text);
    let address = parsed.map_err(|(cause, help)| match help {
        Some(help) => wrong("address", cause).help(help),
        None => wrong("address", cause),
    })?;
    match address {
        EndpointAddress::Tcp(address) => Ok(Address::Tcp(address)),
        EndpointAddress::Unix(path) => {
            let tls = live.snapshot.upstreams[usize::from(upstream.0)].tls.as_ref();
            if tls.is_some_and(|tls| tls.server_name.is_none()) {
                return Err(wrong(
                    "address",
                    "a certificate cannot hold a path, and the upstream has no tls.server_name",
                ));
            }
            Ok(Address::Unix(path.into()))
        }
        EndpointAddress::Listener(_) => {
            Err(wrong("address", "a listener of this process can only be written"))
        }
    }
}

/// The terms that are given, those that are not as they were.
pub(super) fn terms(object: &mut Object, before: EndpointTerms) -> Result<EndpointTerms, Refusal> {
    let weight = object.number("weight", 0..=WEIGHT_MAX)?.and_then(|weight| u16::try_from(weight).ok());
    let priority =
        object.number("priority", 0..=u32::from(u8::MAX))?.and_then(|priority| u8::try_from(priority).ok());
    let connections_max = object.number("max_connections", 1..=CONNECTIONS_MAX)?.or(before.connections_max);
    let connections_min = object.number("min_connections", 0..=CONNECTIONS_MAX)?;
    let connections_min = connections_min.map(|min| EndpointTerms::lower_threshold(min, connections_max));
    let connections_min = connections_min.or(before.connections_min);
    let zone = object.text("zone")?;
    if let Some((cause, help)) = zone.as_deref().and_then(|zone| config::check_zone(zone).err()) {
        let refusal = wrong("zone", cause);
        return Err(match help {
            Some(help) => refusal.help(help),
            None => refusal,
        });
    }
    match (connections_max, connections_min) {
        (None, Some(_)) => return Err(wrong("min_connections", "means nothing without max_connections")),
        (Some(max), Some(min)) if min > max => {
            let cause = format!("must be at most max_connections, {max}, and is {min}");
            return Err(wrong("min_connections", cause));
        }
        _ => {}
    }
    Ok(EndpointTerms {
        weight: weight.unwrap_or(before.weight),
        priority: priority.unwrap_or(before.priority),
        zone: zone.map(Arc::from).or(before.zone),
        connections_max,
        connections_min,
    })
}

pub(super) fn refusal(error: &KeeperError) -> Refusal {
    match error {
        KeeperError::Full { .. } => Refusal::new(StatusCode::CONFLICT, error.to_string())
            .help("remove one, or raise endpoints_max in the configuration file"),
        KeeperError::Exists(_) => Refusal::new(StatusCode::CONFLICT, error.to_string()),
        KeeperError::Vacant => Refusal::new(StatusCode::NOT_FOUND, error.to_string()),
    }
}

/// One line in the log for each change.
pub(super) fn tell(live: &Live, upstream: UpstreamId, endpoint: EndpointId, what: &str) {
    let Some(member) = live.member(upstream, endpoint) else { return };
    let name = &live.snapshot.upstreams[usize::from(upstream.0)].name;
    tracing::info!("upstream {name}: {} {what} by the admin listener", member.name);
}

pub(super) fn changed(
    live: &Live,
    upstream: UpstreamId,
    endpoint: EndpointId,
    status: StatusCode,
) -> Response {
    let endpoint = EndpointView::find(live, upstream, endpoint);
    (status, Json(EndpointChanged { endpoint, note: NOTE })).into_response()
}

impl Live {
    pub(super) fn member(&self, upstream: UpstreamId, id: EndpointId) -> Option<Member> {
        self.roster.members(upstream).find(id).cloned()
    }

    /// What share an endpoint is to get.
    pub(super) fn terms(&self, upstream: UpstreamId, id: EndpointId) -> Option<EndpointTerms> {
        self.keeper().terms(upstream, id).cloned()
    }
}
