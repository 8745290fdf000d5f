//! GET `/api/returns`.

use axum::extract::State;
use shop::returns::{self, ReturnFilter};
use utoipa::IntoParams;

use super::{
    body::{OrderReturnList, ReturnStatus, example},
    listing::{PageQuery, page},
};
use crate::{
    extract::{FromParams, Params, Query},
    http::{
        JsonResponse, Problem,
        documented::{DATABASE_PROBLEMS, LIST_PROBLEMS, problems},
    },
    resources::page::page_of,
    state::ApiState,
};

problems!(ListProblems: LIST_PROBLEMS, DATABASE_PROBLEMS);

/// Which returns to list.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReturnQuery {
    /// Only those in this status, such as `requested`: those that wait for a decision.
    #[param(value_type = ReturnStatus, required = false)]
    status: Option<returns::ReturnStatus>,
    #[param(ignore)]
    page: PageQuery,
}

impl FromParams for ReturnQuery {
    fn from_params(params: &mut Params) -> Self {
        Self { status: params.take("status"), page: PageQuery::from_params(params) }
    }
}

/// List returns
///
/// Lists the returns of all orders, newest first.
#[utoipa::path(
    get,
    path = "/api/returns",
    tag = "returns",
    params(ReturnQuery, PageQuery),
    responses(
        (status = 200, description = "A page of returns", body = OrderReturnList, example = json!(page_of(&example()))),
        ListProblems
    )
)]
pub(crate) async fn list_returns(
    State(state): State<ApiState>,
    Query(query): Query<ReturnQuery>,
) -> Result<JsonResponse, Problem> {
    let filter = ReturnFilter { status: query.status, order_id: None };
    page(&state, "returns", filter, &query.page).await
}
