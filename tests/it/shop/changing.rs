//! Orders that are cancelled, packed and shipped, also concurrently.

use std::collections::BTreeMap;

use engine::{Direction, Engine, StartError, Status};
use shop::{
    Shop,
    commands::{self, CancelOrderError, CancelRefusal, IllegalStatus, StatusError},
    mail::Mailer,
    notifications::DELIVER_NOTIFICATION,
    orders::{CANCEL_ORDER, CancelOrder, OrderStatus, PLACE_ORDER},
    sagas::{self, Settings},
};
use sqlx::PgPool;

use super::{QUICK, TestShop, order, statuses};

use crate::support::{WAIT_TIMEOUT, as_owner};

/// Waits as long as this many statements take, to vary who is first in a race.
async fn idle_for(pool: &PgPool, statements: usize) {
    for _ in 0..statements {
        sqlx::query("select 1").execute(pool).await.unwrap();
    }
}

#[tokio::test]
async fn a_confirmed_order_is_cancelled_once_and_releases_its_stock() {
    let test = TestShop::open().await.start_workers();
    let tea = test.add_product("TEA-1", 10, 5).await;
    let placed = test.place(order(&[("TEA-1", 4)])).await;
    commands::cancel_order(&test.shop, placed.order_id, "changed my mind", "ann").await.unwrap();
    let ended = test.settled(CANCEL_ORDER.name(), placed.order_id.to_string()).await;
    assert_eq!(ended, Status::Completed);
    let again = commands::cancel_order(&test.shop, placed.order_id, "again", "ann").await.unwrap();
    assert_eq!(again.status, OrderStatus::Cancelled);
    assert_eq!(again.status_reason.as_deref(), Some("changed my mind"));
    assert_eq!(again.timeline.last().map(|entry| entry.actor.as_str()), Some("ann"));
    assert_eq!(test.stock(&tea).await, (5, 0));
    assert_eq!((test.events("inventory.released").await, test.events("order.cancelled").await), (1, 1));
    test.close().await;
}

#[tokio::test]
async fn cancelling_during_the_placement_compensates_it() {
    let test = TestShop::open().await;
    let tea = test.add_product("TEA-1", 10, 5).await;
    // No worker runs yet, so the placement waits.
    let pending = commands::place_order(&test.shop, order(&[("TEA-1", 4)]), None, None).await.unwrap();
    assert_eq!(pending.status, OrderStatus::Pending);
    let cancelling =
        commands::cancel_order(&test.shop, pending.order_id, "changed my mind", "ann").await.unwrap();
    assert!(
        matches!(cancelling.status, OrderStatus::Cancelling | OrderStatus::Cancelled),
        "{}",
        cancelling.status
    );
    let test = test.start_workers();
    assert_eq!(test.settled(PLACE_ORDER.name(), pending.order_id.to_string()).await, Status::Compensated);
    let cancelled = test.order(pending.order_id).await;
    assert_eq!(statuses(&cancelled), [OrderStatus::Pending, OrderStatus::Cancelling, OrderStatus::Cancelled]);
    assert_eq!(test.stock(&tea).await, (5, 0));
    test.close().await;
}

