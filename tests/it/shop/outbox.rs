//! Changes and the events that are appended with them.

use serde_json::Value;
use shop::{
    Shop,
    commands::{self, StockChange},
    mail::Mailer,
    orders::OrderStatus,
    sagas::Settings,
};
use tokio_util::sync::CancellationToken;

use super::{TestShop, engine, order};

use crate::support::WAIT_TIMEOUT;

#[tokio::test]
async fn rejections_status_changes_and_stock_changes_each_append_an_event() {
    let test = TestShop::open().await.start_workers();
    let tea = test.add_product("TEA-1", 10, 5).await;
    let placed = test.place(order(&[("TEA-1", 1)])).await;
    let rejected = test.place(order(&[("TEA-1", 9)])).await;
    assert_eq!(rejected.status, OrderStatus::Rejected);
    assert_eq!(test.events("order.rejected").await, 1);

    let moved = test.events("order.status_changed").await;
    commands::set_order_status(&test.shop, placed.order_id, OrderStatus::Processing, None, "ann", None)
        .await
        .unwrap();
    assert_eq!(test.events("order.status_changed").await, moved + 1);

    let updated = test.events("inventory.updated").await;
    let change = StockChange::Adjust(1);
    commands::change_stock(&test.shop, tea.product_id, change, "count", "clerk", None).await.unwrap();
    assert_eq!(test.events("inventory.updated").await, updated + 1);
    test.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_orders_and_stock_changes_append_one_event_for_each_fall_to_the_threshold() {
    let test = TestShop::open().await.start_workers();
    let mailer = Mailer::files(test.mails.path(), "shop@example.com").unwrap();
    let elsewhere = Shop::new(engine(test.pool().clone(), Settings::new(mailer)));
    let closing = CancellationToken::new();
    let (mut feed, worker, closed) =
        (elsewhere.engine().feed("default", 64), elsewhere.engine().clone(), closing.clone());
    let work = tokio::spawn(async move { worker.run(&mut feed, closed).await });
    let tea = test.add_product("TEA-1", 10, 12).await;
    let buyers = (0..50).map(|nth| {
        let shop = if nth % 2 == 0 { &test.shop } else { &elsewhere };
        commands::place_order(shop, order(&[("TEA-1", 1)]), Some(WAIT_TIMEOUT), None)
    });
    let counts = async {
        for _ in 0..20 {
            let change = StockChange::Adjust(4);
            commands::change_stock(&elsewhere, tea.product_id, change, "found", "clerk", None).await.unwrap();
        }
    };
    let (placed, ()) = futures::future::join(futures::future::join_all(buyers), counts).await;
    assert!(placed.into_iter().all(|placed| placed.unwrap().status != OrderStatus::Pending));
    // Stock can't become negative, so the threshold is crossed at least once more.
    let now = test.stock(&tea).await;
    let rest = StockChange::Set(now.1);
    commands::change_stock(&test.shop, tea.product_id, rest, "count", "clerk", None).await.unwrap();

    let levels: Vec<Value> = sqlx::query_scalar(
        "select payload from shop.outbox where routing_key = 'inventory.updated' and key = 'TEA-1' order by event_id",
    )
    .fetch_all(test.pool())
    .await
    .unwrap();
    let is_low = |level: &Value| level["available"].as_i64() <= level["low_stock_threshold"].as_i64();
    let falls = levels.windows(2).filter(|pair| !is_low(&pair[0]) && is_low(&pair[1])).count();
    assert!(falls > 0 && levels.len() > 20, "{falls} falls in {} changes", levels.len());
    assert_eq!(test.events("inventory.low").await, i64::try_from(falls).unwrap());
    closing.cancel();
    work.await.unwrap();
    elsewhere.engine().shutdown().await;
    test.close().await;
}
