//! The shop on a real database: orders, stock, mails and their invariants.

mod blocks;
mod bounds;
mod catalog;
mod changing;
mod dead_placements;
mod dead_versions;
mod expiry;
mod golden;
mod invariants;
mod keys;
mod list_plans;
mod lists_by_status;
mod mail_copies;
mod mail_replies;
mod mails;
mod notifications;
mod outages;
mod outbox;
mod payments;
mod placing;
mod proofs;
mod retention;
mod returns;
mod returns_hostile;
mod snapshots;
mod statements;
mod stock;
mod traces;

use std::time::Duration;

use engine::{Engine, EngineBuilder, Page, Retention, RetryPolicy, SagaId, Status};
use shop::{
    DeadJobEvents, Shop, commands,
    invariants::{InvariantResult, check},
    inventory::{self, NewProduct, Product},
    mail::Mailer,
    notifications::{DeliverNotification, QUEUE},
    orders::{self, Order, OrderItem, OrderStatus, PlaceOrder},
    sagas::{self, Settings},
};
use sqlx::PgPool;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::{Database, WAIT_TIMEOUT};

/// The longest time that a transaction step can have with the default lease: it only ends a hang.
const STEP_TIMEOUT: Duration = Duration::from_secs(25);

/// A retry policy for tests that use up attempts; no step reaches its time-out.
const QUICK: RetryPolicy = RetryPolicy {
    first_delay: Duration::from_millis(1),
    factor: 1.0,
    max_delay: Duration::from_millis(2),
    attempts: 3,
    timeout: STEP_TIMEOUT,
    max_postponed: RetryPolicy::MAX_POSTPONED,
};

/// A shop with its own database, and with workers once they are started.
struct TestShop {
    shop: Shop,
    workers: Vec<JoinHandle<()>>,
    stop: CancellationToken,
    mails: TempDir,
    database: Database,
}

impl TestShop {
    /// Creates a shop that writes mails to files.
    async fn open() -> Self {
        let mails = tempfile::tempdir().unwrap();
        let mailer = Mailer::files(mails.path(), "shop@example.com").unwrap();
        Self::with(mails, Settings { send_mail_retry: QUICK, ..Settings::new(mailer) }).await
    }

    async fn with(mails: TempDir, settings: Settings) -> Self {
        Self::keeping(mails, settings, Retention::default()).await
    }

    async fn keeping(mails: TempDir, settings: Settings, retention: Retention) -> Self {
        let database = Database::fresh().await;
        let throttle = settings.mailer.throttle();
        let builder = engine_builder(database.pool().await, settings).retention(retention);
        let shop = Shop::new(builder.build().unwrap());
        shop.engine().throttle(QUEUE, throttle);
        Self { shop, workers: Vec::new(), stop: CancellationToken::new(), mails, database }
    }

    /// Starts workers on the shop's queues.
    fn start_workers(mut self) -> Self {
        for queue in sagas::QUEUES {
            let (engine, stop, mut feed) =
                (self.shop.engine().clone(), self.stop.clone(), self.shop.engine().feed(queue, 256));
            self.workers.push(tokio::spawn(async move { engine.run(&mut feed, stop).await }));
        }
        self
    }

    /// A pool whose role owns the schemas.
    async fn owner_pool(&self) -> PgPool {
        self.database.owner_pool().await
    }

    fn pool(&self) -> &PgPool {
        self.shop.pool()
    }

    async fn add_product(&self, sku: &str, price: i64, initial_stock: i64) -> Product {
        let new = NewProduct {
            sku: sku.into(),
            name: format!("{sku} by name"),
            description: String::new(),
            category: "tea".into(),
            price,
            currency: "EUR".into(),
            initial_stock,
            low_stock_threshold: 2,
        };
        commands::create_product(self.pool(), new, "test").await.unwrap()
    }

