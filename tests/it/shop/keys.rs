//! Idempotency keys: repeated requests.

use shop::{
    commands::{self, CreateProductError},
    idempotency::{self, Begin, RecordedResponse},
    inventory::NewProduct,
};
use uuid::Uuid;

use super::TestShop;

#[tokio::test]
async fn an_idempotency_key_replays_the_first_response() {
    let test = TestShop::open().await;
    let (holder, next) = (Uuid::now_v7(), Uuid::now_v7());
    let begin_as =
        |hash: &'static [u8], holder| idempotency::begin(test.pool(), "key", "orders", hash, holder);
    let begin = |hash| begin_as(hash, holder);
    let Begin::Fresh { resource_id } = begin(b"body").await.unwrap() else { panic!("it is the first") };
    assert_eq!(begin(b"body").await.unwrap(), Begin::InFlight);
    assert_eq!(begin(b"other").await.unwrap(), Begin::Mismatch);

    expire_in_flight(&test).await;
    assert_eq!(begin(b"body").await.unwrap(), Begin::Fresh { resource_id });
    let answer =
        RecordedResponse { status: 201, location: Some("/api/products/1".into()), body: "{}".into() };
    idempotency::finish(test.pool(), "key", "orders", holder, &answer).await.unwrap();
    assert_eq!(begin(b"body").await.unwrap(), Begin::Replay(answer));
    assert_eq!(idempotency::purge(test.pool(), 10).await.unwrap(), 0);

    sqlx::query("update shop.idempotency_key set created_at = now() - interval '2 days'")
        .execute(test.pool())
        .await
        .unwrap();
    let Begin::Fresh { resource_id: new } = begin_as(b"other", next).await.unwrap() else {
        panic!("it is out of date")
    };
    assert_ne!(new, resource_id);

    // The request failed, perhaps after it had created something: it is run again with the same id.
    idempotency::abandon(test.pool(), "key", "orders", next).await.unwrap();
    assert_eq!(begin(b"other").await.unwrap(), Begin::Fresh { resource_id: new });
    assert_eq!(begin(b"other").await.unwrap(), Begin::InFlight);
    test.close().await;
}

/// Makes it look as if the process that holds the key had died two minutes ago, so that another may take over.
async fn expire_in_flight(test: &TestShop) {
    sqlx::query("update shop.idempotency_key set started_at = now() - interval '2 minutes'")
        .execute(test.pool())
        .await
        .unwrap();
}

#[tokio::test]
async fn an_idempotency_key_that_was_taken_over_is_finished_only_by_its_new_holder() {
    let test = TestShop::open().await;
    let (late, holder) = (Uuid::now_v7(), Uuid::now_v7());
    let begin = |holder| idempotency::begin(test.pool(), "key", "orders", b"body", holder);
    let answer = |body: &str| RecordedResponse { status: 201, location: None, body: body.into() };
    let Begin::Fresh { resource_id } = begin(late).await.unwrap() else { panic!("it is the first") };
    idempotency::abandon(test.pool(), "key", "orders", holder).await.unwrap();
    assert_eq!(begin(holder).await.unwrap(), Begin::InFlight);
    expire_in_flight(&test).await;
    assert_eq!(begin(holder).await.unwrap(), Begin::Fresh { resource_id });

    // The first holder continues.
    idempotency::abandon(test.pool(), "key", "orders", late).await.unwrap();
    assert_eq!(begin(late).await.unwrap(), Begin::InFlight);
    idempotency::finish(test.pool(), "key", "orders", late, &answer("late")).await.unwrap();
    assert_eq!(begin(late).await.unwrap(), Begin::InFlight);
    idempotency::finish(test.pool(), "key", "orders", holder, &answer("held")).await.unwrap();
    idempotency::finish(test.pool(), "key", "orders", holder, &answer("again")).await.unwrap();
    assert_eq!(begin(late).await.unwrap(), Begin::Replay(answer("held")));
    test.close().await;
}

#[tokio::test]
async fn creating_a_product_again_with_its_id_returns_the_existing_one() {
    let test = TestShop::open().await;
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
    let first = commands::create_product_as(test.pool(), id, new("TEA-1"), "ann").await.unwrap();
    let again = commands::create_product_as(test.pool(), id, new("TEA-1"), "ann").await.unwrap();
    assert_eq!((first.product_id, again.product_id), (id, id));
    assert_eq!(again.stock.on_hand, 5, "its first stock is entered once");
    let other = commands::create_product_as(test.pool(), Uuid::now_v7(), new("TEA-1"), "bob").await;
    assert!(matches!(other, Err(CreateProductError::SkuTaken)), "{other:?}");
    test.close().await;
}
