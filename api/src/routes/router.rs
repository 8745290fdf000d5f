//! Every route, in one table with the role that it needs, and the layers around them.

use std::sync::Arc;

use axum::{
    Router,
    middleware::{from_fn, from_fn_with_state},
};
use utoipa::openapi::OpenApi;
use utoipa_axum::routes;

use super::{base_document, route_table::RouteTable, service::Service};
use crate::{
    middleware,
    resources::{
        audit, circuit_breakers, dead_jobs, docs, events, health, metrics, notifications, orders, processes,
        products, queues, returns, workflows,
    },
    state::ApiState,
};

/// Builds the router of these services. Workflows, dead jobs, events and the OpenAPI document are part of each. Without
/// any service it is the router of a worker: health and metrics.
pub fn router(state: ApiState, services: &[Service]) -> Router {
    let layer = |state: &ApiState| state.clone();
    let load_shed = |routes: Router<ApiState>| {
        let routes = routes.route_layer(from_fn(middleware::entity_tag));
        routes.route_layer(from_fn_with_state(layer(&state), middleware::load_shed))
    };
    let access = state.access();
    let is_metrics_public = access.is_metrics_public || services.is_empty();
    let (routes, _, route_roles) = operations(api(services).layer(load_shed), is_metrics_public).into_parts();
    // The document is that of all services: callers see one address, and the load balancer asks any process for it.
    let document =
        || base_document::to_json(&operations(api(Service::ALL), is_metrics_public).into_document());
    let pages = if services.is_empty() { Router::new() } else { docs::routes(document()) };
    let authorize =
        move |state, request, next| middleware::authorize(state, Arc::clone(&route_roles), request, next);
    let mut routes = routes
        .merge(pages)
        .layer(from_fn_with_state(layer(&state), authorize))
        .layer(from_fn_with_state(layer(&state), middleware::limit_headers))
        .layer(from_fn_with_state(layer(&state), middleware::timeout))
        .layer(middleware::compress());
    if let Some(cors) = middleware::cors(&access.cors_origins) {
        routes = routes.layer(cors);
    }
    middleware::security_headers(routes)
        .layer(from_fn_with_state(layer(&state), middleware::trace))
        .with_state(state)
}

/// The document of the whole API, of all services.
pub fn openapi() -> OpenApi {
    document(Service::ALL)
}

/// The document as `openapi/openapi.json` holds it: indented, with a line end.
pub fn openapi_json() -> String {
    base_document::to_json(&openapi())
}

/// The OpenAPI document of these services.
pub(crate) fn document(services: &[Service]) -> OpenApi {
    table(services).into_document()
}

/// All routes of these services, without middleware.
pub(crate) fn table(services: &[Service]) -> RouteTable {
    operations(api(services), services.is_empty())
}

fn api(services: &[Service]) -> RouteTable {
    let offered = Service::ALL.iter().filter(|service| services.contains(service));
    let table = offered.fold(RouteTable::new(), |table, service| match service {
        Service::Orders => orders(table),
        Service::Inventory => products(table),
        Service::Notifications => notifications(table),
    });
    if services.is_empty() { table } else { operators(dead_jobs(workflows(table))) }
}

fn orders(table: RouteTable) -> RouteTable {
    table
        .write(routes!(orders::create::create_order))
        .read(routes!(orders::list::list_orders))
        .read(routes!(orders::get::get_order))
        .write(routes!(orders::update_status::update_order_status))
        .write(routes!(orders::cancel::cancel_order))
        .read(routes!(orders::list_by_status::list_orders_by_status))
        .read(routes!(orders::list_by_customer::list_customer_orders))
        .write(routes!(returns::create::create_return))
        .read(routes!(returns::list_by_order::list_order_returns))
        .read(routes!(returns::list::list_returns))
        .read(routes!(returns::get::get_return))
        .write(routes!(returns::approve::approve_return))
        .write(routes!(returns::reject::reject_return))
        .write(routes!(returns::receive::receive_return))
}

fn products(table: RouteTable) -> RouteTable {
    table
        .write(routes!(products::create::create_product))
        .read(routes!(products::list::list_products))
        .write(routes!(products::upsert::upsert_products))
        .read(routes!(products::list_by_category::list_products_by_category))
        .read(routes!(products::list_low_stock::list_low_stock_products))
        .read(routes!(products::get::get_product))
        .write(routes!(products::update::update_product))
        .write(routes!(products::update_stock::update_stock))
        .read(routes!(products::get_ledger::get_product_ledger))
}

fn notifications(table: RouteTable) -> RouteTable {
    table
        .write(routes!(notifications::create::create_notification))
        .read(routes!(notifications::get::get_notification))
        .read(routes!(notifications::list_by_status::list_notifications_by_status))
        .read(routes!(notifications::list_templates::list_notification_templates))
}

fn workflows(table: RouteTable) -> RouteTable {
    table
        .operate(routes!(workflows::start::start_workflow))
        .read(routes!(workflows::list::list_workflows))
        .read(routes!(workflows::get::get_workflow))
        .read(routes!(workflows::get_history::get_workflow_history))
        .read(routes!(workflows::get_tree::get_workflow_tree))
        .read(routes!(workflows::list_children::list_workflow_children))
        .read(routes!(workflows::list_signals::list_workflow_signals))
        .operate(routes!(workflows::cancel::cancel_workflow))
        .operate(routes!(workflows::move_many::move_workflows))
        .operate(routes!(workflows::signal::send_workflow_signal))
        .operate(routes!(workflows::signal_by_key::send_signal))
        .operate(routes!(workflows::skip_wait::skip_workflow_wait))
        .read(routes!(workflows::list_definitions::list_workflow_definitions))
        .read(routes!(workflows::get_definition::get_workflow_definition))
}

fn dead_jobs(table: RouteTable) -> RouteTable {
    table
        .read(routes!(dead_jobs::list::list_dead_jobs))
        .read(routes!(dead_jobs::get::get_dead_job))
        .operate(routes!(dead_jobs::retry::retry_dead_job))
        .operate(routes!(dead_jobs::retry_many::retry_dead_jobs))
        .operate(routes!(dead_jobs::discard::discard_dead_job))
        .operate(routes!(dead_jobs::discard_many::discard_dead_jobs))
        .read(routes!(dead_jobs::summarize::summarize_dead_jobs))
        .read(routes!(dead_jobs::list_archived::list_archived_dead_jobs))
        .read(routes!(dead_jobs::get_archived::get_archived_dead_job))
}

fn operators(table: RouteTable) -> RouteTable {
    table
        .operate(routes!(audit::list_audit))
        .read(routes!(events::get_events))
        .read(routes!(queues::list::list_queues))
        .read(routes!(queues::get::get_queue))
        .operate(routes!(queues::update::update_queue))
        .read(routes!(circuit_breakers::list_circuit_breakers))
        .read(routes!(processes::list_processes))
}

/// Adds the routes that have to answer under any load and without the database.
fn operations(table: RouteTable, is_metrics_public: bool) -> RouteTable {
    let table = table
        .public(routes!(health::get_live::get_health_live))
        .public(routes!(health::get_ready::get_health_ready))
        .public(routes!(health::get::get_health))
        .public_pages(&docs::PATHS);
    let metrics = routes!(metrics::get_metrics);
    if is_metrics_public { table.public(metrics) } else { table.read(metrics) }
}
