//! What is a route of the admin listener? One row: method, path, who may use it, who answers, and what the document says of it.
//!
//! Never a route without one of these: what is not said in its row cannot be asked for, and is not in the document.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::middleware;
use axum::routing::{MethodFilter, MethodRouter, on};
use serde_json::json;
use utoipa::ToSchema;
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::Response;
use utoipa::openapi::schema::{ComponentsBuilder, ObjectBuilder, Type};
use utoipa::openapi::{Content, InfoBuilder, OpenApi, OpenApiBuilder, Paths, Ref, RefOr, Required, Schema};

use super::gate::{self, Access, Gate};
use super::refusal::Refusal;
use crate::Shared;

/// One route.
pub(super) struct Route {
    path: &'static str,
    method: HttpMethod,
    /// Its name in the document and in the audit.
    id: &'static str,
    access: Access,
    handler: MethodRouter<Arc<Shared>>,
    operation: Operation,
    /// By status; one may come in several shapes.
    answers: BTreeMap<u16, Response>,
    schemas: Vec<(String, RefOr<Schema>)>,
}

/// A route that reads.
pub(super) fn get<H, T>(path: &'static str, access: Access, id: &'static str, handler: H) -> Route
where
    H: Handler<T, Arc<Shared>>,
    T: 'static,
{
    Route::new(HttpMethod::Get, path, access, id, handler)
}

/// A route that does something.
pub(super) fn post<H, T>(path: &'static str, access: Access, id: &'static str, handler: H) -> Route
where
    H: Handler<T, Arc<Shared>>,
    T: 'static,
{
    Route::new(HttpMethod::Post, path, access, id, handler)
}

/// A route that puts something in the place of what was there.
pub(super) fn put<H, T>(path: &'static str, access: Access, id: &'static str, handler: H) -> Route
where
    H: Handler<T, Arc<Shared>>,
    T: 'static,
{
    Route::new(HttpMethod::Put, path, access, id, handler)
}

/// A route that changes part of something.
pub(super) fn patch<H, T>(path: &'static str, access: Access, id: &'static str, handler: H) -> Route
where
    H: Handler<T, Arc<Shared>>,
    T: 'static,
{
    Route::new(HttpMethod::Patch, path, access, id, handler)
}

/// A route that takes something away.
pub(super) fn delete<H, T>(path: &'static str, access: Access, id: &'static str, handler: H) -> Route
where
    H: Handler<T, Arc<Shared>>,
    T: 'static,
{
    Route::new(HttpMethod::Delete, path, access, id, handler)
}

impl Route {
    fn new<H, T>(method: HttpMethod, path: &'static str, access: Access, id: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<Shared>>,
        T: 'static,
    {
        let extensions = ExtensionsBuilder::new();
        let extensions = match access {
            Access::Public => extensions.add("x-public", true),
            Access::Needs(permission) => extensions.add("x-permission", permission.name()),
        };
        let operation = OperationBuilder::new().operation_id(Some(id)).extensions(Some(extensions.build()));
        let operation = operation.build();
        let handler = on(filter_of(&method), handler);
        let (answers, schemas) = (BTreeMap::new(), Vec::new());
        Self { path, method, id, access, handler, operation, answers, schemas }.with_what_all_have_in_common()
    }

    /// The refusals that follow from method, path and access, and the parts that the path leaves open.
    fn with_what_all_have_in_common(mut self) -> Self {
        if let Access::Needs(_) = self.access {
            self = self
                .refuses(401, "Nobody is logged in, or no longer.")
                .refuses(403, "Who is logged in may not do this, or a page of another site has sent it.");
        } else if self.method != HttpMethod::Get {
            self = self.refuses(403, "A page of another site has sent it.");
        }
        for name in self.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
            self = self.with_parameter(open_part(name));
        }
        if self.path.contains('{') {
            self = self
                .refuses(400, "A part of the path or of the query cannot be read.")
                .refuses(404, "There is nothing of this name.");
        }
        self
    }

    /// What it does, in one sentence.
    pub(super) fn about(mut self, summary: &str) -> Self {
        self.operation.summary = Some(summary.to_owned());
        self
    }

    /// Answers in JSON of this shape.
    pub(super) fn answers<T: ToSchema>(mut self, status: u16, description: &str) -> Self {
        self.remember::<T>();
        self.answers_with(status, description, "application/json", reference::<T>())
    }

