//! Requests that are made twice.

use uuid::Uuid;
use workflows::{
    idempotency::{self, Answer, Begin},
    inventory::{self, CreateProductError, NewProduct},
};

use super::Market;

#[tokio::test]
async fn an_idempotency_key_gives_the_first_answer_again() {
    let market = Market::open().await;
    let begin = |hash: &'static [u8]| idempotency::begin(market.pool(), "key", "orders", hash);
    let Begin::Fresh { resource_id } = begin(b"body").await.unwrap() else { panic!("it is the first") };
    assert_eq!(begin(b"body").await.unwrap(), Begin::InFlight);
    assert_eq!(begin(b"other").await.unwrap(), Begin::Mismatch);

    // Its process is gone: another takes over, and creates under the same id.
    sqlx::query("update shop.idempotency_key set begun_at = now() - interval '2 minutes'")
        .execute(market.pool())
        .await
        .unwrap();
    assert_eq!(begin(b"body").await.unwrap(), Begin::Fresh { resource_id });
    idempotency::finish(market.pool(), "key", "orders", 201, Some("/api/products/1"), "{}").await.unwrap();
    let answer = Answer { status: 201, location: Some("/api/products/1".into()), body: "{}".into() };
    assert_eq!(begin(b"body").await.unwrap(), Begin::Replay(answer));
    assert_eq!(idempotency::purge(market.pool(), 10).await.unwrap(), 0);

    sqlx::query("update shop.idempotency_key set created_at = now() - interval '2 days'")
        .execute(market.pool())
        .await
        .unwrap();
    let Begin::Fresh { resource_id: new } = begin(b"other").await.unwrap() else {
        panic!("it is out of date")
    };
    assert_ne!(new, resource_id);

    // It failed, but perhaps not before it had created something: it is made again under the same id.
    idempotency::abandon(market.pool(), "key", "orders").await.unwrap();
    assert_eq!(begin(b"other").await.unwrap(), Begin::Fresh { resource_id: new });
    assert_eq!(begin(b"other").await.unwrap(), Begin::InFlight);
    market.close().await;
}

#[tokio::test]
async fn a_product_made_again_under_its_id_is_the_one_that_was_made() {
    let market = Market::open().await;
    let new = |sku: &str| NewProduct {
        sku: sku.into(),
        name: "Green tea".into(),
        description: String::new(),
        category: "tea".into(),
        price: 1290,
        currency: "EUR".into(),
        initial_stock: 5,
        low_stock_threshold: 1,
    };
    let id = Uuid::now_v7();
    let first = inventory::create_product_as(market.pool(), id, new("TEA-1"), "ann").await.unwrap();
    let again = inventory::create_product_as(market.pool(), id, new("TEA-1"), "ann").await.unwrap();
    assert_eq!((first.product_id, again.product_id), (id, id));
    assert_eq!(again.stock.on_hand, 5, "its first stock is entered once");
    let other = inventory::create_product_as(market.pool(), Uuid::now_v7(), new("TEA-1"), "bob").await;
    assert!(matches!(other, Err(CreateProductError::SkuTaken)), "{other:?}");
    market.close().await;
}

#[tokio::test]
async fn a_key_whose_begin_got_no_answer_is_freed_by_its_holder_alone() {
    let market = Market::open().await;
    let begin = |holder| idempotency::begin_as(market.pool(), "key", "orders", b"body", holder);
    let (holder, stranger) = (Uuid::now_v7(), Uuid::now_v7());
    assert!(matches!(begin(holder).await.unwrap(), Begin::Fresh { .. }));
    idempotency::free(market.pool(), "key", "orders", stranger).await.unwrap();
    assert_eq!(begin(stranger).await.unwrap(), Begin::InFlight);
    idempotency::free(market.pool(), "key", "orders", holder).await.unwrap();
    assert!(matches!(begin(stranger).await.unwrap(), Begin::Fresh { .. }));
    // It has changed hands.
    idempotency::free(market.pool(), "key", "orders", holder).await.unwrap();
    assert_eq!(begin(holder).await.unwrap(), Begin::InFlight);
    market.close().await;
}
