//! Earlier graphs of the saga. Placements that a version before began go on with theirs, so each stays here until no
//! database has a placement of it (`sagaline check`).

use std::time::Duration;

use engine::{
    Batch, Definition, ForwardOnly, GraphError, Outcomes, Saga, Shared, StepError, TransactionStep, Tx,
};

use super::{
    QueueConfirmation, check,
    confirm_order::{ConfirmOrder, Confirmed, confirm},
    late_cancels::LateCancels,
    open_order::OpenOrder,
    reserve_stock::ReserveStock,
};
use crate::{
    orders::{PLACE_ORDER, PlaceOrder},
    support::admin_emails::AdminEmails,
};

/// Builds the graph without a wait for the payment.
pub(crate) fn without_payment(
    reservation_ttl: Duration,
    admins: AdminEmails,
) -> Result<Definition, GraphError> {
    Saga::named(PLACE_ORDER)
        .deadline(reservation_ttl)
        .check_input(check)
        .observed_by(LateCancels)
        .entry(OpenOrder { payment_window: None })
        .then(ReserveStock { admins })
        .pivot(ConfirmUnpaid)
        .then(QueueConfirmation)
        .build()
}

/// `confirm-order` of an order that waits for no payment.
struct ConfirmUnpaid;

impl TransactionStep for ConfirmUnpaid {
    const NAME: &'static str = ConfirmOrder::NAME;
    type Input = Shared<PlaceOrder>;
    type Output = Confirmed;
    type Undo = ForwardOnly;

    async fn run(
        &self,
        tx: &mut Tx<'_>,
        batch: &Batch<Self::Input>,
    ) -> Result<Outcomes<Confirmed>, StepError> {
        confirm(tx, batch, |order| (order.order_id, None)).await
    }
}
