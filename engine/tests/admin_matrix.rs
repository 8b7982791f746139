//! May each role do what its permissions say, and nothing else? Every route of the document, asked as every role and as nobody.
//!
//! Never has a list of routes: what is not in the document is not there, and what is in it is asked.

mod common;

use std::collections::BTreeSet;

use common::browser::{Browser, first_password, send};
use common::engine::{Driver, Engine};
use serde_json::{Value, json};

const CONFIG: &str = r#"
[listener.web]
bind = "127.0.0.1:0"
[channel.all]
respond = {}
[security.local]
type = "local_inbound"
[admin]
bind = "127.0.0.1:0"
security = "local"
"#;

const PASSWORD: &str = "correct horse battery";

/// What each role may do, said a second time: who changes what a role may do says so here too.
const ROLES: [(&str, &[&str]); 5] = [
    (
        "administrator",
        &[
            "view_status",
            "view_statistics",
            "view_configuration",
            "change_configuration",
            "control_modules",
            "control_processes",
            "change_upstreams",
            "manage_users",
            "manage_clients",
            "manage_keys",
            "view_audit",
        ],
    ),
    (
        "operator",
        &[
            "view_status",
            "view_statistics",
            "view_configuration",
            "control_modules",
            "control_processes",
            "change_upstreams",
        ],
    ),
    (
        "editor",
        &["view_status", "view_statistics", "view_configuration", "change_configuration", "change_upstreams"],
    ),
    ("viewer", &["view_status", "view_statistics", "view_configuration"]),
    ("auditor", &["view_status", "view_statistics", "view_configuration", "view_audit"]),
];

/// Replaces the process.
const UPGRADE: &str = "/process/upgrade";

/// What anybody may ask, who can connect: each has a reason of its own.
const PUBLIC: [&str; 12] = [
    // What balancers and programs ask before anything else.
    "GET /healthz",
    "GET /readyz",
    "GET /endpoint-health",
    "GET /openapi.json",
    // What asks for a password, a cookie or a secret itself.
    "POST /login",
    "POST /logout",
    "GET /session",
    "POST /token",
    "POST /token/revoke",
    "GET /jwks",
    // What asks for the upstream's token itself.
    "POST /upstreams/{name}/register",
    "DELETE /upstreams/{name}/register/{endpoint}",
];

/// A route of the document.
#[derive(Debug)]
struct Route {
    method: String,
    path: String,
    /// `None` for everybody.
    permission: Option<String>,
    has_body: bool,
}

impl Route {
    /// The path with names that nothing has: what gets past the gate changes nothing.
    fn target(&self) -> String {
        let parts = self.path.split('/').map(|part| if part.starts_with('{') { "nothing" } else { part });
        parts.collect::<Vec<_>>().join("/")
    }

    fn body(&self) -> Option<Value> {
        self.has_body.then(|| json!({}))
    }
}

fn document(engine: &Engine) -> Value {
    let answer = send(engine, "GET", "/openapi.json", "", None);
    assert_eq!(answer.status(), 200);
    serde_json::from_slice(&answer.body).expect("JSON")
}

fn routes(document: &Value) -> Vec<Route> {
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("methods") {
            let permission = operation["x-permission"].as_str().map(str::to_owned);
            assert!(permission.is_some() || operation["x-public"] == true, "{method} {path} says neither");
            routes.push(Route {
                method: method.to_uppercase(),
                path: path.clone(),
                permission,
                has_body: operation["requestBody"].is_object(),
            });
        }
    }
    routes
}

