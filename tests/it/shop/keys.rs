//! Idempotency keys: repeated requests.

use shop::{
    commands::{self, CreateProductError},
    idempotency::{self, Begin, RecordedResponse},
    inventory::NewProduct,
    pruning::{Prunable, Pruner, ShopRetention},
};
use sqlx::PgPool;
use uuid::Uuid;

use super::TestShop;
use crate::support::{WAIT_TIMEOUT, as_owner};

fn pruner(test: &TestShop) -> Pruner {
    Pruner::new(test.shop.engine().clone(), ShopRetention::default())
}

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
    assert_eq!(pruner(&test).prune(Prunable::IdempotencyKeys).await.unwrap(), 0);

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

/// Stores this many responses that are older than a day, a second apart, and one that is new.
async fn store_old_responses(pool: &PgPool, count: i32) {
    let responses = format!(
        "insert into shop.idempotency_key (scope, key, resource_id, holder, body_hash, status, body, created_at)
         select 'orders', n, gen_random_uuid(), gen_random_uuid(), '', 201, '{{}}',
                case when n = 0 then now() else now() - interval '1 day 1 hour' - n * interval '1 s' end
         from generate_series(0, {count}) n;
         analyze shop.idempotency_key"
    );
    as_owner(pool, &responses).await.unwrap();
}

#[tokio::test]
async fn expired_responses_are_deleted_batch_by_batch_until_none_is_left() {
    let test = TestShop::open().await;
    store_old_responses(test.pool(), 3500).await;
    assert!(pruner(&test).lag(Prunable::IdempotencyKeys).await.unwrap().as_secs() >= 3600);

    assert_eq!(pruner(&test).prune(Prunable::IdempotencyKeys).await.unwrap(), 3500);

    let left: Vec<String> =
        sqlx::query_scalar("select key from shop.idempotency_key").fetch_all(test.pool()).await.unwrap();
    assert_eq!(left, ["0"], "the new response is kept");
    assert!(pruner(&test).lag(Prunable::IdempotencyKeys).await.unwrap().is_zero());
    // One for each batch, and two for the lags. The server counts them a moment later.
    let scans = "select coalesce(sum(idx_scan), 0)::bigint from pg_stat_user_indexes
                 where indexrelname = 'idempotency_key_by_creation'";
    let used = async {
        while sqlx::query_scalar::<_, i64>(scans).fetch_one(test.pool()).await.unwrap() < 4 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WAIT_TIMEOUT, used).await.expect("the expired are found by the index");
    test.close().await;
}

#[tokio::test]
async fn one_process_at_a_time_deletes_expired_responses() {
    let test = TestShop::open().await;
    store_old_responses(test.pool(), 10).await;
    // What the batch of another process holds.
    let mut other = test.pool().begin().await.unwrap();
    sqlx::query("select pg_advisory_xact_lock(hashtextextended('prune ' || $1, 0))")
        .bind(Prunable::IdempotencyKeys.name())
        .execute(&mut *other)
        .await
        .unwrap();
    assert_eq!(pruner(&test).prune(Prunable::IdempotencyKeys).await.unwrap(), 0);
    other.rollback().await.unwrap();
    assert_eq!(pruner(&test).prune(Prunable::IdempotencyKeys).await.unwrap(), 10);
    test.close().await;
}
