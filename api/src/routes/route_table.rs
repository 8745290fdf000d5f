//! The route table: the only way to add a route, and each of its methods declares the role that the route needs.

use std::sync::Arc;

use axum::Router;
use http::Method;
use shop::keys::KeyRole;
use utoipa::openapi::{
    Header, OpenApi, Ref, RefOr,
    extensions::ExtensionsBuilder,
    path::{Operation, PathItem},
    security::SecurityRequirement,
};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use super::{
    always_sent,
    base_document::{self, SCHEME},
    field_bounds,
    text_bounds::bound_texts,
};
use crate::{
    auth::{RequiredRole, RouteRoles, is_limited},
    http::{ProblemCode, documented},
    state::ApiState,
};

/// Routes with the roles that they need.
pub(crate) struct RouteTable {
    routes: OpenApiRouter<ApiState>,
    route_roles: RouteRoles,
}

impl RouteTable {
    /// An empty table.
    pub(crate) fn new() -> Self {
        Self {
            routes: OpenApiRouter::with_openapi(base_document::base_document()),
            route_roles: RouteRoles::default(),
        }
    }

    /// Adds routes that everyone may call.
    pub(crate) fn public(self, routes: UtoipaMethodRouter<ApiState>) -> Self {
        self.add(RequiredRole::Public, routes)
    }

    /// Adds routes that need a key with the role `read`.
    pub(crate) fn read(self, routes: UtoipaMethodRouter<ApiState>) -> Self {
        self.add(RequiredRole::Key(KeyRole::Read), routes)
    }

    /// Adds routes that need a key with the role `write`: changes of the shop.
    pub(crate) fn write(self, routes: UtoipaMethodRouter<ApiState>) -> Self {
        self.add(RequiredRole::Key(KeyRole::Write), routes)
    }

    /// Adds routes that need a key with the role `operate`: repairs, and the audit log.
    pub(crate) fn operate(self, routes: UtoipaMethodRouter<ApiState>) -> Self {
        self.add(RequiredRole::Key(KeyRole::Operate), routes)
    }

    /// Puts a layer around the routes that are in the table so far.
    pub(crate) fn layer(mut self, layer: impl FnOnce(Router<ApiState>) -> Router<ApiState>) -> Self {
        let (routes, document) = self.routes.split_for_parts();
        // A worker has no routes here, and axum panics at a layer around none.
        self.routes = OpenApiRouter::from(if routes.has_routes() { layer(routes) } else { routes });
        *self.routes.get_openapi_mut() = document;
        self
    }

    /// Declares GETs that are not in the OpenAPI document as public: the pages of the document itself.
    pub(crate) fn public_pages(mut self, paths: &[&str]) -> Self {
        for path in paths {
            self.route_roles.declare(path, Method::GET, RequiredRole::Public);
        }
        self
    }

    /// Returns the OpenAPI document.
    pub(crate) fn into_document(self) -> OpenApi {
        finish(self.routes.into_openapi())
    }

    /// Returns the routes, their document and their roles.
    pub(crate) fn into_parts(self) -> (Router<ApiState>, OpenApi, Arc<RouteRoles>) {
        let (routes, document) = self.routes.split_for_parts();
        (routes, finish(document), Arc::new(self.route_roles))
    }

    fn add(
        mut self,
        required: RequiredRole,
        (mut schemas, mut paths, routes): UtoipaMethodRouter<ApiState>,
    ) -> Self {
        for (_, schema) in &mut schemas {
            field_bounds::spell_out(schema);
        }
        for (path, item) in &mut paths.paths {
            for (method, operation) in operations(item) {
                document(operation, required, path);
                bound_texts(operation);
                self.route_roles.declare(path, method, required);
            }
        }
        self.routes = self.routes.routes((schemas, paths, routes));
        self
    }
}

/// Adds to the document what follows from the whole of it.
fn finish(mut document: OpenApi) -> OpenApi {
    always_sent::require(&mut document);
    base_document::retain_used_examples(&mut document);
    document
}

/// The operations of a path, each with its method.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    let all = [
        (Method::GET, &mut item.get),
        (Method::PUT, &mut item.put),
        (Method::POST, &mut item.post),
        (Method::DELETE, &mut item.delete),
        (Method::PATCH, &mut item.patch),
        (Method::HEAD, &mut item.head),
        (Method::OPTIONS, &mut item.options),
        (Method::TRACE, &mut item.trace),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// Documents the role of an operation, and the problems that follow from it.
fn document(operation: &mut Operation, required: RequiredRole, path: &str) {
    let mut codes = Vec::new();
    match required {
        RequiredRole::Public => operation.security = Some(Vec::new()),
        RequiredRole::Key(_) => {
            operation.security = Some(vec![SecurityRequirement::new(SCHEME, std::iter::empty::<String>())]);
            // `Unavailable` when the key can't be looked up.
            codes.extend([ProblemCode::Unauthenticated, ProblemCode::Forbidden, ProblemCode::Unavailable]);
        }
    }
    if is_limited(path) {
        codes.push(ProblemCode::RateLimited);
    }
    let responses = &mut operation.responses.responses;
    for (status, response) in documented::documented(&[&codes]) {
        responses.entry(status).or_insert(response);
    }
    if is_limited(path) {
        for response in responses.values_mut() {
            let RefOr::T(response) = response else { continue };
            response.headers.extend(rate_limit_headers());
        }
    }
    let description = operation.description.take().unwrap_or_default();
    operation.description = Some(format!("{description}\n\n{}", required.sentence()));
    operation
        .extensions
        .get_or_insert_with(Default::default)
        .merge(ExtensionsBuilder::new().add("x-required-role", required.name()).build());
}

/// References to the headers of responses to calls that are counted.
fn rate_limit_headers() -> impl Iterator<Item = (String, RefOr<Header>)> {
    base_document::RATE_LIMIT_HEADERS
        .into_iter()
        .map(|(name, _)| (name.to_owned(), RefOr::Ref(Ref::new(format!("#/components/headers/{name}")))))
}
