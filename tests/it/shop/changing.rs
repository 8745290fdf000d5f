//! Orders cancelled, packed, shipped, and several of these at once.

use std::collections::BTreeMap;

use engine::Status;
use workflows::{
    orders::{self, CancelOrderError, OrderStatus, StatusError},
    sagas::{cancel_order::CANCEL_ORDER, place_order::PLACE_ORDER},
};

use super::{Market, order, statuses};

#[tokio::test]
async fn a_confirmed_order_is_cancelled_once_and_gives_its_stock_back() {
    let market = Market::open().await.hire();
    let tea = market.sell("TEA-1", 10, 5).await;
    let placed = market.place(order(&[("TEA-1", 4)])).await;
    orders::cancel(&market.shop, placed.order_id, "changed my mind", "ann").await.unwrap();
    let ended = market.settled(CANCEL_ORDER.name(), placed.order_id.to_string()).await;
    assert_eq!(ended, Status::Completed);
    let again = orders::cancel(&market.shop, placed.order_id, "again", "ann").await.unwrap();
    assert_eq!(again.status, OrderStatus::Cancelled);
    assert_eq!(again.status_reason.as_deref(), Some("changed my mind"));
    assert_eq!(again.timeline.last().map(|entry| entry.actor.as_str()), Some("ann"));
    assert_eq!(market.stock(&tea).await, (5, 0));
    assert_eq!((market.events("inventory.released").await, market.events("order.cancelled").await), (1, 1));
    market.close().await;
}

#[tokio::test]
async fn cancelling_while_the_order_is_being_placed_unwinds_the_placement() {
    let market = Market::open().await;
    let tea = market.sell("TEA-1", 10, 5).await;
    // Nobody works yet, so the placement stands still.
    let pending = orders::place(&market.shop, order(&[("TEA-1", 4)]), None, "test", None).await.unwrap();
    assert_eq!(pending.status, OrderStatus::Pending);
    let cancelling = orders::cancel(&market.shop, pending.order_id, "changed my mind", "ann").await.unwrap();
    assert!(
        matches!(cancelling.status, OrderStatus::Cancelling | OrderStatus::Cancelled),
        "{}",
        cancelling.status
    );
    let market = market.hire();
    assert_eq!(market.settled(PLACE_ORDER.name(), pending.order_id.to_string()).await, Status::Compensated);
    let cancelled = market.order(pending.order_id).await;
    assert_eq!(statuses(&cancelled), [OrderStatus::Pending, OrderStatus::Cancelling, OrderStatus::Cancelled]);
    assert_eq!(market.stock(&tea).await, (5, 0));
    market.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn placing_and_cancelling_at_once_ends_in_one_clear_state() {
    let market = Market::open().await.hire();
    let tea = market.sell("TEA-1", 10, 1000).await;
    let races = (0..60).map(|_| async {
        let accepted = orders::place(&market.shop, order(&[("TEA-1", 1)]), None, "test", None).await.unwrap();
        orders::cancel(&market.shop, accepted.order_id, "race", "ann").await.unwrap();
        let cancelled = accepted.order_id.to_string();
        let ended = market.settled(PLACE_ORDER.name(), cancelled.clone()).await;
        if ended == Status::Completed {
            assert_eq!(market.settled(CANCEL_ORDER.name(), cancelled).await, Status::Completed);
        }
        assert_eq!(market.order(accepted.order_id).await.status, OrderStatus::Cancelled);
    });
    futures::future::join_all(races).await;
    assert_eq!(market.stock(&tea).await, (1000, 0));
    market.close().await;
}

#[tokio::test]
async fn an_order_moves_along_by_legal_steps_and_shipping_takes_the_stock() {
    let market = Market::open().await.hire();
    let tea = market.sell("TEA-1", 10, 5).await;
    let placed = market.place(order(&[("TEA-1", 4)])).await;
    let to =
        |status, version| orders::set_status(&market.shop, placed.order_id, status, None, "packer", version);
    assert!(matches!(
        to(OrderStatus::Shipped, None).await,
        Err(StatusError::Illegal { from: OrderStatus::Confirmed, allowed, .. }) if allowed == [OrderStatus::Processing]
    ));
    assert!(matches!(
        to(OrderStatus::Processing, Some(1)).await,
        Err(StatusError::VersionMismatch { current: 2 })
    ));
    assert_eq!(to(OrderStatus::Processing, Some(2)).await.unwrap().version, 3);
    let shipped = to(OrderStatus::Shipped, Some(3)).await.unwrap();
    assert_eq!(shipped.timeline.last().map(|entry| entry.actor.as_str()), Some("packer"));
    assert_eq!(market.stock(&tea).await, (1, 0));
    assert!(matches!(
        orders::cancel(&market.shop, placed.order_id, "late", "ann").await,
        Err(CancelOrderError::NotCancellable { status: OrderStatus::Shipped, .. })
    ));
    assert_eq!(to(OrderStatus::Delivered, None).await.unwrap().status, OrderStatus::Delivered);
    market.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shipping_and_cancelling_at_once_ends_in_one_of_them() {
    let market = Market::open().await.hire();
    let tea = market.sell("TEA-1", 10, 40).await;
    let mut outcomes = BTreeMap::new();
    for _ in 0..20 {
        let order_id = market.place(order(&[("TEA-1", 2)])).await.order_id;
        let to = |status| orders::set_status(&market.shop, order_id, status, None, "packer", None);
        to(OrderStatus::Processing).await.unwrap();
        let cancel = orders::cancel(&market.shop, order_id, "race", "ann");
        let (_, cancelled) = futures::future::join(to(OrderStatus::Shipped), cancel).await;
        if cancelled.is_ok() {
            market.settled(CANCEL_ORDER.name(), order_id.to_string()).await;
        }
        *outcomes.entry(market.order(order_id).await.status.name()).or_insert(0) += 1;
    }
    assert!(outcomes.keys().all(|status| ["shipped", "cancelled"].contains(status)), "{outcomes:?}");
    let shipped = outcomes.get("shipped").copied().unwrap_or(0);
    assert_eq!(market.stock(&tea).await, (40 - 2 * shipped, 0));
    market.close().await;
}
