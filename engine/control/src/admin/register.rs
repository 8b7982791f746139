//! May this server be an endpoint, and for how long? It says so itself, and again before its time is over.
//!
//! Never takes a server's word without the token that the operator asked for, and never lets one in for ever.

use std::time::{Duration, Instant};

use auth::permission::Permission;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use config::snapshot::register::Registering;
use config::snapshot::{EndpointTerms, UpstreamId};
use proxy::roster::member::Source;

use super::denied;
use super::extract::Path;
use super::gate::{self, Asker};
use super::upstreams::{self, address, read, refusal, terms, upstream};
use super::views::{EndpointView, LeaseView, Registered};
use super::{AppState, Refusal};
use crate::Shared;
use crate::live::Live;
use crate::membership::{Joined, Newcomer};

/// `POST /upstreams/NAME/register`: 201 with a lease, 200 when it is renewed.
pub(super) async fn register(
    State(shared): AppState,
    Path(name): Path<String>,
    asker: Asker,
    request: Request,
) -> Result<Response, Refusal> {
    if let Some(denied) = turned_away(&shared, &name, asker, request.headers()).await? {
        return Ok(denied);
    }
    let mut object = read(request).await?;
    // Only now: while the body came there may have been another generation.
    let live = shared.live();
    let id = upstream(&live, &name)?;
    let registering = registering(&live, id)?;
    let address = address(&live, id, &mut object)?;
    let ttl = ttl(registering, object.number("ttl", 1..=u32::MAX)?)?;
    let terms = terms(&mut object, EndpointTerms::default())?;
    object.finish()?;
    let known = live.keeper().find_at(id, &address);
    if let Some(member) = known.and_then(|endpoint| live.member(id, endpoint))
        && member.source != Source::Registered
    {
        let cause = format!("is an endpoint already, and is {}", member.source.name());
        return Err(Refusal::new(StatusCode::CONFLICT, cause).at("address").help("it needs no lease"));
    }
    let is_renewal = known.is_some_and(|endpoint| live.leases.contains(endpoint));
    if !is_renewal && live.leases.count(id) >= usize::from(registering.servers_max) {
        let cause = format!(
            "{} servers are registered, and `register.servers` allows no more",
            registering.servers_max
        );
        return Err(Refusal::new(StatusCode::CONFLICT, cause).help("one of them has to leave or to expire"));
    }
    let newcomer = Newcomer { address, host: None, terms: terms.clone(), source: Source::Registered };
    let endpoint = match live.join(id, newcomer).map_err(|error| refusal(&error))? {
        Joined::Added(endpoint) | Joined::Stays(endpoint) => endpoint,
        Joined::Differs(endpoint) => {
            let set = live.change_roster(id, |keeper| keeper.set_terms(id, endpoint, terms));
            set.map_err(|error| refusal(&error))?;
            endpoint
        }
    };
    live.leases.renew(id, endpoint, Instant::now() + ttl);
    if !is_renewal {
        upstreams::tell(&live, id, endpoint, "has registered itself");
    }
    let status = if is_renewal { StatusCode::OK } else { StatusCode::CREATED };
    let lease = LeaseView { ttl_s: ttl.as_secs() };
    Ok((status, Json(Registered { endpoint: EndpointView::find(&live, id, endpoint), lease }))
        .into_response())
}

/// `DELETE /upstreams/NAME/register/ADDRESS`: the server drains, and is an endpoint no longer.
pub(super) async fn leave(
    State(shared): AppState,
    Path((name, endpoint)): Path<(String, String)>,
    asker: Asker,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    if let Some(denied) = turned_away(&shared, &name, asker, &headers).await? {
        return Ok(denied);
    }
    let live = shared.live();
    let id = upstream(&live, &name)?;
    registering(&live, id)?;
    let endpoint = upstreams::endpoint(&live, id, &endpoint)?;
    if !live.leases.remove(endpoint) {
        return Err(Refusal::new(StatusCode::CONFLICT, "has not registered itself")
            .help("DELETE /upstreams/NAME/endpoints/ADDRESS removes others"));
    }
    live.leave(id, endpoint).map_err(|error| refusal(&error))?;
    upstreams::tell(&live, id, endpoint, "leaves");
    Ok(upstreams::changed(&live, id, endpoint, StatusCode::ACCEPTED))
}

