//! Returns and payments under attack: races, signals by hand, dead jobs, and what is deleted after its time.

use std::time::Duration;

use engine::{DeadJobFilter, DiscardMode, Page, Retention, SagaId, Signal, Status, testing::end_waits};
use serde_json::{Value, json};
use shop::{
    ChangeError, commands,
    notifications::DELIVER_NOTIFICATION,
    orders::{OrderStatus, PAYMENT_RECEIVED, PLACE_ORDER, Payment},
    pruning::{Prunable, Pruner, ShopRetention},
    returns::{self, OrderReturn, RETURN_ORDER, ReturnStatus},
    sagas::Settings,
};
use uuid::Uuid;

use super::{
    QUICK, TestShop, order,
    payments::waiting_shop,
    returns::{approved, ended, request, requested, shipped},
    violations,
};

use crate::support::WAIT_TIMEOUT;

/// Everything that has ended is over its time.
const MOMENT: Duration = Duration::from_millis(1);

async fn send(test: &TestShop, saga: Uuid, name: &str, message: &Value) -> Result<(), String> {
    let sent = test.shop.engine().signal(SagaId(saga), Signal::untyped(name, message)).await;
    sent.map(drop).map_err(|error| error.to_string())
}

async fn open_shop() -> TestShop {
    let test = TestShop::open().await.start_workers();
    test.add_product("TEA-1", 10, 100).await;
    test
}

/// Deletes until a query counts nothing any more.
async fn pruned(test: &TestShop, what: Prunable, left: &'static str) {
    let keep = ShopRetention { notification_texts: Some(MOMENT), reservations: Some(MOMENT) };
    let pruner = Pruner::new(test.shop.engine().clone(), keep);
    let gone = async {
        while sqlx::query_scalar::<_, i64>(left).fetch_one(test.pool()).await.unwrap() > 0 {
            pruner.prune(what).await.unwrap();
            sqlx::query("update engine.pruning set after_id = '00000000-0000-0000-0000-000000000000'")
                .execute(test.pool())
                .await
                .unwrap();
            sqlx::query("update shop.pruning set reached = null").execute(test.pool()).await.unwrap();
        }
    };
    tokio::time::timeout(WAIT_TIMEOUT, gone).await.expect("it is deleted");
}

#[tokio::test]
async fn an_order_that_is_returned_after_its_reservations_were_deleted_is_no_violation() {
    let test = open_shop().await;
    let order = shipped(&test, &[("TEA-1", 2)]).await;
    commands::set_order_status(&test.shop, order.order_id, OrderStatus::Delivered, None, "ann", None)
        .await
        .unwrap();
    let found = approved(&test, order.order_id, &[]).await;
    pruned(&test, Prunable::Reservations, "select count(*) from shop.reservation where state <> 'held'")
        .await;
    assert_eq!(violations(test.pool()).await, []);
    commands::receive_return(&test.shop, found.return_id, &[], None, "cy", None).await.unwrap();
    assert_eq!(ended(&test, &found).await.1.status, ReturnStatus::Completed);
    test.close().await;
}

#[tokio::test]
async fn a_closed_return_stays_without_violation_when_all_that_is_old_was_deleted() {
    let mails = tempfile::tempdir().unwrap();
    let mailer = shop::mail::Mailer::files(mails.path(), "shop@example.com").unwrap();
    let settings = Settings { send_mail_retry: QUICK, ..Settings::new(mailer) };
    let retention = Retention::of(MOMENT).keep_keys(MOMENT);
    let test = TestShop::keeping(mails, settings, retention).await.start_workers();
    test.add_product("TEA-1", 10, 100).await;
    let order = shipped(&test, &[("TEA-1", 2)]).await;
    let rejected = requested(&test, order.order_id, &[]).await;
    commands::reject_return(&test.shop, rejected.return_id, "worn", "bob", None).await.unwrap();
    ended(&test, &rejected).await;
    let found = approved(&test, order.order_id, &[]).await;
    commands::receive_return(&test.shop, found.return_id, &[], None, "cy", None).await.unwrap();
    ended(&test, &found).await;
    for key in [
        format!("order-confirmed:{}", order.order_id),
        format!("order-shipped:{}", order.order_id),
        format!("return-closed:{}", rejected.return_id),
        format!("return-approved:{}", found.return_id),
        format!("return-received:{}", found.return_id),
    ] {
        test.settled(DELIVER_NOTIFICATION.name(), key).await;
    }
    pruned(&test, Prunable::Sagas, "select count(*) from engine.saga").await;
    pruned(&test, Prunable::BusinessKeys, "select count(*) from engine.business_key").await;
    pruned(&test, Prunable::Reservations, "select count(*) from shop.reservation where state <> 'held'")
        .await;
    let late = commands::receive_return(&test.shop, found.return_id, &[], None, "cy", None).await;
    assert!(matches!(late, Err(ChangeError::Refused(_))), "{late:?}");
    let again = commands::reject_return(&test.shop, rejected.return_id, "worn", "bob", None).await.unwrap();
    assert_eq!(again.status, ReturnStatus::Rejected);
    test.close().await;
}