#[tokio::test]
async fn a_customer_gets_their_own_reason_in_the_mail_whatever_it_begins_with() {
    let test = TestShop::open().await;
    test.add_product("TEA-1", 10, 5).await;
    let mut cancelled = Vec::new();
    for reason in ["expired: voucher", "discarded: x"] {
        let pending = commands::place_order(&test.shop, order(&[("TEA-1", 1)]), None, None).await.unwrap();
        commands::cancel_order(&test.shop, pending.order_id, reason, "ann").await.unwrap();
        cancelled.push((pending.order_id, reason));
    }
    let test = test.start_workers();
    for (order_id, reason) in cancelled {
        assert_eq!(test.settled(PLACE_ORDER.name(), order_id.to_string()).await, Status::Compensated);
        let mail = test.settled(DELIVER_NOTIFICATION.name(), format!("order-cancelled:{order_id}")).await;
        assert_eq!(mail, Status::Completed);
        assert_eq!(test.order(order_id).await.status_reason.as_deref(), Some(reason));
        let mails = test.mails();
        let mail =
            mails.iter().find(|mail| mail.contains(&order_id.to_string())).expect("a mail about the order");
        assert!(mail.contains(reason) && !mail.contains("technical reasons"), "{mail}");
    }
    test.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_placement_and_cancellation_end_in_one_consistent_state() {
    let mut test = TestShop::open().await;
    let tea = test.add_product("TEA-1", 10, 1000).await;
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for _ in 0..20 {
        let accepted = (0..30).map(|_| commands::place_order(&test.shop, order(&[("TEA-1", 1)]), None, None));
        let accepted = futures::future::join_all(accepted).await;
        // Placing begins now; the first orders are cancelled at once, the last when most are placed.
        test = test.start_workers();
        let races = accepted.into_iter().zip(1..).map(|(accepted, nth)| {
            let (order_id, test) = (accepted.unwrap().order_id, &test);
            async move {
                idle_for(test.pool(), nth).await;
                commands::cancel_order(&test.shop, order_id, "race", "ann").await.unwrap();
                let ended = test.settled(PLACE_ORDER.name(), order_id.to_string()).await;
                if ended == Status::Completed {
                    let cancelled = test.settled(CANCEL_ORDER.name(), order_id.to_string()).await;
                    assert_eq!(cancelled, Status::Completed);
                }
                assert_eq!(test.order(order_id).await.status, OrderStatus::Cancelled);
                ended
            }
        });
        for ended in futures::future::join_all(races).await {
            *seen.entry(ended.name()).or_default() += 1;
        }
        assert_eq!(test.stock(&tea).await, (1000, 0));
        if seen.len() > 1 {
            break;
        }
        test = test.stop_workers().await;
    }
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), ["compensated", "completed"], "{seen:?}");
    test.close().await;
}

