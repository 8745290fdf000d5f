//! Each invariant reports a deliberate violation.

use shop::{
    commands,
    invariants::{self, Extent, SurveyOptions},
    notifications::DELIVER_NOTIFICATION,
    orders::Order,
    returns::RETURN_ORDER,
};
use sqlx::PgPool;

use super::{
    TestShop, order,
    returns::{request, shipped},
};
use crate::support::as_owner;

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
    returned(&test).await;
    let owner = test.owner_pool().await;
    for (number, breakage) in [
        (1, "delete from shop.orders"),
        (1, "update shop.orders set workflow_id = gen_random_uuid()"),
        (1, "insert into shop.idempotency_key (scope, key, resource_id, holder, body_hash, status, body, location)
             values ('s', 'k', gen_random_uuid(), gen_random_uuid(), '', 201, '{}', '/api/orders/' || gen_random_uuid())"),
        (2, "update shop.orders set status = 'pending'"),
        (2, "update engine.saga set status = 'dead', ended_at = null where waits_for is null"),
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
        (10, "insert into engine.progress (saga_id, step, direction, attempt, epoch, done)
              values (gen_random_uuid(), 'send-mail', 'action', 1, 1, 1)"),
        (11, "delete from shop.order_by_status where status = 'cancelled'"),
        (12, "delete from engine.history_run where direction = 'undo'"),
        (12, "update engine.history_run set outcome = 'lost' where direction = 'undo'"),
        // A step in an arm that was taken, whose undo was left out.
        (12, "insert into engine.graph (hash, definition, graph, input_schema)
              select 'g1:choice', definition, jsonb_set(graph, '{steps}', '[
                  {\"name\": \"pick\", \"kind\": \"choice\", \"undo\": \"nothing_to_undo\", \"choice\": {\"yes\": 1, \"no\": 2}},
                  {\"name\": \"wrap\", \"kind\": \"transaction\", \"undo\": \"undone\", \"arm\": {\"choice\": \"pick\", \"arm\": \"yes\"}}]'),
                  input_schema from engine.graph where definition = 'place-order' limit 1;
              update engine.saga set graph_hash = 'g1:choice', arms = 'y'
              where definition = 'place-order' and status = 'compensated';
              insert into engine.history_run (saga_id, seq, step, direction, outcome, attempt, started_at, duration_ms, epoch)
              select id, 50, 'wrap', 'action', 'done', 1, now(), 0, 9 from engine.saga where graph_hash = 'g1:choice'"),
        (13, "insert into engine.inbox (saga_id, kind, name, key, payload, state, settled_at, history_seq)
              select id, 'signal', 'approval', 'k', '{}', 'consumed', now(), 99 from engine.saga"),
        (13, "insert into engine.inbox (saga_id, kind, name, key, payload, state, settled_at, history_seq)
              select id, 'signal', 'approval', n::text, '{}', 'consumed', now(), 1 from engine.saga, generate_series(1, 2) n"),
        (13, "insert into engine.inbox (saga_id, kind, name, key, payload, created_at)
              select id, 'signal', 'approval', 'k', '{}', now() - interval '1 hour' from engine.saga"),
        (13, "insert into engine.inbox (saga_id, kind, name, key, payload, created_at)
              select id, 'signal', 'approval', 'k', '{}', now() - interval '1 hour' from engine.saga;
              update engine.saga set status = 'running', due_at = now() + interval '1 hour', ended_at = null,
                  waits_for = 'signal', signal_name = 'approval', wait_until = now() + interval '1 hour'"),
        (13, "update engine.graph set graph = jsonb_set(graph, '{steps,0,kind}', '\"signal\"');
              update engine.history_run set output = '{\"received\": {}}'"),
        (11, "update shop.notification set status = 'failed'; delete from shop.notification_by_status"),
        // A parent that is gone, that was compensated without its child, that has ended before it, and that waits for nothing.
        (14, "update engine.saga set parent_id = gen_random_uuid(), root_id = gen_random_uuid(), parent_step = 'book',
                  parent_round = 0, parent_position = 0, depth = 1 where definition = 'cancel-order'"),
        (14, "update engine.saga c set parent_id = p.id, root_id = p.id, parent_step = 'open-order', parent_round = 0,
                  parent_position = 0, depth = 1 from engine.saga p where p.status = 'compensated' and c.definition = 'cancel-order'"),
        (14, "update engine.saga c set parent_id = p.id, root_id = p.id, parent_step = 'book', parent_round = 0,
                  parent_position = 0, depth = 1, status = 'running', due_at = now(), ended_at = null
              from engine.saga p where p.definition = 'cancel-order' and c.id = (
                  select id from engine.saga where definition = 'place-order' and status = 'completed' order by id limit 1)"),
        (14, "update engine.saga c set parent_id = p.id, root_id = p.id, parent_step = 'book', parent_round = 0,
                  parent_position = 0, depth = 2
              from engine.saga p where p.definition = 'cancel-order' and c.id = (
                  select id from engine.saga where definition = 'place-order' and status = 'completed' order by id limit 1)"),
        (14, "update engine.saga c set parent_id = p.id, root_id = p.id, parent_step = 'book', parent_round = 0,
                  parent_position = 1, depth = 1
              from engine.saga p where p.definition = 'cancel-order' and c.id = (
                  select id from engine.saga where definition = 'place-order' and status = 'completed' order by id limit 1)"),
        (14, "update engine.saga set status = 'running', waits_for = 'children', ended_at = null, direction = 'action'
              where definition = 'cancel-order'"),
        (14, "update engine.saga set status = 'compensating', waits_for = 'children', ended_at = null, direction = 'undo'
              where definition = 'cancel-order'"),
        // A return of an order that was not shipped, without its saga, with a wrong timeline, and with units that were never
        // ordered or not restocked; an order of which all is back, and one of which nothing is.
        (15, "insert into shop.order_return (return_id, order_id, workflow_id, reason)
              select gen_random_uuid(), order_id, workflow_id, 'r' from shop.orders where status = 'rejected'"),
        (15, "update shop.order_return set order_id = gen_random_uuid()"),
        (15, "update shop.order_return set workflow_id = gen_random_uuid() where status = 'requested'"),
        (15, "update shop.order_return set version = version + 1"),
        (15, "delete from shop.return_line"),
        (15, "update shop.return_line set received = null, restocked = null"),
        (15, "update shop.return_line set received = quantity, restocked = 0 where received is null"),
        (15, "update shop.return_line set quantity = 99"),
        (15, "update shop.return_line set sku = 'POT-1'"),
        (15, "update shop.orders set status = 'returned' where status = 'shipped'"),
        (15, "update shop.orders set status = 'delivered' where status = 'returned'"),
        (15, "update shop.return_line set restocked = 0 where restocked > 0"),
        (7, "update engine.business_key set key = 'x' where key like 'return-received:%'"),
    ] {
        let violated = violated(&owner, breakage).await;
        assert!(violated.contains(&number), "`{breakage}` breaks invariant {number}, but these report violations: {violated:?}");
    }
    owner.close().await;
    test.close().await;
}

/// Ships two orders. All of one comes back, and a return of the other waits for a decision.
async fn returned(test: &TestShop) {
    let order = delivered(test).await;
    let back = commands::request_return(&test.shop, request(order.order_id, &[]), "ann", None).await.unwrap();
    commands::approve_return(&test.shop, back.return_id, None, "bob", None).await.unwrap();
    commands::receive_return(&test.shop, back.return_id, &[], None, "cy", None).await.unwrap();
    test.settled(RETURN_ORDER.name(), back.return_id.to_string()).await;
    for mail in ["return-approved", "return-received"] {
        test.settled(DELIVER_NOTIFICATION.name(), format!("{mail}:{}", back.return_id)).await;
    }
    let order = delivered(test).await;
    commands::request_return(&test.shop, request(order.order_id, &[]), "ann", None).await.unwrap();
}

/// An order of one unit that was shipped, and all mails about it.
async fn delivered(test: &TestShop) -> Order {
    let placed = shipped(test, &[("TEA-1", 1)]).await;
    for mail in ["order-confirmed", "order-shipped"] {
        test.settled(DELIVER_NOTIFICATION.name(), format!("{mail}:{}", placed.order_id)).await;
    }
    placed
}

#[tokio::test]
async fn the_ledger_can_only_grow() {
    let test = TestShop::open().await;
    test.add_product("TEA-1", 10, 5).await;
    for change in ["update shop.stock_movement set delta_on_hand = 6", "delete from shop.stock_movement"] {
        let error = as_owner(test.pool(), change).await.unwrap_err();
        assert!(error.to_string().contains("append only"), "{error}");
    }
    test.close().await;
}

/// A shop with three orders, one of them confirmed, one rejected and one cancelled, and every mail sent.
async fn shop_with_history() -> TestShop {
    let test = TestShop::open().await.start_workers();
    test.add_product("CUP-1", 10, 5).await;
    test.add_product("TEA-1", 10, 5).await;
    let confirmed = test.place(order(&[("TEA-1", 1), ("CUP-1", 1)])).await;
    let short = test.place(order(&[("TEA-1", 9)])).await;
    let cancelled = test.place(order(&[("TEA-1", 2)])).await;
    for key in [
        format!("order-confirmed:{}", confirmed.order_id),
        format!("order-rejected:{}", short.order_id),
        format!("order-confirmed:{}", cancelled.order_id),
    ] {
        test.settled(DELIVER_NOTIFICATION.name(), key).await;
    }
    // A cancel before the confirmation would compensate the placement instead.
    commands::cancel_order(&test.shop, cancelled.order_id, "no", "ann").await.unwrap();
    test.settled("cancel-order", cancelled.order_id.to_string()).await;
    test.settled(DELIVER_NOTIFICATION.name(), format!("order-cancelled:{}", cancelled.order_id)).await;
    test
}

#[tokio::test]
async fn a_survey_in_small_ranges_finds_what_a_check_on_one_snapshot_finds() {
    let test = shop_with_history().await;
    let whole = SurveyOptions { range: 1, ..SurveyOptions::new(Extent::Whole) };
    let (results, coverage) = invariants::survey(test.shop.engine(), whole, |_| {}).await.unwrap();
    assert!(results.iter().all(invariants::InvariantResult::holds), "{results:?}");
    assert!(coverage.everything);
    assert_eq!((coverage.newest_sagas, coverage.complete_since), (8, None));
    assert_eq!((coverage.products, coverage.all_products), (2, 2));

    sqlx::raw_sql(
        "insert into shop.idempotency_key (scope, key, resource_id, holder, body_hash, status, body, location)
         values ('s', 'k', gen_random_uuid(), gen_random_uuid(), '', 201, '{}', '/api/orders/' || gen_random_uuid());
         update engine.saga set status = 'dead' where definition = 'cancel-order';
         update shop.orders set status = 'cancelling' where status = 'cancelled';
         update engine.history_run set step = 'never-begun' where direction = 'undo';
         update engine.history_run set epoch = 99 where seq = 1;
         update shop.stock set on_hand = on_hand + 1 where sku = 'TEA-1';
         update shop.reservation set state = 'held' where sku = 'TEA-1';
         update shop.notification set message_id = '<1.send-mail@sagaline>'",
    )
    .execute(test.pool())
    .await
    .unwrap();
    let (mut surveyed, _) = invariants::survey(test.shop.engine(), whole, |_| {}).await.unwrap();
    let histories = surveyed.pop().unwrap();
    assert!(histories.number == 8 && !histories.holds(), "{histories:?}");
    let mut checked = invariants::check(test.pool()).await.unwrap();
    for result in surveyed.iter_mut().chain(&mut checked) {
        // A violation that is told with a date would differ.
        result.violations.sort();
    }
    assert_eq!(surveyed, checked);
    assert!(checked.iter().filter(|result| !result.holds()).count() > 5, "{checked:?}");
    // What is broken stays broken.
    test.stop_workers().await.shop.engine().shutdown().await;
}

#[tokio::test]
async fn a_sample_has_all_that_is_unfinished_and_says_what_it_left_out() {
    let test = shop_with_history().await;
    // The oldest saga waits for ever, and the oldest order is wrong.
    sqlx::raw_sql(
        "update engine.saga set status = 'running', ended_at = null, due_at = now() - interval '1 hour'
         where id = (select id from engine.saga order by id limit 1);
         update shop.orders set total = total + 1 where order_id = (select order_id from shop.orders order by order_id limit 1)",
    )
    .execute(test.pool())
    .await
    .unwrap();
    let violated = async |options| {
        let (results, coverage) = invariants::survey(test.shop.engine(), options, |_| {}).await.unwrap();
        let violated: Vec<u8> =
            results.iter().filter(|result| !result.holds()).map(|result| result.number).collect();
        (violated, coverage)
    };

    let sample = SurveyOptions { newest: 1, times: 0, ..SurveyOptions::new(Extent::Sample) };
    let (numbers, coverage) = violated(sample).await;
    assert_eq!(numbers, [2, 8], "an overdue saga, whose history has ended");
    assert!(!coverage.everything && coverage.complete_since.is_some());
    assert_eq!((coverage.unfinished_sagas, coverage.older_sagas), (1, 0));
    assert!(coverage.to_string().ends_with("`--whole` checks everything"), "{coverage}");

    let (numbers, coverage) = violated(SurveyOptions { times: 5, ..sample }).await;
    assert!(numbers.starts_with(&[2]));
    assert_eq!(coverage.older_times, 5);

    let (numbers, coverage) = violated(SurveyOptions::new(Extent::Sample)).await;
    assert_eq!(numbers, [2, 6, 8], "the newest are all");
    assert!(coverage.everything);
    // What is broken stays broken.
    test.stop_workers().await.shop.engine().shutdown().await;
}
