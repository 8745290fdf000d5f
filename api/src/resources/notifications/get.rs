//! GET `/api/notifications/{notification_id}`.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};

use shop::notifications;

use super::body::{Notification, example};
use crate::{
    extract::{IdPath, NoQuery},
    http::{
        JsonResponse, Problem,
        documented::{DATABASE_PROBLEMS, RESOURCE_PROBLEMS, problems},
    },
    state::ApiState,
};

problems!(Problems: RESOURCE_PROBLEMS, DATABASE_PROBLEMS);

/// Read a notification
///
/// Returns a notification with every attempt to deliver it. A mail is delivered at least once, always with the same
/// `Message-ID`.
#[utoipa::path(
    get,
    path = "/api/notifications/{notification_id}",
    tag = "notifications",
    params(("notification_id" = Uuid, Path, description = "The notification")),
    responses(
        (status = 200, description = "The notification", body = Notification, example = json!(example())),
        Problems
    )
)]
pub(crate) async fn get_notification(
    State(state): State<ApiState>,
    IdPath(id): IdPath,
    _: NoQuery,
) -> Result<Response, Problem> {
    let found = notifications::get(state.shop().engine(), id).await?;
    let notification = found.ok_or_else(|| Problem::not_found("notification", id))?;
    Ok(JsonResponse::ok(&Notification::from(notification))?.into_response())
}
