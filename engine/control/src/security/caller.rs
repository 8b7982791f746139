//! Who sends this, and may he? A session's cookie, a token, or a name with its password.
//!
//! Never lets a page of another site use the cookie, and never takes two ways of saying it at once.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use auth::password::Password;
use auth::permission::{Permission, Permissions, Role};
use auth::secret::Digest;
use auth::session::SessionId;
use axum::http::{HeaderMap, Method, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use config::snapshot::security::{LocalInbound, SecurityId, SecurityKind};
use store::StoreError;

use super::login::{Refused, session_terms};
use super::{Security, unix_seconds};
use crate::live::Live;

/// Says which session it is. No page can read it, and no page of another site sends it.
pub(crate) const SESSION_COOKIE: &str = "corelane_session";

/// What a page of ours proves by that it is one.
pub(crate) const CSRF_FIELD: &str = "X-CSRF-Token";

/// Somebody who is known.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) name: Arc<str>,
    pub(crate) roles: Arc<[Role]>,
    pub(crate) permissions: Permissions,
    /// His session, if he came with one.
    pub(crate) session: Option<Digest>,
    /// What his pages have to show to change something.
    pub(crate) csrf_token: Option<String>,
}

impl Caller {
    /// Where nobody is asked everybody may do everything.
    pub(crate) fn anonymous() -> Self {
        Self {
            name: "anonymous".into(),
            roles: Arc::default(),
            permissions: Permissions::ALL,
            session: None,
            csrf_token: None,
        }
    }
}

/// Why somebody is turned away.
#[derive(Debug)]
pub(crate) enum Denied {
    /// Nobody says who he is, or not so that it can be believed.
    Unknown(&'static str),
    /// The request changes something, and does not show that it comes from a page of ours.
    Csrf,
    /// He may not.
    Forbidden(Permission),
    /// Too many logins have failed.
    LockedOut(Duration),
    Store(StoreError),
}

impl From<StoreError> for Denied {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// How somebody says who he is.
enum Credentials {
    Session(SessionId),
    Token(String),
    Password(String, Password),
}

impl Security {
    /// Who sends a request, if he may do what it is for.
    pub(crate) async fn admit(
        &self,
        live: &Live,
        headers: &HeaderMap,
        method: &Method,
        address: IpAddr,
        permission: Permission,
    ) -> Result<Caller, Denied> {
        let caller = self.identify(live, headers, method, address).await?;
        if caller.permissions.allow(permission) { Ok(caller) } else { Err(Denied::Forbidden(permission)) }
    }

    /// Who sends a request.
    pub(crate) async fn identify(
        &self,
        live: &Live,
        headers: &HeaderMap,
        method: &Method,
        address: IpAddr,
    ) -> Result<Caller, Denied> {
        let Some(id) = live.snapshot.admin.as_ref().and_then(|admin| admin.security) else {
            return Ok(Caller::anonymous());
        };
        let module = live.snapshot.security.get(usize::from(id.0)).map(|module| &module.kind);
        let (local, check) = match module {
            Some(SecurityKind::LocalInbound(local)) => (Some(local), local.tokens),
            Some(SecurityKind::TokenCheck(_)) => (None, Some(id)),
            Some(SecurityKind::TokenIssuer(_)) | None => (None, None),
        };
        match (credentials(headers)?, local, check) {
            (Credentials::Token(token), _, Some(check)) => self.identify_by_token(live, check, &token),
            (Credentials::Password(name, password), Some(local), _) => {
                self.identify_by_password(local, &name, password, address).await
            }
            (Credentials::Session(id), Some(local), _) => {
                self.identify_by_session(local, &id, headers, method).await
            }
            _ => Err(Denied::Unknown("this way to say who you are is not taken here")),
        }
    }

    fn identify_by_token(&self, live: &Live, check: SecurityId, token: &str) -> Result<Caller, Denied> {
        let tokens = &live.generation.admission.tokens;
        let checked = tokens.check(check, token, unix_seconds());
        let verified =
            checked.map_err(|_| Denied::Unknown("the token is not one to believe, or no longer"))?;
        let name = verified.subject.as_deref().or(verified.client.as_deref()).unwrap_or("token");
        // It goes into the audit, which shows one line for each entry.
        let name: String = name.chars().filter(|sign| !sign.is_control()).take(128).collect();
        let permissions = Permissions::of_scopes(verified.scopes());
        Ok(Caller { name: name.into(), permissions, ..Caller::anonymous() })
    }

    async fn identify_by_password(
        &self,
        local: &LocalInbound,
        name: &str,
        password: Password,
        address: IpAddr,
    ) -> Result<Caller, Denied> {
        match self.verify_user(local, name, password, address).await {
            Ok(user) => Ok(Caller {
                name: user.name.as_str().into(),
                permissions: Permissions::of_roles(&user.roles),
                roles: user.roles.into(),
                ..Caller::anonymous()
            }),
            Err(Refused::Wrong) => Err(Denied::Unknown("the name or the password is wrong")),
            Err(Refused::LockedOut(retry_after)) => Err(Denied::LockedOut(retry_after)),
            Err(Refused::Store(error)) => Err(error.into()),
        }
    }

    async fn identify_by_session(
        &self,
        local: &LocalInbound,
        id: &SessionId,
        headers: &HeaderMap,
        method: &Method,
    ) -> Result<Caller, Denied> {
        let session = self.sessions.find(&self.home, &session_terms(local), id).await?;
        let session = session.ok_or(Denied::Unknown("the session is over"))?;
        if !matches!(*method, Method::GET | Method::HEAD) {
            let shown = headers.get(CSRF_FIELD).and_then(|token| token.to_str().ok());
            if !shown.is_some_and(|shown| id.is_csrf_token(shown)) {
                return Err(Denied::Csrf);
            }
        }
        Ok(Caller {
            permissions: session.permissions(),
            name: session.user,
            roles: session.roles,
            session: Some(id.digest()),
            csrf_token: Some(id.csrf_token()),
        })
    }
}

fn credentials(headers: &HeaderMap) -> Result<Credentials, Denied> {
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    if let Some(field) = fields.next() {
        let text = field.to_str().ok().filter(|_| fields.next().is_none());
        return text.and_then(authorization).ok_or(Denied::Unknown("Authorization cannot be read"));
    }
    session_id(headers).map(Credentials::Session).ok_or(Denied::Unknown("nobody is logged in"))
}

fn authorization(text: &str) -> Option<Credentials> {
    let (scheme, rest) = text.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("Bearer") {
        return Some(Credentials::Token(rest.trim().to_owned()));
    }
    let (name, password) = basic(scheme, rest)?;
    Some(Credentials::Password(name, password.into()))
}

/// The two halves of `Basic` (RFC 7617 §2).
pub(crate) fn basic(scheme: &str, encoded: &str) -> Option<(String, String)> {
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (name, password) = decoded.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

/// The session that a cookie names. Of several none: somebody else may have put one there.
pub(crate) fn session_id(headers: &HeaderMap) -> Option<SessionId> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|field| field.to_str().ok());
    let pairs = cookies.flat_map(|field| field.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut ids = pairs.filter(|(name, _)| *name == SESSION_COOKIE).map(|(_, value)| value);
    let id = ids.next()?;
    ids.next().is_none().then(|| SessionId::parse(id)).flatten()
}
