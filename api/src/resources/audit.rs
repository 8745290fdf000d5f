//! GET `/api/audit`: what people changed.

mod entry;
mod query;

use std::cmp::Reverse;

use axum::extract::State;

use crate::{
    extract::{PageRequest, Query},
    http::{
        JsonResponse, Problem,
        documented::{DATABASE_PROBLEMS, LIST_PROBLEMS, problems},
    },
    state::ApiState,
};
use entry::{AuditCursor, AuditEntry, AuditPage};
use query::AuditQuery;

problems!(Problems: LIST_PROBLEMS, DATABASE_PROBLEMS);

/// List what people changed
///
/// Changes by people, newest first: who changed what, from where and why. They cover stock, products, orders, keys,
/// queues, workflows and dead jobs. The audit is append-only. An entry is written in the transaction of its change. A
/// change that a workflow makes later, such as the cancellation of an order, has `asked` in its `after`. The filter
/// `actor` finds a key with any `X-Actor`.
#[utoipa::path(
    get,
    path = "/api/audit",
    tag = "operations",
    params(AuditQuery),
    responses(
        (
            status = 200,
            description = "A page of changes, newest first",
            body = AuditPage,
            example = json!(crate::resources::page::page_of(&entry::example()))
        ),
        Problems
    )
)]
pub(crate) async fn list_audit(
    State(state): State<ApiState>,
    Query(query): Query<AuditQuery>,
) -> Result<JsonResponse, Problem> {
    let shop_filter = query.shop_filter();
    let page_request =
        PageRequest::new("audit", &format!("{shop_filter:?}"), query.cursor.as_deref(), query.limit)?;
    let after = page_request.after.map(AuditCursor::from_id);
    let limit = page_request.read_limit();
    let mut entries: Vec<AuditEntry> = Vec::new();
    let shop_entries =
        shop::audit::list(state.pool(), &shop_filter, after.map(AuditCursor::in_shop), limit).await?;
    entries.extend(shop_entries.into_iter().map(AuditEntry::from));
    // The engine has an audit of its own. Both lists go from the newest to the oldest, and so does their merge.
    if let Some(filter) = query.engine_filter() {
        let engine_entries = state.engine().audit(&filter, after.map(AuditCursor::in_engine), limit).await?;
        entries.extend(engine_entries.into_iter().map(AuditEntry::from));
    }
    entries.sort_by_key(|entry| Reverse(entry.audit_id));
    entries.truncate(limit as usize);
    JsonResponse::ok(&AuditPage::of(entries, &page_request, |entry| entry.audit_id))
}
