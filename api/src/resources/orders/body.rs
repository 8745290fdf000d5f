//! The JSON of orders.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shop::{Currency, orders};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    extract::StrictObject,
    http::documented_enum::documented_enum,
    resources::{page::list, versioned::Versioned},
    state::ApiState,
};

documented_enum!(OrderStatus, "The status of an order.", orders::OrderStatus::ALL);

/// An order to be placed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewOrder {
    /// The customer who orders.
    pub(crate) customer_id: Uuid,
    /// Where mails about the order go.
    #[schema(format = "mail-address", example = "a@example.com")]
    pub(crate) customer_email: String,
    /// The lines. Lines with the same SKU are added up when stock is reserved.
    #[schema(min_items = 1, max_items = 100, value_type = Vec<orders::OrderItem>)]
    pub(crate) items: Vec<StrictObject<orders::OrderItem>>,
}

/// A new status for an order.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrderStatusUpdate {
    /// `processing`, `shipped` or `delivered`, each from the one before. The other statuses result from placing and
    /// cancelling.
    #[schema(value_type = OrderStatus)]
    pub(crate) status: orders::OrderStatus,
    /// The reason, for the timeline.
    #[schema(format = "reason")]
    pub(crate) reason: Option<String>,
}

/// Why an order is cancelled.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrderCancellation {
    /// The reason, for the timeline and the customer.
    #[schema(format = "required-reason", example = "changed my mind")]
    pub(crate) reason: String,
}

/// An order.
#[derive(Debug, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the JSON names its id so")]
pub(crate) struct Order {
    pub(crate) order_id: Uuid,
    pub(crate) customer_id: Uuid,
    pub(crate) customer_email: String,
    #[schema(value_type = OrderStatus)]
    pub(crate) status: orders::OrderStatus,
    /// Why the order was rejected or cancelled; a rejection lists the lines that were short.
    pub(crate) status_reason: Option<String>,
    #[schema(value_type = Currency)]
    pub(crate) currency: String,
    /// In minor units of the currency.
    pub(crate) total: i64,
    pub(crate) items: Vec<OrderLine>,
    /// Every status of the order, oldest first.
    pub(crate) timeline: Vec<TimelineEntry>,
    /// Until when the order waits for its payment, or waited; null if it never did (`PAYMENT_WINDOW`). The signal
    /// `payment-received` ends the wait.
    pub(crate) payment_due_at: Option<DateTime<Utc>>,
    /// The workflow that places the order; see `/api/workflows/{id}`. It is deleted some time after its end; the order
    /// stays.
    pub(crate) workflow_id: Uuid,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

list!(OrderList of Order, "A page of orders, newest first.");

/// One line of an order, priced as of when the order was placed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OrderLine {
    pub(crate) sku: String,
    pub(crate) name: String,
    pub(crate) quantity: i64,
    /// In minor units of the order's currency.
    pub(crate) unit_price: i64,
    /// In minor units of the order's currency.
    pub(crate) line_total: i64,
}

/// One change of an order's status.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TimelineEntry {
    #[schema(value_type = OrderStatus)]
    pub(crate) status: orders::OrderStatus,
    pub(crate) at: DateTime<Utc>,
    /// Who changed it: a person, a service, or a workflow.
    pub(crate) actor: String,
    pub(crate) reason: Option<String>,
}

impl From<orders::Order> for Order {
    fn from(order: orders::Order) -> Self {
        Self {
            order_id: order.order_id,
            customer_id: order.customer_id,
            customer_email: order.customer_email,
            status: order.status,
            status_reason: order.status_reason,
            currency: order.currency,
            total: order.total,
            items: order.items.into_iter().map(Into::into).collect(),
            timeline: order.timeline.into_iter().map(Into::into).collect(),
            payment_due_at: order.payment_due_at,
            workflow_id: order.workflow_id,
            created_at: order.created_at,
            updated_at: order.updated_at,
        }
    }
}

impl Versioned for orders::Order {
    const NOUN: &'static str = "order";
    type Id = Uuid;
    type Body = Order;

    fn version(&self) -> i64 {
        self.version
    }

    async fn find(state: &ApiState, id: &Uuid) -> Result<Option<Self>, sqlx::Error> {
        orders::get(state.pool(), *id).await
    }
}

impl From<orders::OrderLine> for OrderLine {
    fn from(line: orders::OrderLine) -> Self {
        let orders::OrderLine { sku, name, quantity, unit_price, line_total } = line;
        Self { sku, name, quantity, unit_price, line_total }
    }
}

impl From<orders::TimelineEntry> for TimelineEntry {
    fn from(entry: orders::TimelineEntry) -> Self {
        let orders::TimelineEntry { status, at, actor, reason } = entry;
        Self { status, at, actor, reason }
    }
}

/// The example in the OpenAPI document.
pub(super) fn example() -> Value {
    json!({
        "order_id": "0199f3a0-5c1e-7d2b-9a43-0f6f4a1c2b3d",
        "customer_id": "0199f39f-0000-7000-8000-000000000001",
        "customer_email": "a@example.com",
        "status": "confirmed",
        "status_reason": null,
        "currency": "EUR",
        "total": 2580,
        "items": [
            {"sku": "TEA-1", "name": "Green tea", "quantity": 2, "unit_price": 1290, "line_total": 2580}
        ],
        "timeline": [
            {"status": "pending", "at": "2026-11-22T10:00:00.000123Z", "actor": "key:web", "reason": null},
            {"status": "confirmed", "at": "2026-11-22T10:00:00.004567Z", "actor": "place-order", "reason": null}
        ],
        "payment_due_at": null,
        "workflow_id": "0199f3a0-5c1e-7d2b-9a43-0f6f4a1c2b3e",
        "created_at": "2026-11-22T10:00:00.000123Z",
        "updated_at": "2026-11-22T10:00:00.004567Z"
    })
}
