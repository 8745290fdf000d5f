//! GET `/api/notifications/status/{status}`.

use axum::extract::State;
use serde_json::json;
use shop::notifications;

use super::body::{NotificationList, NotificationStatus};
use crate::{
    extract::{CursorQuery, Query, TextPath},
    http::{
        JsonResponse, Problem,
        documented::{DATABASE_PROBLEMS, LIST_PROBLEMS, problems},
    },
    resources::page::page_of,
    state::ApiState,
};

problems!(ListProblems: LIST_PROBLEMS, DATABASE_PROBLEMS);

/// List notifications in a status
///
/// Lists notifications, newest first, without their texts and attempts. A list of `pending`, `sending` or `sent` ones may
/// have to look at many: few such lists run at a time (503 `overloaded` beyond that), each for two seconds at most (503
/// `timeout`). The errors of failed notifications are among the dead jobs
/// (`/api/dead-jobs?definition=deliver-notification`), those of unsent ones among the workflows
/// (`/api/workflows?definition=deliver-notification&status=running`).
#[utoipa::path(
    get,
    path = "/api/notifications/status/{status}",
    tag = "notifications",
    params(("status" = NotificationStatus, Path, description = "The status"), CursorQuery),
    responses(
        (
            status = 200,
            description = "A page of notifications",
            body = NotificationList,
            example = json!(page_of(&json!({
                "notification_id": "0199f3a0-2222-7222-8333-444455556666",
                "to": "a@example.com",
                "subject": "Your order is confirmed",
                "status": "sent",
                "message_id": "<0199f3a0-2222-7222-8333-444455556666.send-mail@example.com>",
                "created_at": "2026-11-22T10:00:00.004567Z",
                "updated_at": "2026-11-22T10:00:00.036Z"
            })))
        ),
        ListProblems
    )
)]
pub(crate) async fn list_notifications_by_status(
    State(state): State<ApiState>,
    TextPath(status): TextPath,
    Query(query): Query<CursorQuery>,
) -> Result<JsonResponse, Problem> {
    let status: notifications::NotificationStatus =
        status.parse().map_err(|error: String| Problem::parameter("status", error))?;
    let page_request = query.page_request("notifications-by-status", status.name())?;
    let _permit = state.list_permit(status.may_scan())?;
    let rows = notifications::list(state.pool(), status, page_request.engine_page()).await?;
    JsonResponse::ok(&NotificationList::of(rows, &page_request, |row| row.notification_id))
}
