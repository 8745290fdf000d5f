//! Cancels orders whose placement could not follow a cancel any more: it was accepted while the order was being
//! confirmed, and an accepted cancel is carried out.

use std::collections::BTreeSet;

use engine::{LateCancel, StatusChange, StatusObserver, StepError, Tx};
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    orders::{self, CANCEL_ORDER, CancelOrder},
    sagas::cancel_order::check_cancellable,
};

/// Starts `cancel-order` for late cancels.
pub(crate) struct LateCancels;

impl StatusObserver for LateCancels {
    async fn status_changed(&self, _: &mut Tx<'_>, _: &[StatusChange]) -> Result<(), StepError> {
        Ok(())
    }

    async fn cancelled_too_late(&self, tx: &mut Tx<'_>, late: &[LateCancel]) -> Result<(), StepError> {
        let cancels: Vec<CancelOrder> = late.iter().filter_map(cancel).collect();
        let order_ids: BTreeSet<Uuid> = cancels.iter().map(|cancel| cancel.order_id).collect();
        let order_ids: Vec<Uuid> = order_ids.into_iter().collect();
        let found = orders::lock_orders(tx, &order_ids).await?;
        let mut starts = Vec::with_capacity(cancels.len());
        for cancel in &cancels {
            match check_cancellable(cancel, found.get(&cancel.order_id).copied()) {
                Ok(_) => {
                    starts.push(CANCEL_ORDER.with(cancel).business_key(cancel.order_id.to_string()));
                }
                // It was closed, or cancelled by another saga.
                Err(refused) => {
                    tracing::info!(order.id = %cancel.order_id, reason = refused.message, "a late cancel has no effect");
                }
            }
        }
        if starts.is_empty() {
            return Ok(());
        }
        for started in tx.start(starts).await?.iter().filter(|started| started.existing) {
            tracing::warn!(saga.id = %started.saga_id, "a late cancel found another saga with its business key");
        }
        Ok(())
    }
}

/// The input of the saga that cancels the order.
fn cancel(late: &LateCancel) -> Option<CancelOrder> {
    #[derive(Deserialize)]
    struct Placement {
        order_id: Uuid,
    }
    match serde_json::from_str(late.input.get()) {
        Ok(Placement { order_id }) => Some(CancelOrder {
            order_id,
            reason: late.reason.clone(),
            actor: late.actor.clone(),
            expected_version: None,
        }),
        Err(error) => {
            tracing::error!(saga.id = %late.saga_id, error = %engine::ErrorChain(&error), "the order of a late cancel can't be read");
            None
        }
    }
}
