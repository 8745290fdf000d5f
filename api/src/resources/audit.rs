//! GET `/api/audit`: what people changed.

mod entry;
mod query;

use std::cmp::Reverse;

use axum::extract::State;
use engine::{AuditFilter, PageOf};

use crate::{
    extract::{PageRequest, Query},
    http::{
        JsonResponse, Problem,
        documented::{DATABASE_PROBLEMS, LIST_PROBLEMS, problems},
    },
    state::ApiState,
};
use entry::{AuditCursor, AuditEntry, AuditEntryList};
use query::AuditQuery;

problems!(Problems: LIST_PROBLEMS, DATABASE_PROBLEMS);

/// List what people changed
///
/// Changes by people, newest first: who changed what, from where and why. They cover stock, products, orders, keys,
/// queues, workflows and dead jobs. The audit is append-only. An entry is written in the transaction of its change. A
/// change that a workflow makes later, such as the cancellation of an order, has `asked` in its `after`. The filter
/// `actor` finds a key with any `X-Actor`. With an actor, or with several conditions, the list may have to look at many
/// entries: few such lists are read at a time (503 `overloaded` beyond that), each for two seconds at most (503 `timeout`).
#[utoipa::path(
    get,
    path = "/api/audit",
    tag = "operations",
    params(AuditQuery),
    responses(
        (
            status = 200,
            description = "A page of changes, newest first",
            body = AuditEntryList,
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
    let limit = page_request.limit;
    let engine_filter = query.engine_filter();
    let may_scan = shop_filter.may_scan() || engine_filter.as_ref().is_some_and(AuditFilter::may_scan);
    let _permit = state.list_permit(may_scan)?;
    let shop_page =
        shop::audit::list(state.pool(), &shop_filter, after.map(AuditCursor::in_shop), limit).await?;
    let mut pages = vec![entries(shop_page)];
    // The engine has an audit of its own.
    if let Some(filter) = engine_filter {
        let engine_page = state.engine().audit(&filter, after.map(AuditCursor::in_engine), limit).await?;
        pages.push(entries(engine_page));
    }
    JsonResponse::ok(&AuditEntryList::of(merge(pages, limit), &page_request, |entry| entry.audit_id))
}

fn entries<R: Into<AuditEntry>>(page: PageOf<R>) -> PageOf<AuditEntry> {
    PageOf { items: page.items.into_iter().map(Into::into).collect(), has_more: page.has_more }
}

/// Merges the pages of several lists, each from the newest to the oldest, into a page of all.
fn merge(pages: Vec<PageOf<AuditEntry>>, limit: u32) -> PageOf<AuditEntry> {
    // A list that goes on may have entries that are newer than the older ones of another list.
    let known = pages.iter().filter(|page| page.has_more).filter_map(|page| page.items.last());
    let known = known.map(|entry| entry.audit_id).max();
    let mut has_more = known.is_some();
    let mut items: Vec<_> = pages.into_iter().flat_map(|page| page.items).collect();
    items.retain(|entry| known.is_none_or(|known| entry.audit_id >= known));
    items.sort_by_key(|entry| Reverse(entry.audit_id));
    has_more |= items.len() > limit as usize;
    items.truncate(limit as usize);
    PageOf { items, has_more }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(ids: &[u128], has_more: bool) -> PageOf<AuditEntry> {
        PageOf {
            items: ids.iter().map(|id| AuditEntry::bare(uuid::Uuid::from_u128(*id))).collect(),
            has_more,
        }
    }

    #[test]
    fn a_merged_page_skips_no_entry_of_a_list_that_goes_on() {
        let merged = |pages, limit| {
            let page = merge(pages, limit);
            (page.items.iter().map(|entry| entry.audit_id.as_u128()).collect::<Vec<_>>(), page.has_more)
        };
        assert_eq!(merged(vec![page(&[9, 6], false), page(&[8, 7], false)], 9), (vec![9, 8, 7, 6], false));
        assert_eq!(merged(vec![page(&[9, 6], false), page(&[8, 7], false)], 3), (vec![9, 8, 7], true));
        // The second list ended early, and its next entry may come before 2.
        assert_eq!(merged(vec![page(&[9, 2], false), page(&[8, 7], true)], 9), (vec![9, 8, 7], true));
        assert_eq!(merged(vec![page(&[9, 4], true), page(&[8, 7], true)], 9), (vec![9, 8, 7], true));
        assert_eq!(merged(vec![page(&[], false), page(&[], false)], 9), (vec![], false));
    }
}
