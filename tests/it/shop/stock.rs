//! Stock changes by operators, and the lists of products and orders.

use engine::Page;
use shop::{
    commands::{self, StockChange, StockError, StockRefusal},
    inventory,
    mail::Mailer,
    orders::{self, OrderFilter, OrderStatus, PlaceOrder},
    sagas::Settings,
};
use uuid::Uuid;

use super::{TestShop, order};

#[tokio::test]
async fn stock_can_not_be_set_below_what_orders_have_reserved() {
    let test = TestShop::open().await.start_workers();
    let tea = test.add_product("TEA-1", 10, 5).await;
    test.place(order(&[("TEA-1", 2)])).await;
    let change = |change, version| {
        commands::change_stock(&test.shop, tea.product_id, change, "count", "clerk", version)
    };
    assert!(matches!(
        change(StockChange::Set(1), None).await,
        Err(StockError::Refused(StockRefusal::BelowReserved { on_hand: 1, reserved: 2 }))
    ));
    assert!(matches!(
        change(StockChange::Set(9), Some(1)).await,
        Err(StockError::VersionMismatch { current: 2 })
    ));
    let refused = change(StockChange::Adjust(-6), None).await;
    assert!(matches!(refused, Err(StockError::Refused(StockRefusal::TooFew { on_hand: 5 }))), "{refused:?}");
    let low = change(StockChange::Adjust(-1), Some(2)).await.unwrap();
    assert_eq!((low.stock.on_hand, low.stock.available, low.version), (4, 2, 3));
    assert_eq!(test.events("inventory.low").await, 1);
    change(StockChange::Adjust(-1), None).await.unwrap();
    assert_eq!(test.events("inventory.low").await, 1);
    change(StockChange::Set(50), None).await.unwrap();
    change(StockChange::Set(3), None).await.unwrap();
    assert_eq!(test.events("inventory.low").await, 2);
    test.close().await;
}

#[tokio::test]
async fn products_and_orders_are_listed_newest_first_and_searched() {
    let test = TestShop::open().await;
    for sku in ["TEA_1", "TEA-2", "CUP-3"] {
        test.add_product(sku, 10, 5).await;
    }
    let search = async |search: &str, after, limit| {
        let filter = inventory::ProductFilter {
            search: Some(search.into()),
            category: Some("tea".into()),
            stock: None,
        };
        let found = inventory::products(test.pool(), &filter, Page { after, limit }).await.unwrap().items;
        found.into_iter().map(|product| (product.sku, product.product_id)).collect::<Vec<_>>()
    };
    let all = search("by name", None, 2).await;
    assert_eq!(all.iter().map(|(sku, _)| sku.as_str()).collect::<Vec<_>>(), ["CUP-3", "TEA-2"]);
    assert_eq!(search("by name", Some(all[1].1), 2).await[0].0, "TEA_1");
    assert_eq!(search("tea_", None, 9).await.len(), 1);
    assert!(search("\0", None, 9).await.is_empty());

    let customer_id = Uuid::now_v7();
    for _ in 0..3 {
        let of_one = PlaceOrder { customer_id, ..order(&[("TEA-2", 1)]) };
        commands::place_order(&test.shop, of_one, None, None).await.unwrap();
        commands::place_order(&test.shop, order(&[("TEA-2", 1)]), None, None).await.unwrap();
    }
    let filter = OrderFilter {
        customer_id: Some(customer_id),
        status: Some(OrderStatus::Pending),
        created_after: Some(chrono::DateTime::UNIX_EPOCH),
        created_before: None,
    };
    let first = orders::list(test.pool(), &filter, Page { after: None, limit: 2 }).await.unwrap().items;
    let rest = orders::list(test.pool(), &filter, Page { after: Some(first[1].order_id), limit: 2 })
        .await
        .unwrap()
        .items;
    assert_eq!((first.len(), rest.len()), (2, 1));
    assert!(first[0].order_id > first[1].order_id && first[1].order_id > rest[0].order_id);
}

#[tokio::test]
async fn low_stock_is_mailed_to_the_administrator_once() {
    let mails = tempfile::tempdir().unwrap();
    let mailer = Mailer::files(mails.path(), "shop@example.com").unwrap();
    let settings = Settings { admin_emails: "boss@example.com".parse().unwrap(), ..Settings::new(mailer) };
    let test = TestShop::with(mails, settings).await.start_workers();
    test.add_product("TEA-1", 10, 5).await;
    for _ in 0..5 {
        test.place(order(&[("TEA-1", 1)])).await;
    }
    let alerts: i64 =
        sqlx::query_scalar("select count(*) from shop.notification where recipient = $1 and subject = $2")
            .bind("boss@example.com")
            .bind("Stock of TEA-1 is low")
            .fetch_one(test.pool())
            .await
            .unwrap();
    assert_eq!(alerts, 1);
    test.close().await;
}