    /// Answers without a body.
    pub(super) fn answers_nothing(mut self, status: u16, description: &str) -> Self {
        self.answers.entry(status).or_default().description = description.to_owned();
        self
    }

    /// Answers with text.
    pub(super) fn answers_text(self, status: u16, description: &str, kind: &str) -> Self {
        self.answers_with(status, description, kind, text().into())
    }

    fn answers_with(mut self, status: u16, description: &str, kind: &str, schema: RefOr<Schema>) -> Self {
        let answer = self.answers.entry(status).or_default();
        answer.description = description.to_owned();
        answer.content.insert(kind.to_owned(), Content::new(Some(schema)).into());
        self
    }

    /// Is refused so, besides what all routes of its kind are.
    pub(super) fn refuses(self, status: u16, description: &str) -> Self {
        self.answers_with(status, description, "application/json", reference::<Refusal>())
    }

    /// Takes the store to be answered, where there is one.
    pub(super) fn needs_the_store(self) -> Self {
        self.refuses(503, "The store is not available.")
    }

    /// Takes a body of this shape.
    pub(super) fn takes<T: ToSchema>(mut self) -> Self {
        self.remember::<T>();
        let body = RequestBodyBuilder::new()
            .content("application/json", Content::new(Some(reference::<T>())))
            .required(Some(Required::True))
            .build();
        self.operation.request_body = Some(body.into());
        self.refuses(400, "The body is no JSON object, or a part of the path or query cannot be read.")
            .refuses(413, "The body is too long.")
            .refuses(415, "The body does not say that it is JSON.")
            .refuses(422, "A key of the body is unknown, missing or out of its bounds.")
    }

    /// Takes a form with these fields.
    pub(super) fn takes_form(mut self, fields: &[&str]) -> Self {
        let form = fields.iter().fold(ObjectBuilder::new(), |form, field| form.property(*field, text()));
        let schema: RefOr<Schema> = Schema::from(form).into();
        let body = RequestBodyBuilder::new()
            .content("application/x-www-form-urlencoded", Content::new(Some(schema)))
            .required(Some(Required::True))
            .build();
        self.operation.request_body = Some(body.into());
        self.refuses(413, "The body is too long.").refuses(415, "The body does not say that it is a form.")
    }

    /// Takes a body that may be longer than others.
    pub(super) fn with_body_max(mut self, bytes: usize) -> Self {
        self.handler = self.handler.layer(DefaultBodyLimit::max(bytes));
        self
    }

    /// Takes a parameter of the query.
    pub(super) fn asks(self, name: &str, description: &str, schema: impl Into<RefOr<Schema>>) -> Self {
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Query)
            .required(Required::False)
            .description(Some(description))
            .schema(Some(schema));
        self.with_parameter(parameter.build())
            .refuses(400, "A part of the path or of the query cannot be read.")
    }

    /// Takes a field of the head.
    pub(super) fn reads_field(self, name: &str, description: &str, schema: impl Into<RefOr<Schema>>) -> Self {
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some(description))
            .schema(Some(schema));
        self.with_parameter(parameter.build())
    }

    fn with_parameter(mut self, parameter: Parameter) -> Self {
        self.operation.parameters.get_or_insert_default().push(parameter.into());
        self
    }

    fn remember<T: ToSchema>(&mut self) {
        self.schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(&mut self.schemas);
    }
}

fn reference<T: ToSchema>() -> RefOr<Schema> {
    RefOr::Ref(Ref::from_schema_name(T::name()))
}

/// Any text.
pub(super) fn text() -> Schema {
    ObjectBuilder::new().schema_type(Type::String).into()
}

/// One of these words.
pub(super) fn one_of(words: &[&str]) -> Schema {
    let words = words.iter().map(|word| json!(word));
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).into()
}

/// A whole number within these bounds.
pub(super) fn whole(least: u64, greatest: u64) -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(least as f64))
        .maximum(Some(greatest as f64))
        .into()
}

/// A part that a path leaves open, by its name.
fn open_part(name: &str) -> Parameter {
    let description = match name {
        "name" => "Name of an upstream in the configuration",
        "endpoint" => "Name or address of an endpoint",
        "node" => "ID of a node",
        "process" => "ID of a process",
        "user" => "Name of a user",
        "client" => "Name of a client",
        "module" => "Name of a module, such as `listener.web`",
        _ => "A name",
    };
    let text: Schema = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).into();
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(description))
        .schema(Some(text))
        .build()
}

