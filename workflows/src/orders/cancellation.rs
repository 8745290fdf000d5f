//! The input of the saga `cancel-order`.

use engine::SagaName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The name of the saga, with the type of its input. Its business key is the order's id.
pub const CANCEL_ORDER: SagaName<CancelOrder> = SagaName::new("cancel-order");

/// A request to cancel a placed order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelOrder {
    /// The order's id.
    pub order_id: Uuid,
    /// The reason, for the timeline and the customer.
    pub reason: String,
    /// The person who cancels, for the timeline. The API sets it.
    #[serde(default)]
    pub actor: String,
    /// If given, the order must still have this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_version: Option<i64>,
}
