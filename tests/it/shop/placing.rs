//! Placing orders: confirmed, refused and rejected ones, and many at once.

use engine::{Page, Status};
use shop::{
    commands::{self, CancelOrderError, CancelRefusal, PlaceOrderError, StockChange},
    notifications::DELIVER_NOTIFICATION,
    orders::{self, OrderFilter, OrderStatus, PlaceOrder},
};
use uuid::{NoContext, Timestamp, Uuid};

use super::{TestShop, order, statuses};

#[tokio::test]
async fn an_order_is_confirmed_holds_its_stock_and_is_mailed() {
    let test = TestShop::open().await.start_workers();
    let tea = test.add_product("TEA-1", 1290, 50).await;
    let placed = test.place(order(&[("TEA-1", 2), ("TEA-1", 1)])).await;
    assert_eq!(placed.status, OrderStatus::Confirmed);
    assert_eq!((placed.total, placed.currency.as_str(), placed.version), (3870, "EUR", 2));
    assert_eq!(placed.items.iter().map(|line| line.line_total).collect::<Vec<_>>(), [2580, 1290]);
    assert_eq!(statuses(&placed), [OrderStatus::Pending, OrderStatus::Confirmed]);
    assert_eq!(
        (placed.timeline[0].actor.as_str(), placed.timeline[1].actor.as_str()),
        ("test", "place-order")
    );
    assert_eq!(test.stock(&tea).await, (50, 3));

    let key = format!("order-confirmed:{}", placed.order_id);
    assert_eq!(test.settled(DELIVER_NOTIFICATION.name(), key).await, Status::Completed);
    let mails = test.mails();
    assert_eq!(mails.len(), 1);
    assert!(mails[0].contains("2 x TEA-1 by name (TEA-1)") && mails[0].contains("EUR 38.70"), "{}", mails[0]);
    for event in ["order.created", "inventory.reserved", "order.confirmed", "notification.sent"] {
        assert_eq!(test.events(event).await, 1, "{event}");
    }
    assert_eq!(
        test.place(PlaceOrder { order_id: placed.order_id, ..order(&[("TEA-1", 9)]) }).await.total,
        3870
    );
    test.close().await;
}

#[tokio::test]
async fn a_wrong_order_is_refused_with_every_pointer_and_leaves_nothing() {
    let test = TestShop::open().await;
    test.add_product("TEA-1", i64::MAX, 50).await;
    for (items, pointer, code) in [
        (order(&[("TEA-1", 1), ("NONE", 1)]), "/items/1/sku", "unknown-sku"),
        (order(&[("TEA-1", 2)]), "/items", "total-too-large"),
        (order(&[("TEA-1", 0)]), "/items/0/quantity", "out-of-range"),
        (PlaceOrder { order_id: id_of(600), ..order(&[("TEA-1", 1)]) }, "/order_id", "in-the-future"),
    ] {
        let error = commands::place_order(&test.shop, items, None, None).await.unwrap_err();
        let PlaceOrderError::Invalid(violations) = error else { panic!("{error}") };
        assert_eq!((violations[0].pointer.as_str(), violations[0].code.as_str()), (pointer, code));
    }
    let everything =
        orders::list(test.pool(), &OrderFilter::default(), Page { after: None, limit: 10 }).await;
    assert!(everything.unwrap().items.is_empty());
    test.close().await;
}

/// An id that is made so many seconds from now.
fn id_of(ahead_s: u64) -> Uuid {
    let (now_s, _) = Uuid::now_v7().get_timestamp().unwrap().to_unix();
    Uuid::new_v7(Timestamp::from_unix(NoContext, now_s + ahead_s, 0))
}

#[tokio::test]
async fn the_clock_of_who_gives_the_order_its_id_may_differ_a_little() {
    let test = TestShop::open().await.start_workers();
    test.add_product("TEA-1", 10, 5).await;
    let placed = test.place(PlaceOrder { order_id: id_of(60), ..order(&[("TEA-1", 1)]) }).await;
    assert_eq!(placed.status, OrderStatus::Confirmed);
    test.close().await;
}

#[tokio::test]
async fn an_order_without_enough_stock_is_rejected_with_its_short_lines_and_reserves_nothing() {
    let test = TestShop::open().await.start_workers();
    let (tea, cup) = (test.add_product("TEA-1", 10, 5).await, test.add_product("CUP-1", 10, 1).await);
    let placed = test.place(order(&[("TEA-1", 5), ("CUP-1", 1), ("CUP-1", 1)])).await;
    assert_eq!(placed.status, OrderStatus::Rejected);
    assert_eq!(placed.status_reason.as_deref(), Some("not enough stock (CUP-1: 2 requested, 1 available)"));
    assert_eq!((test.stock(&tea).await, test.stock(&cup).await), ((5, 0), (1, 0)));
    let key = format!("order-rejected:{}", placed.order_id);
    assert_eq!(test.settled(DELIVER_NOTIFICATION.name(), key).await, Status::Completed);
    assert!(test.mails()[0].contains("CUP-1: 2 ordered, 1 available"));
    assert!(matches!(
        commands::cancel_order(&test.shop, placed.order_id, "late", "test").await,
        Err(CancelOrderError::Refused(CancelRefusal::NotCancellable { status: OrderStatus::Rejected, .. }))
    ));
    test.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_hundred_orders_for_ten_units_ten_are_confirmed_and_the_rest_rejected() {
    let test = TestShop::open().await.start_workers();
    let tea = test.add_product("TEA-1", 10, 10).await;
    let buyers = (0..200).map(|_| test.place(order(&[("TEA-1", 1)])));
    let placed = futures::future::join_all(buyers).await;
    let confirmed = placed.iter().filter(|order| order.status == OrderStatus::Confirmed).count();
    let rejected = placed.iter().filter(|order| order.status == OrderStatus::Rejected).count();
    assert_eq!((confirmed, rejected), (10, 190));
    assert_eq!(test.stock(&tea).await, (10, 10));
    assert_eq!(test.events("inventory.low").await, 1);
    test.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_with_skus_in_opposite_order_do_not_deadlock() {
    let test = TestShop::open().await.start_workers();
    let (a, b) = (test.add_product("A", 10, 1000).await, test.add_product("B", 10, 1000).await);
    let buyers = (0..100).map(|nth| {
        test.place(if nth % 2 == 0 { order(&[("A", 1), ("B", 1)]) } else { order(&[("B", 1), ("A", 1)]) })
    });
    let counts = async {
        for _ in 0..50 {
            commands::change_stock(&test.shop, a.product_id, StockChange::Adjust(1), "found", "test", None)
                .await
                .unwrap();
        }
    };
    let (placed, ()) = futures::future::join(futures::future::join_all(buyers), counts).await;
    assert!(placed.iter().all(|order| order.status == OrderStatus::Confirmed));
    assert_eq!((test.stock(&a).await, test.stock(&b).await), ((1050, 100), (1000, 100)));
    test.close().await;
}