async fn rejected_by_hand(reason: &str) {
    let test = open_shop().await;
    let order = shipped(&test, &[("TEA-1", 2)]).await;
    let found = requested(&test, order.order_id, &[]).await;
    let message = json!({"approved": false, "reason": reason});
    let refused = send(&test, found.workflow_id, "return-decided", &message).await.unwrap_err();
    assert!(refused.contains("the message does not fit at `/reason`"), "{refused}");
    test.close().await;
}

#[tokio::test]
async fn a_rejection_by_hand_in_two_lines_is_refused() {
    rejected_by_hand("it was worn\nand it smelled").await;
}

#[tokio::test]
async fn a_long_rejection_by_hand_is_refused() {
    rejected_by_hand(&"x".repeat(3000)).await;
}

#[tokio::test]
async fn a_rejection_by_hand_with_control_characters_is_refused() {
    rejected_by_hand("it was worn\u{1b}[2J").await;
}

#[tokio::test]
async fn a_rejection_by_hand_that_turns_the_direction_of_its_text_is_refused() {
    rejected_by_hand("it was worn \u{202e}EUR 0.01").await;
}

#[tokio::test]
async fn nobody_can_decide_by_hand_in_anothers_name() {
    let test = open_shop().await;
    let order = shipped(&test, &[("TEA-1", 2)]).await;
    let found = requested(&test, order.order_id, &[]).await;
    for (name, message) in [
        ("return-decided", json!({"approved": true, "actor": "the managing director"})),
        ("parcel-arrived", json!({"actor": "the managing director"})),
    ] {
        let refused = send(&test, found.workflow_id, name, &message).await.unwrap_err();
        assert!(refused.contains("unknown field `actor`"), "{refused}");
    }
    test.close().await;
}

#[tokio::test]
async fn a_return_whose_dead_job_is_discarded_holds_its_units_not_for_ever() {
    let test = open_shop().await;
    let order = shipped(&test, &[("TEA-1", 2)]).await;
    let found = approved(&test, order.order_id, &[]).await;
    test.waits_at(found.workflow_id, "await-parcel").await;
    let wrong = json!({"items": [{"sku": "POT-1", "quantity": 1}]});
    send(&test, found.workflow_id, "parcel-arrived", &wrong).await.unwrap();
    assert_eq!(ended(&test, &found).await.0, Status::Dead);
    let engine = test.shop.engine();
    let page = Page { after: None, limit: 5 };
    let job = engine.dead_jobs(&DeadJobFilter::default(), page).await.unwrap().items.remove(0);
    engine.discard_dead_job(job.dead_job_id, DiscardMode::Safe, "ops", "a typing error").await.unwrap();
    let late = commands::receive_return(&test.shop, found.return_id, &[], None, "cy", None).await;
    let again = commands::request_return(&test.shop, request(order.order_id, &[]), "ann", None).await;
    assert!(late.is_ok() || again.is_ok(), "the units come back in no way: {late:?}, {again:?}");
    test.close().await;
}