#[tokio::test]
async fn an_order_changes_its_status_by_legal_transitions_and_shipping_takes_the_stock() {
    let test = TestShop::open().await.start_workers();
    let tea = test.add_product("TEA-1", 10, 5).await;
    let placed = test.place(order(&[("TEA-1", 4)])).await;
    let to = |status, version| {
        commands::set_order_status(&test.shop, placed.order_id, status, None, "packer", version)
    };
    assert!(matches!(
        to(OrderStatus::Shipped, None).await,
        Err(StatusError::Refused(IllegalStatus { from: OrderStatus::Confirmed, allowed, .. })) if allowed == [OrderStatus::Processing]
    ));
    assert!(matches!(
        to(OrderStatus::Processing, Some(1)).await,
        Err(StatusError::VersionMismatch { current: 2 })
    ));
    assert_eq!(to(OrderStatus::Processing, Some(2)).await.unwrap().version, 3);
    let shipped = to(OrderStatus::Shipped, Some(3)).await.unwrap();
    assert_eq!(shipped.timeline.last().map(|entry| entry.actor.as_str()), Some("packer"));
    assert_eq!(test.stock(&tea).await, (1, 0));
    assert!(matches!(
        commands::cancel_order(&test.shop, placed.order_id, "late", "ann").await,
        Err(CancelOrderError::Refused(CancelRefusal::NotCancellable { status: OrderStatus::Shipped, .. }))
    ));
    assert_eq!(to(OrderStatus::Delivered, None).await.unwrap().status, OrderStatus::Delivered);
    test.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_concurrent_shipping_and_cancellation_one_succeeds() {
    let test = TestShop::open().await.start_workers();
    let tea = test.add_product("TEA-1", 10, 100).await;
    let mut outcomes = BTreeMap::new();
    for nth in 0..40 {
        let order_id = test.place(order(&[("TEA-1", 2)])).await.order_id;
        let to = |status| commands::set_order_status(&test.shop, order_id, status, None, "packer", None);
        to(OrderStatus::Processing).await.unwrap();
        let cancel = commands::cancel_order(&test.shop, order_id, "race", "ann");
        // Cancelling takes some statements until it locks the order, so shipping starts later and later.
        let ship = async {
            idle_for(test.pool(), nth % 10).await;
            to(OrderStatus::Shipped).await
        };
        let (shipped, cancelled) = futures::future::join(ship, cancel).await;
        assert!(shipped.is_ok() != cancelled.is_ok(), "{shipped:?} {cancelled:?}");
        if cancelled.is_ok() {
            test.settled(CANCEL_ORDER.name(), order_id.to_string()).await;
        }
        *outcomes.entry(test.order(order_id).await.status.name()).or_insert(0) += 1;
    }
    assert_eq!(outcomes.keys().copied().collect::<Vec<_>>(), ["cancelled", "shipped"], "{outcomes:?}");
    assert_eq!(test.stock(&tea).await, (100 - 2 * outcomes["shipped"], 0));
    test.close().await;
}

#[tokio::test]
async fn an_order_that_has_changed_since_it_was_seen_is_not_cancelled() {
    let test = TestShop::open().await;
    test.add_product("TEA-1", 10, 9).await;
    let cancel = async |id, seen| {
        commands::cancel_order_version(&test.shop, id, "changed my mind", "ann", Some(seen)).await
    };
    let pending = commands::place_order(&test.shop, order(&[("TEA-1", 1)]), None, None).await.unwrap();
    let refused = cancel(pending.order_id, 2).await;
    assert!(matches!(refused, Err(CancelOrderError::VersionMismatch { current: 1 })), "{refused:?}");
    assert!(matches!(
        cancel(pending.order_id, 1).await.unwrap().status,
        OrderStatus::Cancelling | OrderStatus::Cancelled
    ));
    let test = test.start_workers();
    let placed = test.place(order(&[("TEA-1", 1)])).await;
    commands::set_order_status(&test.shop, placed.order_id, OrderStatus::Processing, None, "packer", Some(2))
        .await
        .unwrap();
    let cancel = async |seen| {
        commands::cancel_order_version(&test.shop, placed.order_id, "late", "ann", Some(seen)).await
    };
    assert!(matches!(cancel(2).await, Err(CancelOrderError::VersionMismatch { current: 3 })));
    // A cancel that read the order before it was packed, and gets the lock after that, is refused.
    let behind = CancelOrder {
        order_id: placed.order_id,
        reason: "late".into(),
        actor: "ann".into(),
        expected_version: Some(2),
    };
    let refused = test.shop.engine().start(CANCEL_ORDER.with(&behind)).await;
    assert!(matches!(refused, Err(StartError::Refused(no)) if no.code == "version-mismatch"));
    assert_eq!(test.order(placed.order_id).await.status, OrderStatus::Processing);
    cancel(3).await.unwrap();
    assert_eq!(test.settled(CANCEL_ORDER.name(), placed.order_id.to_string()).await, Status::Completed);
    test.close().await;
}

#[tokio::test]
async fn a_cancel_that_was_accepted_while_the_order_was_being_confirmed_cancels_the_confirmed_order() {
    let test = TestShop::open().await.start_workers();
    let tea = test.add_product("TEA-1", 10, 5).await;
    let (placed, shipped) =
        (test.place(order(&[("TEA-1", 4)])).await, test.place(order(&[("TEA-1", 1)])).await);
    for status in [OrderStatus::Processing, OrderStatus::Shipped] {
        commands::set_order_status(&test.shop, shipped.order_id, status, None, "packer", None).await.unwrap();
    }
    // As if the transactions that confirmed the orders had held the placements when the cancels came.
    sqlx::query(
        "insert into engine.inbox (saga_id, kind, name, key, payload)
         select workflow_id, 'cancel', '', '', '{\"actor\": \"ann\", \"reason\": \"changed my mind\"}' from shop.orders",
    )
    .execute(test.pool())
    .await
    .unwrap();
    let both_too_late = async {
        let too_late = "select count(*) from engine.inbox where state = 'too_late'";
        while sqlx::query_scalar::<_, i64>(too_late).fetch_one(test.pool()).await.unwrap() < 2 {}
    };
    tokio::time::timeout(WAIT_TIMEOUT, both_too_late).await.unwrap();
    assert_eq!(test.settled(CANCEL_ORDER.name(), placed.order_id.to_string()).await, Status::Completed);
    let cancelled = test.order(placed.order_id).await;
    assert_eq!(
        (cancelled.status, cancelled.status_reason.as_deref()),
        (OrderStatus::Cancelled, Some("changed my mind"))
    );
    assert_eq!(cancelled.timeline.last().map(|entry| entry.actor.as_str()), Some("ann"));
    assert_eq!(test.stock(&tea).await, (4, 0), "the shipped order has left");
    assert_eq!(test.order(shipped.order_id).await.status, OrderStatus::Shipped);
    test.close().await;
}

/// An engine with few attempts for undos.
fn engine_with_few_undo_attempts(test: &TestShop, settings: Settings) -> Engine {
    let mut builder = Engine::builder(test.pool().clone());
    for mut definition in sagas::definitions(settings).unwrap() {
        if definition.graph().name == PLACE_ORDER.name() {
            definition.set_policy("open-order", Direction::Undo, QUICK).unwrap();
        }
        builder = builder.register(definition);
    }
    builder.build().unwrap()
}

#[tokio::test]
async fn cancelling_an_order_whose_placement_died_in_an_undo_is_refused_with_the_reason() {
    let mails = tempfile::tempdir().unwrap();
    let settings = Settings::new(Mailer::files(mails.path(), "shop@example.com").unwrap());
    let mut test = TestShop::with(mails, settings.clone()).await;
    test.shop = Shop::new(engine_with_few_undo_attempts(&test, settings));
    let test = test.start_workers();
    test.add_product("TEA-1", 10, 5).await;
    for statement in [
        "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'closed'; end $$",
        "create trigger refuse_rejection before update on shop.orders for each row
         when (new.status = 'rejected') execute function refuse()",
    ] {
        as_owner(test.pool(), statement).await.unwrap();
    }
    let short = commands::place_order(&test.shop, order(&[("TEA-1", 9)]), None, None).await.unwrap();
    assert_eq!(test.settled(PLACE_ORDER.name(), short.order_id.to_string()).await, Status::Dead);
    let refused = commands::cancel_order(&test.shop, short.order_id, "changed my mind", "ann").await;
    let Err(CancelOrderError::Refused(CancelRefusal::NotCancellable { status, message })) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(status, OrderStatus::Pending);
    assert!(
        message.contains("an operator has to retry it") && message.contains(&short.workflow_id.to_string())
    );
    test.close().await;
}

#[tokio::test]
async fn a_cancellation_with_the_business_key_of_another_order_is_not_mistaken_for_its_own() {
    let test = TestShop::open().await.start_workers();
    test.add_product("TEA-1", 10, 5).await;
    let [one, other] = [test.place(order(&[("TEA-1", 1)])).await, test.place(order(&[("TEA-1", 1)])).await];
    let wrong = CancelOrder {
        order_id: other.order_id,
        reason: "slip".into(),
        actor: "olga".into(),
        expected_version: None,
    };
    let start = CANCEL_ORDER.with(&wrong).business_key(one.order_id.to_string());
    let slip = test.shop.engine().start(start).await.unwrap();
    let refused = commands::cancel_order(&test.shop, one.order_id, "changed my mind", "ann").await;
    let Err(CancelOrderError::Refused(CancelRefusal::NotCancellable { message, .. })) = refused else {
        panic!("{refused:?}")
    };
    assert!(message.contains(&slip.saga_id.to_string()), "{message}");
    assert_eq!(test.order(one.order_id).await.status, OrderStatus::Confirmed);
    let right = CancelOrder { order_id: one.order_id, ..wrong };
    let right = test.shop.engine().start(CANCEL_ORDER.with(&right)).await.unwrap();
    test.shop.engine().wait(right.saga_id, WAIT_TIMEOUT).await.unwrap();
    assert_eq!(test.order(one.order_id).await.status, OrderStatus::Cancelled);
    test.close().await;
}
