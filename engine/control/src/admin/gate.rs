//! Who may use a route, and who has? What every request passes before its handler, and what every change leaves behind.
//!
//! Never lets a request by that its route does not allow: a route without [`Access`] cannot be written.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use auth::permission::{Permission, Permissions};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use super::refusal::Refusal;
use super::{audit, denied};
use crate::Shared;
use crate::security::Peer;
use crate::security::caller::Denied;

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Everybody who can connect: what balancers ask, and what comes before a log-in.
    Public,
    /// Who has this permission.
    Needs(Permission),
}

/// Whom a request comes from, for handlers and for the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Actor {
    /// Name of the user or client.
    pub(crate) name: Arc<str>,
    /// What he may do: nobody gives what he does not have.
    pub(crate) permissions: Permissions,
}

impl Actor {
    /// Where nobody has to say who he is.
    pub(crate) fn anonymous() -> Self {
        Self { name: "anonymous".into(), permissions: Permissions::NONE }
    }
}

/// What the gate knows of the route that it stands before.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) shared: Arc<Shared>,
    pub(super) access: Access,
    /// What the route is called in the document and in the audit.
    pub(super) operation: &'static str,
}

/// Lets in whom the route is for; what changes something is written down, with what came of it.
pub(super) async fn pass(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let actor = match gate.access {
        Access::Public => Actor::anonymous(),
        Access::Needs(permission) => match admit(
            &gate.shared,
            Asker::of(request.headers(), request.method(), request.extensions()),
            permission,
        )
        .await
        {
            Ok(actor) => actor,
            Err(refused) => return denied::response(refused),
        },
    };
    if is_read || gate.access == Access::Public {
        request.extensions_mut().insert(actor);
        return next.run(request).await;
    }
    let path = request.uri().path().to_owned();
    let who = Arc::clone(&actor.name);
    request.extensions_mut().insert(actor);
    let response = next.run(request).await;
    audit::note(&gate.shared, &who, gate.operation, &path, response.status());
    response
}

/// What a request says of who sends it.
pub(super) struct Asker {
    headers: HeaderMap,
    method: Method,
    address: IpAddr,
}

impl Asker {
    fn of(headers: &HeaderMap, method: &Method, extensions: &Extensions) -> Self {
        // Who comes by a path has no address of his own.
        let address = extensions.get().map_or(Ipv4Addr::LOCALHOST.into(), |Peer(peer)| peer.ip());
        Self { headers: headers.clone(), method: method.clone(), address }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Asker {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.headers, &parts.method, &parts.extensions))
    }
}

/// Who sends this, if he may.
pub(super) async fn admit(shared: &Shared, asker: Asker, permission: Permission) -> Result<Actor, Denied> {
    let Asker { headers, method, address } = asker;
    let live = shared.live();
    let caller = shared.security().admit(&live, &headers, &method, address, permission).await?;
    Ok(Actor { name: caller.name, permissions: caller.permissions })
}

impl<S: Send + Sync> FromRequestParts<S> for Actor {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        // Only a route past the gate has one.
        parts
            .extensions
            .get()
            .cloned()
            .ok_or_else(|| Refusal::new(StatusCode::UNAUTHORIZED, "nobody is known to have sent this"))
    }
}