#[tokio::test]
async fn a_return_whose_dead_job_has_expired_holds_its_units_not_for_ever() {
    let test = open_shop().await;
    let order = shipped(&test, &[("TEA-1", 2)]).await;
    let found = approved(&test, order.order_id, &[]).await;
    test.waits_at(found.workflow_id, "await-parcel").await;
    let wrong = json!({"items": [{"sku": "POT-1", "quantity": 1}]});
    send(&test, found.workflow_id, "parcel-arrived", &wrong).await.unwrap();
    assert_eq!(ended(&test, &found).await.0, Status::Dead);
    // The parcel was counted, but nobody has retried the job.
    commands::receive_return(&test.shop, found.return_id, &[], None, "cy", None).await.unwrap();
    sqlx::query("update engine.dead_job set expires_at = now()").execute(test.pool()).await.unwrap();
    test.shop.engine().expire_dead_jobs(10).await.unwrap();
    let (_, done) = ended(&test, &found).await;
    assert_eq!(done.status, ReturnStatus::Completed, "the units are here and not in stock");
    test.close().await;
}

#[tokio::test]
async fn an_order_that_costs_nothing_waits_for_no_payment() {
    let test = waiting_shop().await.start_workers();
    test.add_product("TEA-1", 0, 5).await;
    let placed = commands::place_order(&test.shop, order(&[("TEA-1", 4)]), None, None).await.unwrap();
    let settled = test.shop.engine().wait(SagaId(placed.workflow_id), Duration::from_secs(5)).await.unwrap();
    let placed = test.order(placed.order_id).await;
    assert!(settled.is_some(), "it waits for nothing: {placed:?}");
    test.close().await;
}

async fn deadlocks(test: &TestShop) -> i64 {
    sqlx::query_scalar("select deadlocks from pg_stat_database where datname = current_database()")
        .fetch_one(test.pool())
        .await
        .unwrap()
}

/// Everything that can be done to a return at once, again and again, on few products and orders.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn returns_that_are_decided_received_and_cancelled_at_once_lose_no_unit() {
    let test = TestShop::open().await.start_workers();
    let (tea, cup) = (test.add_product("TEA-1", 10, 200).await, test.add_product("CUP-1", 10, 200).await);
    let mut orders = Vec::new();
    for _ in 0..8 {
        orders.push(shipped(&test, &[("TEA-1", 3), ("CUP-1", 2)]).await.order_id);
    }
    let shop = &test.shop;
    let lives = orders.iter().flat_map(|&order_id| (0..8_usize).map(move |nth| (order_id, nth))).map(
        async |(order_id, nth)| {
            let items: &[(&str, i64)] =
                if nth % 2 == 0 { &[("TEA-1", 1), ("CUP-1", 1)] } else { &[("TEA-1", 1)] };
            let Ok(found) = commands::request_return(shop, request(order_id, items), "ann", None).await
            else {
                return Vec::new();
            };
            let id = found.return_id;
            let mut answers = Vec::new();
            let mut note = |name: &str, answer: Result<OrderReturn, commands::ReturnError>| match answer {
                Ok(_) | Err(ChangeError::Refused(_)) => {}
                Err(error) => answers.push(format!("{name}: {error:?}")),
            };
            let (yes, no, ()) = tokio::join!(
                commands::approve_return(shop, id, None, "bob", None),
                async {
                    match nth % 4 {
                        3 => Some(commands::reject_return(shop, id, "no", "bob", None).await),
                        _ => None,
                    }
                },
                async {
                    if nth == 5 {
                        let _ = shop.engine().skip_wait(SagaId(found.workflow_id), "ops", "now").await;
                    }
                }
            );
            note("approve", yes);
            if let Some(no) = no {
                note("reject", no);
            }
            let (first, second, (), _) = tokio::join!(
                commands::receive_return(shop, id, &[], None, "cy", None),
                commands::receive_return(shop, id, &[], None, "dee", None),
                async {
                    if nth % 3 == 0 {
                        let _ = shop.engine().cancel(SagaId(found.workflow_id), "ann", "kept").await;
                    }
                },
                commands::set_order_status(shop, order_id, OrderStatus::Delivered, None, "ann", None),
            );
            assert!(first.is_err() || second.is_err(), "a parcel was received twice");
            note("receive", first);
            note("receive", second);
            let ending = shop.engine().wait(SagaId(found.workflow_id), WAIT_TIMEOUT).await.unwrap();
            if ending.is_none() {
                answers.push(format!("{id} does not end"));
            }
            answers
        },
    );
    let answers: Vec<String> = futures::future::join_all(lives).await.into_iter().flatten().collect();
    assert_eq!(answers, Vec::<String>::new());
    // What is left comes back in one more return of each order, all in one batch.
    for &order_id in &orders {
        if let Ok(found) = commands::request_return(shop, request(order_id, &[]), "ann", None).await {
            commands::approve_return(shop, found.return_id, None, "bob", None).await.unwrap();
            commands::receive_return(shop, found.return_id, &[], None, "cy", None).await.unwrap();
            ended(&test, &found).await;
        }
    }
    for order_id in orders {
        assert_eq!(test.order(order_id).await.status, OrderStatus::Returned);
    }
    assert_eq!((test.stock(&tea).await, test.stock(&cup).await), ((200, 0), (200, 0)));
    assert_eq!(deadlocks(&test).await, 0);
    test.close().await;
}