/// All routes.
#[derive(Default)]
pub(super) struct Table {
    routes: Vec<Route>,
}

impl Table {
    /// Adds a route.
    pub(super) fn add(&mut self, route: Route) {
        self.routes.push(route);
    }

    /// What a program can read to learn all of it (OpenAPI 3.1).
    pub(super) fn document(&self, version: &str) -> OpenApi {
        let mut paths = Paths::new();
        let mut components = ComponentsBuilder::new().schema_from::<Refusal>();
        for route in &self.routes {
            let answers = route.answers.iter().map(|(status, answer)| (status.to_string(), answer.clone()));
            let mut operation = route.operation.clone();
            operation.responses = answers.collect();
            paths.add_path_operation(route.path, vec![route.method.clone()], operation);
            components = components.schemas_from_iter(route.schemas.clone());
        }
        let info = InfoBuilder::new()
            .title("Corelane")
            .version(version)
            .description(Some("What the admin listener of a process can be asked, and who may ask it."));
        OpenApiBuilder::new().info(info).paths(paths).components(Some(components.build())).build()
    }

    /// Every route behind its gate.
    pub(super) fn router(self, shared: &Arc<Shared>) -> Router<Arc<Shared>> {
        self.routes.into_iter().fold(Router::new(), |router, route| {
            let gate = Gate { shared: Arc::clone(shared), access: route.access, operation: route.id };
            let gate = middleware::from_fn_with_state(gate, gate::pass);
            router.route(route.path, route.handler.route_layer(gate))
        })
    }
}

/// What axum calls it.
fn filter_of(method: &HttpMethod) -> MethodFilter {
    match method {
        HttpMethod::Get => MethodFilter::GET,
        HttpMethod::Post => MethodFilter::POST,
        HttpMethod::Put => MethodFilter::PUT,
        HttpMethod::Patch => MethodFilter::PATCH,
        HttpMethod::Delete => MethodFilter::DELETE,
        HttpMethod::Head => MethodFilter::HEAD,
        HttpMethod::Options => MethodFilter::OPTIONS,
        HttpMethod::Trace => MethodFilter::TRACE,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::super::routes;

    fn document() -> Value {
        serde_json::to_value(routes::table().document("1.2.3")).expect("JSON")
    }

    fn operations(document: &Value) -> impl Iterator<Item = (&String, &String, &Value)> {
        let paths = document["paths"].as_object().expect("paths").iter();
        paths.flat_map(|(path, item)| {
            let methods = item.as_object().expect("methods").iter();
            methods.map(move |(method, operation)| (path, method, operation))
        })
    }

    #[test]
    fn every_route_says_who_may_use_it_what_it_does_and_how_it_answers() {
        let document = document();
        let mut names = BTreeSet::new();
        for (path, method, operation) in operations(&document) {
            let (permission, public) = (&operation["x-permission"], &operation["x-public"]);
            assert!(permission.is_string() != (*public == true), "{method} {path}: {operation:#}");
            assert!(
                operation["summary"].as_str().is_some_and(|summary| summary.ends_with('.')),
                "{method} {path}"
            );
            let answers = operation["responses"].as_object().expect("answers");
            assert!(answers.keys().any(|status| status.starts_with('2')), "{method} {path}");
            // What is public may ask for a password or a token itself.
            assert!(answers.contains_key("401") || !permission.is_string(), "{method} {path}");
            assert!(
                names.insert(operation["operationId"].as_str().expect("a name").to_owned()),
                "{method} {path}"
            );
        }
        assert!(names.len() > 10);
    }

    #[test]
    fn everything_that_is_referred_to_is_there() {
        let document = document();
        let text = document.to_string();
        let references = text.split("\"#/components/schemas/").skip(1);
        for name in references.map(|rest| rest.split('"').next().expect("an end")) {
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
        }
    }

    #[test]
    fn the_page_names_every_route_and_who_may_use_it() {
        let page = include_str!("../../../../docs/admin-api.md");
        let document = document();
        for (path, method, operation) in operations(&document) {
            let who = operation["x-permission"].as_str().unwrap_or("everybody");
            let (method, summary) =
                (method.to_uppercase(), operation["summary"].as_str().expect("a sentence"));
            let row = format!("| `{method} {path}` | {who} | {summary} |");
            assert!(page.contains(&row), "docs/admin-api.md lacks this line:\n{row}");
        }
    }
}
