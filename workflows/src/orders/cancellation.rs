//! What cancels an order: the input of the saga `cancel-order`.

use engine::SagaName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The saga's name and input. The business key is the order's id.
pub const CANCEL_ORDER: SagaName<CancelOrder> = SagaName::new("cancel-order");

/// What cancels an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelOrder {
    /// The order.
    pub order_id: Uuid,
    /// Why, for the timeline and the customer.
    pub reason: String,
    /// Who, for the timeline.
    pub actor: String,
    /// The version that the order has to have still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_version: Option<i64>,
}