/// Two payments, a cancel and the end of the time, in one moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn payments_that_cross_a_cancel_and_the_end_of_the_time_leave_one_end() {
    let test = waiting_shop().await.start_workers();
    let tea = test.add_product("TEA-1", 10, 100).await;
    let mut orders = Vec::new();
    for _ in 0..24 {
        orders.push(commands::place_order(&test.shop, order(&[("TEA-1", 2)]), None, None).await.unwrap());
    }
    let (shop, pool) = (&test.shop, test.pool());
    let lives = orders.iter().enumerate().map(async |(nth, placed)| {
        let pay = async |reference: &str| {
            let payment = Payment { reference: reference.to_owned().try_into().unwrap() };
            let target = engine::SignalTarget::key(PLACE_ORDER.name(), placed.order_id.to_string());
            shop.engine().signal(target, PAYMENT_RECEIVED.with(&payment).key(reference)).await.is_ok()
        };
        let _ = tokio::join!(
            pay("pay-1"),
            async { if nth % 2 == 0 { pay("pay-2").await } else { false } },
            async {
                if nth % 3 == 0 {
                    commands::cancel_order(shop, placed.order_id, "dear", "ann").await.is_ok()
                } else {
                    false
                }
            },
            async {
                if nth % 4 == 0 {
                    end_waits(pool).await.unwrap();
                }
            },
        );
        shop.engine().wait(SagaId(placed.workflow_id), WAIT_TIMEOUT).await.unwrap().expect("it ends").status
    });
    let ends = futures::future::join_all(lives).await;
    let mut confirmed = 0;
    for (placed, end) in orders.iter().zip(ends) {
        let mut now = test.order(placed.order_id).await;
        if now.status == OrderStatus::Cancelling {
            test.settled("cancel-order", placed.order_id.to_string()).await;
            now = test.order(placed.order_id).await;
        }
        let expected: &[_] = match end {
            Status::Completed => &[OrderStatus::Confirmed, OrderStatus::Cancelled],
            _ => &[OrderStatus::Rejected, OrderStatus::Cancelled],
        };
        assert!(expected.contains(&now.status), "{end}: {now:?}");
        confirmed += i64::from(now.status == OrderStatus::Confirmed);
    }
    assert_eq!(test.stock(&tea).await, (100, 2 * confirmed));
    test.close().await;
}

/// A parcel that was signalled by hand before the decision is taken when the return is approved.
#[tokio::test]
async fn a_parcel_that_is_signalled_before_the_decision_is_kept_for_it() {
    let test = open_shop().await;
    let order = shipped(&test, &[("TEA-1", 2)]).await;
    let found = requested(&test, order.order_id, &[]).await;
    send(&test, found.workflow_id, "parcel-arrived", &json!({})).await.unwrap();
    let early = returns::get(test.pool(), found.return_id).await.unwrap().unwrap();
    assert_eq!(early.status, ReturnStatus::Requested);
    commands::approve_return(&test.shop, found.return_id, None, "bob", None).await.unwrap();
    let (status, done) = ended(&test, &found).await;
    assert_eq!((status, done.status), (Status::Completed, ReturnStatus::Completed));
    assert_eq!(test.settled(RETURN_ORDER.name(), found.return_id.to_string()).await, Status::Completed);
    test.close().await;
}
