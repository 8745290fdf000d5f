//! Rows that are updated again and again, while a snapshot keeps their dead versions.

use std::{str::FromStr, time::Duration};

use engine::Page;
use shop::{
    Shop,
    commands::{self, StockChange},
    events::{self, LowWaterMarks, Sequenced},
    inventory::{self, NewProduct, Product, ProductFilter},
    mail::Mailer,
    sagas::Settings,
};
use sqlx::{
    AssertSqlSafe, Connection, Executor, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio_util::sync::CancellationToken;

use super::{blocks::blocks_read, engine, order};
use crate::support::{Database, WAIT_TIMEOUT};

/// Far more than fit into the blocks that may be read: a page has room for some hundred versions. Each is written by a
/// transaction of its own, because what one transaction writes over and over is dead for every snapshot.
const VERSIONS: i64 = 20_000;
const ORDERS: i64 = 10;

/// Keeps vacuum from removing what is updated from now on, as `pg_dump` does, and runs an update [`VERSIONS`] times, where
/// `v` counts them. Returns the session with the snapshot.
async fn with_dead_versions(database: &Database, owner: PgPool, update: &str) -> PgConnection {
    let mut snapshot = PgConnection::connect(&database.url()).await.unwrap();
    snapshot.execute("begin isolation level repeatable read; select count(*) from shop.stock").await.unwrap();
    let updates = format!("do $$ begin for v in 1..{VERSIONS} loop {update}; commit; end loop; end $$");
    sqlx::raw_sql(AssertSqlSafe(updates)).execute(&owner).await.unwrap();
    // As autovacuum does, which then tells the planner of one row under each key.
    for table in ["shop.stock", "shop.event_log", "shop.event_consumer"] {
        sqlx::raw_sql(AssertSqlSafe(format!("vacuum (analyze) {table}"))).execute(&owner).await.unwrap();
    }
    owner.close().await;
    snapshot
}

/// A pool whose connections are set as those of workers are.
async fn pool(database: &Database) -> PgPool {
    let options = engine::tuned(PgConnectOptions::from_str(&database.url()).unwrap());
    PgPoolOptions::new().max_connections(5).acquire_timeout(WAIT_TIMEOUT).connect_with(options).await.unwrap()
}

fn tea() -> NewProduct {
    NewProduct {
        sku: "TEA-1".into(),
        name: "Tea".into(),
        description: String::new(),
        category: "tea".into(),
        price: 10,
        currency: "EUR".into(),
        initial_stock: 1000,
        low_stock_threshold: 2,
    }
}

/// Does with a product what locks, writes or reads its stock.
async fn use_stock(database: &Database, tea: &Product) {
    let (pool, mails) = (pool(database).await, tempfile::tempdir().unwrap());
    let settings = Settings::new(Mailer::files(mails.path(), "shop@example.com").unwrap());
    let shop = Shop::new(engine(pool.clone(), settings));
    let quit = CancellationToken::new();
    let worker = {
        let (engine, quit) = (shop.engine().clone(), quit.clone());
        let mut feed = engine.feed(shop::sagas::QUEUES[0], 256);
        tokio::spawn(async move { engine.run(&mut feed, quit).await })
    };
    for _ in 0..ORDERS {
        commands::place_order(&shop, order(&[("TEA-1", 1)]), Some(WAIT_TIMEOUT), None).await.unwrap();
    }
    commands::change_stock(&shop, tea.product_id, StockChange::Adjust(1), "found", "test", None)
        .await
        .unwrap();
    let update = serde_json::from_value(serde_json::json!({
        "name": "Tea", "category": "tea", "price": 10, "currency": "EUR", "low_stock_threshold": 3,
    }))
    .unwrap();
    commands::update_product(&shop, tea.product_id, &update, "test", None).await.unwrap();
    let product = inventory::product(&pool, tea.product_id).await.unwrap().unwrap();
    assert_eq!((product.stock.on_hand, product.stock.reserved), (1001, ORDERS));
    let listed = inventory::products(&pool, &ProductFilter::default(), Page { after: None, limit: 9 })
        .await
        .unwrap()
        .items;
    assert_eq!(listed.len(), 1);
    quit.cancel();
    worker.await.unwrap();
    shop.engine().shutdown().await;
    pool.close().await;
}

#[tokio::test]
async fn stock_is_locked_written_and_read_without_a_look_at_its_dead_versions() {
    let database = Database::fresh().await;
    let owner = database.owner_pool().await;
    let tea = commands::create_product(&owner, tea(), "test").await.unwrap();
    let snapshot =
        with_dead_versions(&database, owner, "update shop.stock set version = v + 1 where version = v").await;
    let before = blocks_read(&database, "shop.stock").await;
    use_stock(&database, &tea).await;
    let read = blocks_read(&database, "shop.stock").await - before;
    assert!((1..VERSIONS / 100 * ORDERS).contains(&read), "{read} blocks were read");

    // What a read by the SKU alone costs.
    let by_sku = pool(&database).await;
    by_sku.execute("select on_hand from shop.stock where sku = 'TEA-1'").await.unwrap();
    by_sku.close().await;
    let all = blocks_read(&database, "shop.stock").await - before - read;
    assert!(all >= VERSIONS / 100, "the snapshot does not keep the dead versions: {all} blocks were read");
    snapshot.close().await.unwrap();
}

#[tokio::test]
async fn events_are_numbered_without_a_look_at_the_dead_versions_of_the_log() {
    let database = Database::fresh().await;
    let owner = database.owner_pool().await;
    let snapshot = with_dead_versions(&database, owner, "update shop.event_log set last_event_id = v").await;
    let before = blocks_read(&database, "shop.event_log").await;
    let (pool, marks) = (pool(&database).await, LowWaterMarks::default());
    for nth in 1..=ORDERS {
        pool.execute(
            "insert into shop.outbox (routing_key, key, payload) values ('order.created', 'k', '{}')",
        )
        .await
        .unwrap();
        assert_eq!(events::sequence(&pool, &marks, 10).await.unwrap(), Sequenced::Moved(1));
        assert_eq!(events::last_event_id(&pool).await.unwrap(), VERSIONS + nth);
        events::log_range(&pool, &marks).await.unwrap();
        events::prune(&pool, &marks, Duration::from_mins(1), 10).await.unwrap();
    }
    pool.close().await;
    let read = blocks_read(&database, "shop.event_log").await - before;
    assert!((1..VERSIONS / 250 * ORDERS).contains(&read), "{read} blocks were read");
    snapshot.close().await.unwrap();
}

#[tokio::test]
async fn a_consumer_confirms_without_a_look_at_the_dead_versions_of_its_row() {
    const LEASE: Duration = Duration::from_mins(1);
    let database = Database::fresh().await;
    let owner = database.owner_pool().await;
    events::register(&owner, "redis").await.unwrap();
    let snapshot =
        with_dead_versions(&database, owner, "update shop.event_consumer set last_event_id = v").await;
    let (pool, marks) = (pool(&database).await, LowWaterMarks::default());
    let claim = events::claim(&pool, "redis", uuid::Uuid::now_v7(), LEASE).await.unwrap().unwrap();
    assert!(
        events::advance(&pool, &marks, &claim, VERSIONS, LEASE).await.unwrap(),
        "this finds where the row is"
    );
    pool.close().await;
    let before = blocks_read(&database, "shop.event_consumer").await;

    let pool = self::pool(&database).await;
    for nth in 1..=ORDERS {
        assert!(events::advance(&pool, &marks, &claim, VERSIONS + nth, LEASE).await.unwrap());
    }
    // Somebody else has written the row meanwhile.
    assert!(events::advance(&pool, &LowWaterMarks::default(), &claim, VERSIONS + 20, LEASE).await.unwrap());
    assert!(events::advance(&pool, &marks, &claim, VERSIONS + 21, LEASE).await.unwrap());
    assert!(!events::advance(&pool, &marks, &claim, VERSIONS, LEASE).await.unwrap(), "positions do not fall");
    pool.close().await;
    let read = blocks_read(&database, "shop.event_consumer").await - before;
    assert!((1..VERSIONS / 100 * ORDERS).contains(&read), "{read} blocks were read");
    snapshot.close().await.unwrap();
}
