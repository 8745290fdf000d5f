//! GET `/api/notification-templates`.

use axum::extract::State;

use super::body::NotificationTemplateList;
use crate::{
    extract::NoQuery,
    http::{
        JsonResponse, Problem, ProblemCode,
        documented::{DATABASE_PROBLEMS, problems},
    },
    state::ApiState,
};

problems!(Problems: DATABASE_PROBLEMS, &[ProblemCode::InvalidParameter]);

/// List the templates of notifications
///
/// Lists all mail templates, each with the JSON schema of its variables and an example.
#[utoipa::path(
    get,
    path = "/api/notification-templates",
    tag = "notifications",
    responses(
        (status = 200, description = "The templates", body = NotificationTemplateList, example = json!({"items": [{
            "name": "low-stock",
            "description": "Tells those who run the shop that there is little left of a product, or of several.",
            "variables": {"type": "object", "required": ["products"]},
            "example": {"products": [{"sku": "TEA-1", "available": 4, "threshold": 5}], "more": 0},
            "subject": "Stock of TEA-1 is low"
        }], "next_cursor": null})),
        Problems
    )
)]
pub(crate) async fn list_notification_templates(
    State(state): State<ApiState>,
    _: NoQuery,
) -> Result<JsonResponse, Problem> {
    let templates = state.templates().iter().map(|(template, _)| template);
    JsonResponse::ok(&NotificationTemplateList::whole(templates))
}
