//! The number of statements of a batch does not depend on its number of orders, and none is about what no order has.

use std::{cell::Cell, fmt, sync::Once};

use engine::NewSaga;
use shop::orders::{PAYMENT_RECEIVED, PLACE_ORDER, Payment};
use tracing::field::{Field, Visit};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt};

use super::{TestShop, order};

use crate::support::WAIT_TIMEOUT;

thread_local! {
    /// The runtime of such a test runs on the test's thread, so only its own statements are counted.
    static STATEMENTS: Cell<usize> = const { Cell::new(0) };
    /// Those that settle signals.
    static OF_SIGNALS: Cell<usize> = const { Cell::new(0) };
}

/// Counts the statements that sqlx logs.
struct Statements;

impl<S: tracing::Subscriber> Layer<S> for Statements {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.target() == "sqlx::query"
    }

    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        STATEMENTS.set(STATEMENTS.get() + 1);
        let mut of_signals = OfSignals(false);
        event.record(&mut of_signals);
        OF_SIGNALS.set(OF_SIGNALS.get() + usize::from(of_signals.0));
    }
}

/// Whether a statement settles signals.
struct OfSignals(bool);

impl Visit for OfSignals {
    fn record_debug(&mut self, _: &Field, value: &dyn fmt::Debug) {
        self.0 |= format!("{value:?}").contains("update engine.inbox");
    }
}

/// For the whole process: call sites that other threads have already hit would not see a subscriber of one thread.
fn count_statements() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Statements)).unwrap();
    });
}

fn placements(count: usize) -> Vec<NewSaga> {
    let new = |_| PLACE_ORDER.with(&order(&[("TEA-1", 1), ("CUP-1", 2)]));
    (0..count).map(new).collect()
}

#[tokio::test]
async fn opening_two_hundred_orders_takes_as_many_statements_as_opening_one() {
    count_statements();
    let test = TestShop::open().await;
    test.add_product("TEA-1", 10, 1000).await;
    test.add_product("CUP-1", 10, 1000).await;
    // Else the first start would do it.
    test.shop.engine().store_graphs().await.unwrap();
    let mut costs = Vec::new();
    for count in [1, 200] {
        let mut tx = test.pool().begin().await.unwrap();
        let before = STATEMENTS.get();
        let started = test.shop.engine().start_in(&mut tx, placements(count)).await.unwrap();
        assert!(started.iter().all(Result::is_ok));
        costs.push(STATEMENTS.get() - before);
        tx.commit().await.unwrap();
    }
    assert!(costs[0] > 0, "nothing was counted");
    assert_eq!(costs[0], costs[1]);
    test.close().await;
}

#[tokio::test]
async fn two_hundred_orders_are_reserved_confirmed_and_mailed_with_few_statements() {
    count_statements();
    let test = TestShop::open().await;
    test.add_product("TEA-1", 10, 1000).await;
    test.add_product("CUP-1", 10, 1000).await;
    let mut tx = test.pool().begin().await.unwrap();
    let started = test.shop.engine().start_in(&mut tx, placements(200)).await.unwrap();
    tx.commit().await.unwrap();
    let (before, of_signals) = (STATEMENTS.get(), OF_SIGNALS.get());
    let test = test.start_workers();
    for saga in started {
        test.shop.engine().wait(saga.unwrap().saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();
    }
    let cost = STATEMENTS.get() - before;
    // Includes deliveries, leases and polling; one by one it would be some ten thousand.
    assert!((1..1000).contains(&cost), "{cost} statements for 200 orders");
    // They leave the wait for their payment out, and nobody has sent one.
    assert_eq!(OF_SIGNALS.get() - of_signals, 0);
    test.close().await;
}

#[tokio::test]
async fn a_payment_for_an_order_that_waits_for_none_is_marked_as_too_late() {
    count_statements();
    let test = TestShop::open().await;
    test.add_product("TEA-1", 10, 10).await;
    let payment = Payment { reference: "pay-17".to_owned().try_into().unwrap() };
    let new = PLACE_ORDER.with(&order(&[("TEA-1", 1)])).signal(PAYMENT_RECEIVED.with(&payment));
    let saga_id = test.shop.engine().start(new).await.unwrap().saga_id;
    let before = OF_SIGNALS.get();
    let test = test.start_workers();
    test.shop.engine().wait(saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert!(OF_SIGNALS.get() > before, "such statements are not seen");
    let state: String = sqlx::query_scalar("select state from engine.inbox where saga_id = $1")
        .bind(saga_id.0)
        .fetch_one(test.pool())
        .await
        .unwrap();
    assert_eq!(state, "too_late");
    test.close().await;
}
