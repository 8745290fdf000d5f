//! Each invariant reports a deliberate violation.

use shop::{commands, invariants, notifications::DELIVER_NOTIFICATION};
use sqlx::PgPool;

use super::{TestShop, order};

/// Breaks the database in a transaction that is rolled back, and returns the invariants that notice.
async fn violated(pool: &PgPool, breakage: &'static str) -> Vec<u8> {
    let mut tx = pool.begin().await.unwrap();
    sqlx::raw_sql(breakage).execute(&mut *tx).await.unwrap();
    let results = invariants::check_in(&mut tx).await.unwrap();
    results.into_iter().filter(|result| !result.holds()).map(|result| result.number).collect()
}

#[tokio::test]
async fn every_deliberate_violation_is_detected() {
    let test = TestShop::open().await.start_workers();
    test.add_product("TEA-1", 10, 5).await;
    let placed = test.place(order(&[("TEA-1", 2)])).await;
    test.settled(DELIVER_NOTIFICATION.name(), format!("order-confirmed:{}", placed.order_id)).await;
    let short = test.place(order(&[("TEA-1", 9)])).await;
    test.settled(DELIVER_NOTIFICATION.name(), format!("order-rejected:{}", short.order_id)).await;
    commands::cancel_order(&test.shop, placed.order_id, "no", "ann").await.unwrap();
    test.settled("cancel-order", placed.order_id.to_string()).await;
    test.settled(DELIVER_NOTIFICATION.name(), format!("order-cancelled:{}", placed.order_id)).await;
    for (number, breakage) in [
        (1, "delete from shop.orders"),
        (1, "update shop.orders set workflow_id = gen_random_uuid()"),
        (1, "insert into shop.idempotency_key (scope, key, resource_id, holder, body_hash, status, body, location)
             values ('s', 'k', gen_random_uuid(), gen_random_uuid(), '', 201, '{}', '/api/orders/' || gen_random_uuid())"),
        (2, "update shop.orders set status = 'pending'"),
        (2, "update engine.saga set status = 'dead', ended_at = null"),
        (2, "update engine.saga set status = 'dead' where definition = 'place-order';
             update shop.orders set status = 'pending'"),
        (2, "update engine.saga set status = 'dead' where definition = 'cancel-order';
             update shop.orders set status = 'cancelling'"),
        (2, "update engine.saga set status = 'running', due_at = now() - interval '1 hour'"),
        (2, "update engine.saga set status = 'running', due_at = now() + interval '1 week'"),
        (3, "update engine.history_run set step = 'never-begun' where direction = 'undo'"),
        (3, "update engine.saga set status = 'completed' where status = 'compensated'"),
        (4, "insert into engine.history_run (saga_id, seq, step, direction, outcome, attempt, started_at, duration_ms, epoch)
             select saga_id, 99, step, direction, outcome, attempt, started_at, 0, 99 from engine.history where seq = 1"),
        (5, "update engine.history_run set epoch = 99 where seq = 1"),
        (6, "delete from shop.order_line"),
        (6, "update shop.stock set on_hand = on_hand + 1"),
        (6, "update shop.reservation set state = 'held'"),
        (6, "update shop.orders set version = version + 1"),
        (6, "insert into shop.stock_movement (sku, kind, delta_on_hand, delta_reserved, actor)
             values ('TEA-1', 'adjust', 1, 0, 'test')"),
        (7, "delete from shop.notification"),
        (7, "update shop.notification set message_id = '<1.send-mail@sagaline>'"),
        (7, "update shop.notification set status = 'sending'"),
        (7, "update shop.orders set status = 'shipped' where status = 'cancelled'"),
    ] {
        let violated = violated(test.pool(), breakage).await;
        assert!(violated.contains(&number), "`{breakage}` breaks invariant {number}, but these report violations: {violated:?}");
    }
    test.close().await;
}

#[tokio::test]
async fn the_ledger_can_only_grow() {
    let test = TestShop::open().await;
    test.add_product("TEA-1", 10, 5).await;
    for change in ["update shop.stock_movement set delta_on_hand = 6", "delete from shop.stock_movement"] {
        let error = sqlx::raw_sql(change).execute(test.pool()).await.unwrap_err();
        assert!(error.to_string().contains("append only"), "{error}");
    }
    test.close().await;
}
