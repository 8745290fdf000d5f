//! The JSON of returns.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use shop::returns;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    extract::StrictObject,
    http::documented_enum::documented_enum,
    resources::{page::list, versioned::Versioned},
    state::ApiState,
};

documented_enum!(ReturnStatus, "The status of a return.", returns::ReturnStatus::ALL);

/// Reads a list that can be left out, and can't be null: without one everything is meant.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// What is returned of an order.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewReturn {
    /// Why it is returned, for whoever decides about it.
    #[schema(format = "required-reason", example = "too small")]
    pub(crate) reason: String,
    /// The units, each SKU once. Without it all that is not in a return yet.
    #[serde(default, deserialize_with = "given")]
    #[schema(min_items = 1, max_items = 100, nullable = false, value_type = Option<Vec<returns::ReturnItem>>)]
    pub(crate) items: Option<Vec<StrictObject<returns::ReturnItem>>>,
}

/// Why a return is approved.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReturnApproval {
    /// The reason, for the timeline.
    #[schema(format = "reason", example = "within two weeks")]
    pub(crate) reason: Option<String>,
}

/// Why a return is rejected.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReturnRejection {
    /// The reason, for the timeline and the customer.
    #[schema(format = "required-reason", example = "it was worn")]
    pub(crate) reason: String,
}

/// What was in the parcel of a return.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReturnReceipt {
    /// The units, each SKU once; what is not listed was not in the parcel. Without it all that was announced, fit for sale.
    #[serde(default, deserialize_with = "given")]
    #[schema(min_items = 1, max_items = 100, nullable = false, value_type = Option<Vec<returns::ReceivedItem>>)]
    pub(crate) items: Option<Vec<StrictObject<returns::ReceivedItem>>>,
    /// A remark, for the timeline.
    #[schema(format = "reason", example = "one box is damaged")]
    pub(crate) reason: Option<String>,
}

/// A return of an order, or of part of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OrderReturn)]
#[expect(clippy::struct_field_names, reason = "the JSON names its id so")]
pub(crate) struct Return {
    pub(crate) return_id: Uuid,
    pub(crate) order_id: Uuid,
    #[schema(value_type = ReturnStatus)]
    pub(crate) status: returns::ReturnStatus,
    /// Why the return was rejected, expired or cancelled, or a remark on its approval or its parcel.
    pub(crate) status_reason: Option<String>,
    /// Why it is returned.
    pub(crate) reason: String,
    pub(crate) items: Vec<ReturnLine>,
    /// Every status of the return, oldest first.
    pub(crate) timeline: Vec<ReturnTimelineEntry>,
    /// The workflow of the return; see `/api/workflows/{id}`. It is deleted some time after its end; the return stays.
    pub(crate) workflow_id: Uuid,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

list!(OrderReturnList of Return, "A page of returns, newest first.");

/// Units of one product in a return.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReturnLine {
    pub(crate) sku: String,
    /// How many are announced.
    pub(crate) quantity: i64,
    /// How many were in the parcel; null until it is here.
    pub(crate) received: Option<i64>,
    /// How many of those were fit for sale and are in stock again; null until the parcel is here.
    pub(crate) restocked: Option<i64>,
}

/// One change of a return's status.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReturnTimelineEntry {
    #[schema(value_type = ReturnStatus)]
    pub(crate) status: returns::ReturnStatus,
    pub(crate) at: DateTime<Utc>,
    /// Who changed it: a person, a service, or a workflow.
    pub(crate) actor: String,
    pub(crate) reason: Option<String>,
}

impl From<returns::OrderReturn> for Return {
    fn from(found: returns::OrderReturn) -> Self {
        Self {
            return_id: found.return_id,
            order_id: found.order_id,
            status: found.status,
            status_reason: found.status_reason,
            reason: found.reason,
            items: found.items.into_iter().map(Into::into).collect(),
            timeline: found.timeline.into_iter().map(Into::into).collect(),
            workflow_id: found.workflow_id,
            created_at: found.created_at,
            updated_at: found.updated_at,
        }
    }
}

impl From<returns::ReturnLine> for ReturnLine {
    fn from(line: returns::ReturnLine) -> Self {
        let returns::ReturnLine { sku, quantity, received, restocked } = line;
        Self { sku, quantity, received, restocked }
    }
}

impl From<returns::ReturnTimelineEntry> for ReturnTimelineEntry {
    fn from(entry: returns::ReturnTimelineEntry) -> Self {
        let returns::ReturnTimelineEntry { status, at, actor, reason } = entry;
        Self { status, at, actor, reason }
    }
}

impl Versioned for returns::OrderReturn {
    const NOUN: &'static str = "return";
    type Id = Uuid;
    type Body = Return;

    fn version(&self) -> i64 {
        self.version
    }

    async fn find(state: &ApiState, id: &Uuid) -> Result<Option<Self>, sqlx::Error> {
        returns::get(state.pool(), *id).await
    }
}

/// The example in the OpenAPI document.
pub(super) fn example() -> Value {
    json!({
        "return_id": "0199f3b0-5c1e-7d2b-9a43-0f6f4a1c2b3d",
        "order_id": "0199f3a0-5c1e-7d2b-9a43-0f6f4a1c2b3d",
        "status": "approved",
        "status_reason": "within two weeks",
        "reason": "too small",
        "items": [{"sku": "TEA-1", "quantity": 1, "received": null, "restocked": null}],
        "timeline": [
            {"status": "requested", "at": "2026-11-24T10:00:00.000123Z", "actor": "key:web", "reason": "too small"},
            {"status": "approved", "at": "2026-11-24T11:30:00.004567Z", "actor": "ann", "reason": "within two weeks"}
        ],
        "workflow_id": "0199f3b0-5c1e-7d2b-9a43-0f6f4a1c2b3e",
        "created_at": "2026-11-24T10:00:00.000123Z",
        "updated_at": "2026-11-24T11:30:00.004567Z"
    })
}