#[test]
fn each_route_is_for_who_has_its_permission_and_for_nobody_else() {
    let engine = Engine::start(Driver::Epoll, CONFIG);
    let administrator = Browser::log_in(&engine, "admin", &first_password(&engine));
    let mut sessions = vec![(ROLES[0], administrator)];
    for (role, permissions) in &ROLES[1..] {
        let user = json!({ "name": role, "password": PASSWORD, "roles": [role] });
        let added = sessions[0].1.change("POST", "/users", Some(&user));
        assert_eq!(added.status(), 201, "{added:?}");
        sessions.push(((role, permissions), Browser::log_in(&engine, role, PASSWORD)));
    }
    let routes = routes(&document(&engine));
    assert!(routes.len() > 20, "{}", routes.len());

    let public: BTreeSet<String> = routes
        .iter()
        .filter(|route| route.permission.is_none())
        .map(|route| format!("{} {}", route.method, route.path))
        .collect();
    assert_eq!(public, PUBLIC.map(str::to_owned).into(), "what is public is so on purpose");

    let mut asked = 0;
    for route in &routes {
        let Some(permission) = &route.permission else { continue };
        let (method, target, body) = (&route.method, route.target(), route.body());
        let answer = send(&engine, method, &target, "", body.as_ref());
        assert_eq!(answer.status(), 401, "{method} {target} by nobody: {answer:?}");
        for ((role, permissions), browser) in &sessions {
            asked += 1;
            if permissions.contains(&permission.as_str()) && target == UPGRADE {
                // It does: another process would answer what follows, and nobody ends that one.
                continue;
            }
            let answer = browser.change(method, &target, body.as_ref());
            let is_allowed = permissions.contains(&permission.as_str());
            let is_let_in = !matches!(answer.status(), 401 | 403);
            assert_eq!(is_let_in, is_allowed, "{method} {target} ({permission}) by {role}: {answer:?}");
            if !is_allowed {
                assert_eq!(answer.status(), 403, "{method} {target} by {role}: {answer:?}");
                assert!(serde_json::from_slice::<Value>(&answer.body).expect("JSON")["error"].is_string());
            }
            assert!(
                answer.status() < 500 || answer.status() == 503,
                "{method} {target} by {role}: {answer:?}"
            );
        }
    }
    assert_eq!(asked, (routes.len() - PUBLIC.len()) * ROLES.len());

    // Each of them is still who he was: nothing that was refused has ended anything.
    for ((role, _), browser) in &sessions {
        assert_eq!(browser.get("/session").status(), 200, "{role}");
    }
}

#[test]
fn what_is_not_in_the_document_is_not_there() {
    let engine = Engine::start(Driver::Epoll, CONFIG);
    let administrator = Browser::log_in(&engine, "admin", &first_password(&engine));
    let routes = routes(&document(&engine));
    let known: BTreeSet<(String, String)> =
        routes.iter().map(|route| (route.method.clone(), route.target())).collect();
    let paths: BTreeSet<String> = routes.iter().map(Route::target).collect();
    for path in &paths {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            if known.contains(&(method.to_owned(), path.clone())) {
                continue;
            }
            let answer = administrator.change(method, path, None);
            assert_eq!(answer.status(), 405, "{method} {path}: {answer:?}");
            let allowed = answer.head.value("Allow").expect("the methods that there are");
            for method in known.iter().filter(|(_, known)| known == path).map(|(method, _)| method) {
                assert!(allowed.split(',').any(|allowed| allowed == method), "{path}: {allowed}");
            }
        }
    }
    for path in
        ["/", "/nothing", "/stats/", "/Stats", "/upstreams/", "/cluster/", "//stats", "/stats/../users"]
    {
        assert_eq!(administrator.get(path).status(), 404, "{path}");
    }
}

#[test]
fn where_servers_need_no_token_they_have_to_be_somebody_who_may() {
    let config = format!(
        "{CONFIG}[upstream.app]\nendpoints = [\"127.0.0.1:9\"]\nregister = {{ ttl = \"1m\" }}\n[channel.app]\n\
         match = {{ path = \"/app\" }}\nupstream = \"app\"\n"
    );
    let engine = Engine::start(Driver::Epoll, config);
    let administrator = Browser::log_in(&engine, "admin", &first_password(&engine));
    let server = json!({ "address": "127.0.0.1:10" });
    let (register, leave) = ("/upstreams/app/register", "/upstreams/app/register/127.0.0.1:10");
    assert_eq!(send(&engine, "POST", register, "", Some(&server)).status(), 401);
    assert_eq!(administrator.change("POST", register, Some(&server)).status(), 201);
    assert_eq!(send(&engine, "DELETE", leave, "", None).status(), 401);
    assert_eq!(administrator.change("DELETE", leave, None).status(), 202);
}
