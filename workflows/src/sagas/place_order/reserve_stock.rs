//! Reserves the stock of the order.

use engine::{
    Batch, Outcome, Outcomes, Shared, StepError, TransactionStep, Tx, UndoBatch, UndoOutcome, UndoOutcomes,
    UndoTransaction,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::outcome::insufficient;
use crate::{
    inventory::{self, ReservationEnd, ReservationRequest, Reservations},
    orders::{PLACE_ORDER, PlaceOrder},
    sagas::low_stock_alert::low_stock_alerts,
    support::admin_emails::AdminEmails,
};

/// Reserves the stock of all items, summed per SKU, or nothing. Its undo releases the stock.
pub(super) struct ReserveStock {
    /// The administrators, who get a mail if that makes stock low.
    pub(super) admins: AdminEmails,
}

/// The output of `reserve-stock`.
#[derive(Serialize, Deserialize)]
pub(super) struct Reserved {
    units: i64,
}

impl TransactionStep for ReserveStock {
    const NAME: &'static str = "reserve-stock";
    type Input = Shared<PlaceOrder>;
    type Output = Reserved;
    type Undo = Self;

    fn locks(&self, order: &Shared<PlaceOrder>) -> Vec<String> {
        order.items.iter().map(|line| line.sku.clone()).collect()
    }

    async fn run(
        &self,
        tx: &mut Tx<'_>,
        batch: &Batch<Shared<PlaceOrder>>,
    ) -> Result<Outcomes<Reserved>, StepError> {
        let requests: Vec<ReservationRequest> = batch.iter().map(|item| reservation(&item.input)).collect();
        let Reservations { results, low } = inventory::reserve(tx, PLACE_ORDER.name(), &requests).await?;
        tx.start(low_stock_alerts(&self.admins, &low)).await?;
        let mut results = results.into_iter();
        Ok(batch.decide(|item| match results.next() {
            Some(Err(short)) => Outcome::Fail(insufficient(&short)),
            Some(Ok(())) | None => {
                Outcome::Done(Reserved { units: item.input.items.iter().map(|line| line.quantity).sum() })
            }
        }))
    }
}

impl UndoTransaction<ReserveStock> for ReserveStock {
    async fn undo(
        _: &ReserveStock,
        tx: &mut Tx<'_>,
        batch: &UndoBatch<Shared<PlaceOrder>, Reserved>,
    ) -> Result<UndoOutcomes, StepError> {
        let order_ids: Vec<Uuid> = batch.iter().map(|item| item.input.order_id).collect();
        inventory::end_reservations(tx, PLACE_ORDER.name(), &order_ids, ReservationEnd::Released).await?;
        Ok(batch.decide(|_| UndoOutcome::Done))
    }
}

fn reservation(order: &PlaceOrder) -> ReservationRequest {
    ReservationRequest::new(order.order_id, order.items.iter().map(|line| (line.sku.as_str(), line.quantity)))
}