fn registering(live: &Live, id: UpstreamId) -> Result<&Registering, Refusal> {
    let upstream = &live.snapshot.upstreams[usize::from(id.0)];
    upstream.registering.as_ref().ok_or_else(|| {
        Refusal::new(StatusCode::FORBIDDEN, format!("upstream {:?} lets no server register", upstream.name))
            .help(format!("add [upstream.{}.register] to the configuration file", upstream.name))
    })
}

/// Asks a server for the upstream's token. Where there is none and admin asks everybody else who he is, a server has to be somebody
/// who may change endpoints.
async fn turned_away(
    shared: &Shared,
    name: &str,
    asker: Asker,
    headers: &HeaderMap,
) -> Result<Option<Response>, Refusal> {
    {
        let live = shared.live();
        let registering = registering(&live, upstream(&live, name)?)?;
        admit(registering, headers)?;
        if registering.token.is_some() {
            return Ok(None);
        }
    }
    let admitted = gate::admit(shared, asker, Permission::ChangeUpstreams).await;
    Ok(admitted.err().map(denied::response))
}

/// Asks for the token. Digests are compared, in a time that says neither how long it is nor how much of it was right.
fn admit(registering: &Registering, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(token) = &registering.token else { return Ok(()) };
    let shown = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
    let shown = shown.and_then(|shown| shown.strip_prefix(b"Bearer ")).unwrap_or_default();
    let (shown, token) = (digest(&SHA256, shown), digest(&SHA256, &token.0));
    verify_slices_are_equal(shown.as_ref(), token.as_ref()).map_err(|_| {
        Refusal::new(StatusCode::UNAUTHORIZED, "the token is missing or wrong")
            .at("Authorization")
            .help("send Authorization: Bearer and what is in register.token_file")
    })
}

/// The time that is asked for, within what the operator allows.
fn ttl(registering: &Registering, asked: Option<u32>) -> Result<Duration, Refusal> {
    let ttl = asked.map_or(registering.ttl, |seconds| Duration::from_secs(seconds.into()));
    if ttl > registering.ttl_max {
        let cause =
            format!("at most {} seconds are possible (register.ttl_max)", registering.ttl_max.as_secs());
        return Err(super::body::wrong("ttl", cause));
    }
    Ok(ttl)
}

#[cfg(test)]
mod tests {
    use config::snapshot::balance::SecretBytes;

    use super::*;

    fn registering(token: Option<&[u8]>) -> Registering {
        Registering {
            ttl: Duration::from_secs(30),
            ttl_max: Duration::from_secs(60),
            servers_max: 1,
            token: token.map(|token| SecretBytes(token.into())),
        }
    }

    #[test]
    fn only_the_whole_token_is_the_token() {
        let check = |field: Option<&'static str>, is_admitted: bool| {
            let mut headers = HeaderMap::new();
            headers.extend(field.map(|field| (header::AUTHORIZATION, field.parse().expect("a value"))));
            let refused = admit(&registering(Some(b"0123456789abcdef")), &headers).err();
            assert_eq!(
                refused.map(|refusal| refusal.status.as_u16()),
                (!is_admitted).then_some(401),
                "{field:?}"
            );
            assert!(admit(&registering(None), &headers).is_ok(), "nobody asked for one");
        };
        check(Some("Bearer 0123456789abcdef"), true);
        check(Some("Bearer 0123456789abcde"), false);
        check(Some("Bearer 0123456789abcdef0"), false);
        check(Some("Bearer "), false);
        check(Some("0123456789abcdef"), false);
        check(None, false);
    }

    #[test]
    fn a_lease_is_as_long_as_allowed() {
        let seconds = |asked| ttl(&registering(None), asked).map(|ttl| ttl.as_secs()).ok();
        assert_eq!((seconds(None), seconds(Some(60)), seconds(Some(61))), (Some(30), Some(60), None));
    }
}
