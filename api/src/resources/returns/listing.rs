//! What the lists of returns have in common.

use shop::returns::{self, ReturnFilter};
use utoipa::IntoParams;

use super::body::OrderReturnList;
use crate::{
    extract::{FromParams, PageRequest, Params},
    http::{JsonResponse, Problem},
    state::ApiState,
};

/// Which page of a list of returns to return.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// `next_cursor` of the page before, with the same filter.
    cursor: Option<String>,
    /// How many at most, 1 to 200; 50 by default.
    #[param(minimum = 1, maximum = 200, default = 50, required = false)]
    limit: u32,
}

impl FromParams for PageQuery {
    fn from_params(params: &mut Params) -> Self {
        Self { cursor: params.text("cursor", 256), limit: params.limit() }
    }
}

/// Answers with a page of returns.
///
/// # Errors
/// A 400 for a cursor of another list.
pub(super) async fn page(
    state: &ApiState,
    list: &str,
    filter: ReturnFilter,
    query: &PageQuery,
) -> Result<JsonResponse, Problem> {
    let request = PageRequest::new(list, &format!("{filter:?}"), query.cursor.as_deref(), query.limit)?;
    let rows = returns::list(state.pool(), filter, request.engine_page()).await?;
    JsonResponse::ok(&OrderReturnList::of(rows, &request, |found| found.return_id))
}
