//! Every route, in one table, and the layers around them.

use axum::{Router, middleware};
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    edge, openapi,
    resources::{dead_jobs, docs, health, metrics, notifications, orders, products, workflows},
    role::Role,
    state::ApiState,
};

/// Builds the service of these roles. Workflows, dead jobs, health, metrics and the document are part of every one.
pub fn router(state: ApiState, roles: &[Role]) -> Router {
    let layer = |state: &ApiState| state.clone();
    let (api, mut document) = api(roles).split_for_parts();
    let api = api.route_layer(middleware::from_fn_with_state(layer(&state), edge::admit));
    let (operations, paths) = operations().split_for_parts();
    document.merge(paths);
    api.merge(operations)
        .merge(docs::routes(openapi::to_json(&document)))
        .layer(middleware::from_fn_with_state(layer(&state), edge::bound_headers))
        .layer(middleware::from_fn_with_state(layer(&state), edge::finish))
        .layer(middleware::from_fn_with_state(layer(&state), edge::observe))
        .with_state(state)
}

/// The document of these roles.
pub(crate) fn document(roles: &[Role]) -> OpenApi {
    let mut document = api(roles).into_openapi();
    document.merge(operations().into_openapi());
    document
}

fn api(roles: &[Role]) -> OpenApiRouter<ApiState> {
    let mut router = OpenApiRouter::with_openapi(openapi::frame());
    if roles.contains(&Role::Orders) {
        router = router
            .routes(routes!(orders::create_order, orders::list_orders))
            .routes(routes!(orders::get_order))
            .routes(routes!(orders::update_order_status))
            .routes(routes!(orders::cancel_order))
            .routes(routes!(orders::list_orders_by_status))
            .routes(routes!(orders::list_customer_orders));
    }
    if roles.contains(&Role::Inventory) {
        router = router
            .routes(routes!(products::create_product, products::list_products))
            .routes(routes!(products::get_product))
            .routes(routes!(products::update_stock));
    }
    if roles.contains(&Role::Notifications) {
        router = router.routes(routes!(notifications::get_notification));
    }
    router
        .routes(routes!(workflows::start_workflow, workflows::list_workflows))
        .routes(routes!(workflows::get_workflow))
        .routes(routes!(workflows::get_workflow_history))
        .routes(routes!(workflows::cancel_workflow))
        .routes(routes!(workflows::list_workflow_definitions))
        .routes(routes!(workflows::get_workflow_definition))
        .routes(routes!(dead_jobs::list_dead_jobs))
        .routes(routes!(dead_jobs::get_dead_job))
        .routes(routes!(dead_jobs::retry_dead_job))
        .routes(routes!(dead_jobs::retry_dead_jobs))
        .routes(routes!(dead_jobs::discard_dead_job))
}

/// What has to answer whatever the load and the database.
fn operations() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(health::get_health_live))
        .routes(routes!(health::get_health_ready))
        .routes(routes!(health::get_health))
        .routes(routes!(metrics::get_metrics))
}