    async fn place(&self, order: PlaceOrder) -> Order {
        commands::place_order(&self.shop, order, Some(WAIT_TIMEOUT), None).await.unwrap()
    }

    async fn order(&self, order_id: Uuid) -> Order {
        orders::get(self.pool(), order_id).await.unwrap().unwrap()
    }

    /// The product's stock: on hand, and reserved.
    async fn stock(&self, product: &Product) -> (i64, i64) {
        let stock = inventory::product(self.pool(), product.product_id).await.unwrap().unwrap().stock;
        (stock.on_hand, stock.reserved)
    }

    /// The number of events with this routing key in the outbox.
    async fn events(&self, routing_key: &str) -> i64 {
        sqlx::query_scalar("select count(*) from shop.outbox where routing_key = $1")
            .bind(routing_key)
            .fetch_one(self.pool())
            .await
            .unwrap()
    }

    /// Waits until the saga with this business key has ended or is dead, and returns its status.
    async fn settled(&self, definition: &str, business_key: String) -> Status {
        let filter = engine::SagaFilter {
            definition: Some(definition.into()),
            business_key: Some(business_key),
            ..engine::SagaFilter::default()
        };
        let sagas = self.shop.engine().sagas(&filter, Page { after: None, limit: 1 }).await.unwrap().items;
        self.shop.engine().wait(sagas[0].saga_id, WAIT_TIMEOUT).await.unwrap().unwrap().status
    }

    /// Waits until this saga waits at this step.
    async fn waits_at(&self, saga: Uuid, step: &str) {
        let waits = async {
            loop {
                let saga = self.shop.engine().saga(SagaId(saga)).await.unwrap().unwrap();
                if saga.waits_for.is_some() && saga.step == step {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(WAIT_TIMEOUT, waits).await.expect("the saga waits");
    }

    /// The mails that were sent, as files.
    fn mails(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.mails.path()).unwrap();
        entries.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap()).collect()
    }

    /// Stops the workers after their current jobs.
    async fn stop_workers(mut self) -> Self {
        self.stop.cancel();
        for worker in self.workers.drain(..) {
            worker.await.unwrap();
        }
        self.stop = CancellationToken::new();
        self
    }

    async fn close(self) {
        assert_eq!(violations(self.pool()).await, []);
        let test = self.stop_workers().await;
        test.shop.engine().shutdown().await;
    }
}

/// An engine with the shop's sagas.
fn engine(pool: PgPool, settings: Settings) -> Engine {
    engine_builder(pool, settings).build().unwrap()
}

fn engine_builder(pool: PgPool, settings: Settings) -> EngineBuilder {
    let earlier = sagas::earlier_definitions(settings.clone()).unwrap();
    let definitions = sagas::definitions(settings).unwrap();
    let builder = Engine::builder(pool).on_dead_job(DeadJobEvents);
    let builder = definitions.into_iter().fold(builder, EngineBuilder::register);
    earlier.into_iter().fold(builder, EngineBuilder::also)
}

/// The invariants of the shop that do not hold.
async fn violations(pool: &PgPool) -> Vec<InvariantResult> {
    check(pool).await.unwrap().into_iter().filter(|verdict| !verdict.holds()).collect()
}

fn a_notification() -> DeliverNotification {
    DeliverNotification { to: "ann@example.com".into(), subject: "s".into(), text: "t\n".into(), html: None }
}

fn order(items: &[(&str, i64)]) -> PlaceOrder {
    PlaceOrder {
        order_id: Uuid::now_v7(),
        customer_id: Uuid::now_v7(),
        customer_email: "ann@example.com".into(),
        items: items
            .iter()
            .map(|(sku, quantity)| OrderItem { sku: (*sku).into(), quantity: *quantity })
            .collect(),
        actor: Some("test".into()),
    }
}

/// The statuses that an order has had, in order.
fn statuses(order: &Order) -> Vec<OrderStatus> {
    order.timeline.iter().map(|entry| entry.status).collect()
}
