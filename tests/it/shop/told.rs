//! Changes and the events that are written with them.

use workflows::{
    inventory::{self, StockChange},
    orders::{self, OrderStatus},
};

use super::{Market, order};

#[tokio::test]
async fn refusals_moves_and_stock_changes_each_have_their_event() {
    let market = Market::open().await.hire();
    let tea = market.sell("TEA-1", 10, 5).await;
    let placed = market.place(order(&[("TEA-1", 1)])).await;
    let rejected = market.place(order(&[("TEA-1", 9)])).await;
    assert_eq!(rejected.status, OrderStatus::Rejected);
    assert_eq!(market.events("order.rejected").await, 1);

    let moved = market.events("order.status_changed").await;
    orders::set_status(&market.shop, placed.order_id, OrderStatus::Processing, None, "ann", None)
        .await
        .unwrap();
    assert_eq!(market.events("order.status_changed").await, moved + 1);

    let updated = market.events("inventory.updated").await;
    let change = StockChange::Adjust(1);
    inventory::change_stock(&market.shop, tea.product_id, change, "count", "clerk", None).await.unwrap();
    assert_eq!(market.events("inventory.updated").await, updated + 1);
    market.close().await;
}
