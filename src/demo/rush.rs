//! Places the orders of the demo, many at a time.

use std::sync::Arc;

use anyhow::Context;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};

use super::{
    client::Client,
    order::{OrderKind, PLENTIFUL, PLENTY, PlacedOrder, SCARCE},
};
use crate::terminal::Progress;

/// How many customers order at the same time.
const CUSTOMERS: usize = 48;

/// Places `total` orders, many at a time, and counts them in `count`.
pub(super) async fn place_all(
    client: Client,
    total: u64,
    progress: Arc<Progress>,
    count: watch::Sender<u64>,
) -> anyhow::Result<Vec<PlacedOrder>> {
    let permits = Arc::new(Semaphore::new(CUSTOMERS));
    let mut tasks = JoinSet::new();
    for number in 0..total {
        let (client, permits) = (client.clone(), permits.clone());
        tasks.spawn(async move {
            let _permit = permits.acquire_owned().await?;
            place(&client, number, kind(number)).await
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

/// Places one ordinary order.
pub(super) async fn place_ordinary(client: &Client, number: u64) -> anyhow::Result<PlacedOrder> {
    place(client, number, OrderKind::Ordinary).await
}

async fn place(client: &Client, number: u64, kind: OrderKind) -> anyhow::Result<PlacedOrder> {
    let email = format!("customer-{number}@example.com");
    let index = usize::try_from(number)?;
    let some = PLENTIFUL[index % PLENTIFUL.len()];
    let other = PLENTIFUL[(index + 1) % PLENTIFUL.len()];
    let items = match kind {
        OrderKind::Ordinary | OrderKind::Withdrawn => vec![(some, 1), (other, 2)],
        OrderKind::Scarce => vec![(SCARCE, 1)],
        // Only the first line could be fulfilled: an order is reserved completely or not at all.
        OrderKind::TooMuch => vec![(some, 1), (other, PLENTY + 1)],
    };
    let order_id = client.place(&email, &items).await?;
    if kind == OrderKind::Withdrawn {
        client.cancel(order_id).await?;
    }
    Ok(PlacedOrder { order_id, email, kind })
}

/// Of ten orders two are for the scarce product, one is for more than the stock, and one is cancelled at once.
fn kind(number: u64) -> OrderKind {
    match number % 10 {
        2 | 7 => OrderKind::Scarce,
        5 => OrderKind::TooMuch,
        8 => OrderKind::Withdrawn,
        _ => OrderKind::Ordinary,
    }
}
