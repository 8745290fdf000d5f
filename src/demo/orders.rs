//! The orders of the demo: who wants what, and what has to come of it.

use std::sync::Arc;

use anyhow::Context;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};
use uuid::Uuid;

use super::client::{Client, PLENTIFUL, PLENTY, SCARCE};
use crate::terminal::Progress;

/// How many customers are at it at the same time.
const AT_ONCE: usize = 48;

/// What a customer wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// What there is plenty of.
    Ordinary,
    /// As before, but thought better of at once.
    Withdrawn,
    /// One of the last few.
    Scarce,
    /// More than there is.
    TooMuch,
}

/// What came of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Confirmed,
    Rejected,
    Cancelled,
    /// Anything that a settled order must not be.
    Unsettled(String),
}

impl Fate {
    pub(super) fn of(status: &str) -> Self {
        match status {
            "confirmed" => Self::Confirmed,
            "rejected" => Self::Rejected,
            "cancelled" => Self::Cancelled,
            other => Self::Unsettled(other.to_owned()),
        }
    }
}

/// An order that the API acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) order_id: Uuid,
    pub(super) email: String,
    pub(super) wish: Wish,
}

/// Places `total` orders, many at a time, and counts them in `count`.
pub(super) async fn rush(
    client: Client,
    total: u64,
    progress: Arc<Progress>,
    count: watch::Sender<u64>,
) -> anyhow::Result<Vec<Placed>> {
    let gate = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for number in 0..total {
        let (client, gate) = (client.clone(), gate.clone());
        tasks.spawn(async move {
            let _turn = gate.acquire_owned().await?;
            place(&client, number, wish(number)).await
        });
    }
    let mut placed = Vec::new();
    while let Some(one) = tasks.join_next().await {
        placed.push(one.context("an order ended in a panic")??);
        progress.step();
        count.send_modify(|count| *count += 1);
    }
    Ok(placed)
}

/// Places an order that nothing stands against.
pub(super) async fn place_ordinary(client: &Client, number: u64) -> anyhow::Result<Placed> {
    place(client, number, Wish::Ordinary).await
}

async fn place(client: &Client, number: u64, wish: Wish) -> anyhow::Result<Placed> {
    let email = format!("customer-{number}@example.com");
    let place = usize::try_from(number)?;
    let some = PLENTIFUL[place % PLENTIFUL.len()];
    let other = PLENTIFUL[(place + 1) % PLENTIFUL.len()];
    let items = match wish {
        Wish::Ordinary | Wish::Withdrawn => vec![(some, 1), (other, 2)],
        Wish::Scarce => vec![(SCARCE, 1)],
        // The first line alone could be had: an order is reserved whole or not at all.
        Wish::TooMuch => vec![(some, 1), (other, PLENTY + 1)],
    };
    let order_id = client.place(&email, &items).await?;
    if wish == Wish::Withdrawn {
        client.cancel(order_id).await?;
    }
    Ok(Placed { order_id, email, wish })
}

/// Of ten customers two want one of the last few, one wants too much, and one thinks better of it.
fn wish(number: u64) -> Wish {
    match number % 10 {
        2 | 7 => Wish::Scarce,
        5 => Wish::TooMuch,
        8 => Wish::Withdrawn,
        _ => Wish::Ordinary,
    }
}
