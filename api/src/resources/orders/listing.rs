//! What the lists of orders have in common: the time range and the page.

use shop::orders::{self, OrderFilter};
use utoipa::IntoParams;

use super::body::OrderList;
use crate::{
    extract::{FromParams, PageRequest, Params, Timestamp},
    http::{JsonResponse, Problem},
    state::ApiState,
};

/// Which page of a list of orders to return.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct RangeQuery {
    /// Only those created after this time (RFC 3339).
    #[param(value_type = Option<DateTime<Utc>>)]
    pub(super) created_after: Option<Timestamp>,
    /// Only those created before this time (RFC 3339).
    #[param(value_type = Option<DateTime<Utc>>)]
    pub(super) created_before: Option<Timestamp>,
    /// `next_cursor` of the page before, with the same filter.
    cursor: Option<String>,
    /// How many at most, 1 to 200; 50 by default.
    #[param(minimum = 1, maximum = 200, default = 50, required = false)]
    limit: u32,
}

impl FromParams for RangeQuery {
    fn from_params(params: &mut Params) -> Self {
        Self {
            created_after: params.take("created_after"),
            created_before: params.take("created_before"),
            cursor: params.text("cursor", 256),
            limit: params.limit(),
        }
    }
}

/// Answers with a page of orders.
///
/// # Errors
/// A 400 for a cursor of another list; a 503 when too many such lists are read.
pub(super) async fn page(
    state: &ApiState,
    list: &str,
    filter: OrderFilter,
    range: &RangeQuery,
) -> Result<JsonResponse, Problem> {
    let page_request = PageRequest::new(list, &format!("{filter:?}"), range.cursor.as_deref(), range.limit)?;
    let _permit = state.list_permit(filter.may_scan())?;
    let rows = orders::list(state.pool(), &filter, page_request.engine_page()).await?;
    JsonResponse::ok(&OrderList::of(rows, &page_request, |order| order.order_id))
}
