//! Proofs of the shop's sagas: every fault at every step.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use engine::{
    Cause, Definition, NewSaga, Page, SagaFilter, Status,
    testing::{Proof, Run, make_all_due},
};
use shop::{
    mail::Mailer,
    notifications::{DELIVER_NOTIFICATION, DeliverNotification},
    orders::{CANCEL_ORDER, CancelOrder, PAYMENT_RECEIVED, PLACE_ORDER, Payment},
    returns::{PARCEL_ARRIVED, Parcel, RETURN_DECIDED, RETURN_ORDER, ReturnDecision},
    sagas::{self, Settings},
};
use sqlx::PgPool;
use tempfile::TempDir;
use uuid::Uuid;

use super::{
    QUICK, TestShop, order,
    returns::{request, shipped},
};

use crate::support::WAIT_TIMEOUT;

/// Builds the shop's definitions, once for each case.
fn definitions(mails: &TempDir) -> impl Fn() -> Vec<Definition> + Send + Sync + 'static {
    let mailer = Mailer::files(mails.path(), "shop@example.com").unwrap();
    move || sagas::definitions(Settings { send_mail_retry: QUICK, ..Settings::new(mailer.clone()) }).unwrap()
}

/// As [`definitions`]; orders wait for their payment while the flag is set.
fn placing_definitions(
    mails: &TempDir,
    waits: Arc<AtomicBool>,
) -> impl Fn() -> Vec<Definition> + Send + Sync + 'static {
    let mailer = Mailer::files(mails.path(), "shop@example.com").unwrap();
    move || {
        let payment_window = waits.load(Ordering::Relaxed).then_some(Duration::from_mins(10));
        let settings = Settings { send_mail_retry: QUICK, ..Settings::new(mailer.clone()) };
        sagas::definitions(Settings { payment_window, ..settings }).unwrap()
    }
}

/// The definitions of the version before orders could wait for their payment.
fn definitions_before_payments(mails: &TempDir) -> impl Fn() -> Vec<Definition> + Send + Sync + 'static {
    let mailer = Mailer::files(mails.path(), "shop@example.com").unwrap();
    move || {
        let settings = Settings { send_mail_retry: QUICK, ..Settings::new(mailer.clone()) };
        let mut definitions = sagas::earlier_definitions(settings.clone()).unwrap();
        let is_same = |definition: &Definition| definition.graph().name != PLACE_ORDER.name();
        definitions.extend(sagas::definitions(settings).unwrap().into_iter().filter(is_same));
        definitions
    }
}

fn placement() -> NewSaga {
    let order = order(&[("TEA-1", 2), ("CUP-1", 1), ("TEA-1", 1)]);
    let key = order.order_id.to_string();
    PLACE_ORDER.with(&order).business_key(key)
}

/// The order's status and its reserved units.
async fn order_of(run: &Run, order_id: &str) -> Result<(String, i64), String> {
    sqlx::query_as(
        "select o.status, (select coalesce(sum(r.quantity), 0)::bigint from shop.reservation r
                           where r.order_id = o.order_id and r.state = 'held')
         from shop.orders o where o.order_id = $1::uuid",
    )
    .bind(order_id)
    .fetch_one(&run.pool)
    .await
    .map_err(|error| error.to_string())
}

async fn key_of(run: &Run) -> Result<String, String> {
    sqlx::query_scalar("select coalesce(business_key, '') from engine.saga where id = $1")
        .bind(run.saga_id.0)
        .fetch_one(&run.pool)
        .await
        .map_err(|error| error.to_string())
}

/// Lets the mails that the cases started be delivered, and checks the invariants.
async fn settle_and_close(test: TestShop) {
    make_all_due(test.pool()).await.unwrap();
    for column in ["due_at", "lease_until"] {
        let sql = format!("update engine.saga set {column} = now() where {column} is not null");
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(test.pool()).await.unwrap();
    }
    let test = test.start_workers();
    for status in [Status::Running, Status::Compensating] {
        let filter = SagaFilter { status: Some(status), ..SagaFilter::default() };
        let left = test.shop.engine().sagas(&filter, Page { after: None, limit: 1000 }).await.unwrap().items;
        for saga in left {
            assert!(test.shop.engine().wait(saga.saga_id, WAIT_TIMEOUT).await.unwrap().is_some());
        }
    }
    test.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn placing_an_order_survives_every_fault() {
    let test = TestShop::open().await;
    test.add_product("TEA-1", 10, 1000).await;
    test.add_product("CUP-1", 10, 1000).await;
    let too_many = || {
        let order = order(&[("TEA-1", 5000)]);
        PLACE_ORDER.with(&order).business_key(order.order_id.to_string())
    };
    // Each case makes its starts, and then its processes.
    let waits = Arc::new(AtomicBool::new(false));
    let place = |is_waiting: bool| {
        let waits = Arc::clone(&waits);
        move || {
            waits.store(is_waiting, Ordering::Relaxed);
            placement()
        }
    };
    let payment = || PAYMENT_RECEIVED.with(&Payment { reference: "pay-17".to_owned().try_into().unwrap() });
    let definitions = placing_definitions(&test.mails, Arc::clone(&waits));
    let report = Proof::of(PLACE_ORDER.name(), test.pool().clone(), definitions, place(false))
        .also(place(true))
        .also(place(true))
        .times_out("await-payment")
        .signal(payment)
        .earlier(definitions_before_payments(&test.mails))
        .says_no("open-order", || PLACE_ORDER.with(&order(&[("NO-SUCH-SKU", 1)])))
        .says_no("reserve-stock", too_many)
        .unchanged("select sku, on_hand, reserved from shop.stock")
        .check(|run| async move {
            let (status, held) = order_of(&run, &key_of(&run).await?).await?;
            let expected = match run.final_status.status {
                Status::Completed | Status::Dead => ("confirmed", 4),
                Status::Compensated if matches!(run.final_status.cause, Some(Cause::Cancelled { .. })) => {
                    ("cancelled", 0)
                }
                Status::Compensated => ("rejected", 0),
                Status::Running | Status::Compensating => return Err("it has neither ended nor died".into()),
            };
            ((status.as_str(), held) == expected)
                .then_some(())
                .ok_or_else(|| format!("the order is {status} and holds {held}, not {expected:?}"))
        })
        .run()
        .await
        .unwrap();
    assert!(report.violations.is_empty(), "{report}");
    settle_and_close(test).await;
}

/// Confirmed orders to cancel, one for each saga.
async fn confirmed(pool: &PgPool) -> Vec<Uuid> {
    sqlx::query_scalar("select order_id from shop.orders where status = 'confirmed'")
        .fetch_all(pool)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_an_order_survives_every_fault() {
    let test = TestShop::open().await.start_workers();
    test.add_product("TEA-1", 10, 1000).await;
    futures::future::join_all((0..120).map(|_| test.place(order(&[("TEA-1", 4)])))).await;
    let orders = Arc::new(Mutex::new(confirmed(test.pool()).await));
    let test = test.stop_workers().await;
    let cancellation = move || {
        let order_id = orders.lock().unwrap().pop().unwrap();
        let input = CancelOrder {
            order_id,
            reason: "changed my mind".into(),
            actor: "ann".into(),
            expected_version: None,
        };
        CANCEL_ORDER.with(&input).business_key(order_id.to_string())
    };
    let unknown = || {
        let order_id = Uuid::nil();
        CANCEL_ORDER.with(&CancelOrder {
            order_id,
            reason: "changed my mind".into(),
            actor: "ann".into(),
            expected_version: None,
        })
    };
    let report = Proof::of(CANCEL_ORDER.name(), test.pool().clone(), definitions(&test.mails), cancellation)
        .says_no("begin-cancellation", unknown)
        .check(|run| async move {
            let (status, held) = order_of(&run, &key_of(&run).await?).await?;
            let expected = match run.final_status.status {
                Status::Completed => ("cancelled", 0),
                Status::Dead => ("cancelling", 4 * (1 - run.effects_of("release-stock"))),
                Status::Compensated | Status::Running | Status::Compensating => {
                    return Err("it can't compensate".into());
                }
            };
            ((status.as_str(), held) == expected)
                .then_some(())
                .ok_or_else(|| format!("the order is {status} and holds {held}, not {expected:?}"))
        })
        .run()
        .await
        .unwrap();
    assert!(report.violations.is_empty(), "{report}");
    settle_and_close(test).await;
}

/// A return that is decided and received by signals, since a proof sends nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn returning_an_order_survives_every_fault() {
    let test = TestShop::open().await.start_workers();
    let tea = test.add_product("TEA-1", 10, 1000).await;
    // More units than there are cases.
    let order_id = shipped(&test, &[("TEA-1", 500)]).await.order_id;
    let on_hand = test.stock(&tea).await.0;
    let test = test.stop_workers().await;
    let start = move || {
        let request = request(order_id, &[("TEA-1", 1)]);
        RETURN_ORDER.with(&request).business_key(request.return_id.to_string())
    };
    let decided = || RETURN_DECIDED.with(&ReturnDecision { approved: true, reason: None });
    let parcel = || PARCEL_ARRIVED.with(&Parcel { items: Vec::new(), reason: None });
    let report = Proof::of(RETURN_ORDER.name(), test.pool().clone(), definitions(&test.mails), start)
        .signal(decided)
        .signal(parcel)
        .unchanged("select sku, on_hand, reserved from shop.stock")
        .says_no("open-return", move || RETURN_ORDER.with(&request(order_id, &[("POT-1", 1)])))
        .check(|run| async move {
            let (status, restocked): (String, Option<i64>) = sqlx::query_as(
                "select r.status, l.restocked from shop.order_return r join shop.return_line l using (return_id)
                 where r.workflow_id = $1",
            )
            .bind(run.saga_id.0)
            .fetch_one(&run.pool)
            .await
            .map_err(|error| error.to_string())?;
            match (run.final_status.status, status.as_str(), restocked) {
                (Status::Completed, "completed", Some(1))
                | (Status::Completed, "expired", None)
                | (Status::Compensated, "cancelled" | "expired", None)
                | (Status::Dead, "received", Some(1))
                | (Status::Dead, "approved", None) => Ok(()),
                other => Err(format!("the return is {other:?}")),
            }
        })
        .run()
        .await
        .unwrap();
    assert!(report.violations.is_empty(), "{report}");
    let restocked: i64 = sqlx::query_scalar(
        "select coalesce(sum(l.restocked), 0)::bigint from shop.order_return r join shop.return_line l using (return_id)
         where r.status = 'completed'",
    )
    .fetch_one(test.pool())
    .await
    .unwrap();
    assert!(restocked > 5, "{restocked}");
    assert_eq!(test.stock(&tea).await.0, on_hand + restocked);
    settle_and_close(test).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delivering_a_notification_survives_every_fault() {
    let test = TestShop::open().await;
    let mail = || DeliverNotification {
        to: "ann@example.com".into(),
        subject: "Hello".into(),
        text: "Hello.\n".into(),
        html: None,
    };
    let report =
        Proof::of(DELIVER_NOTIFICATION.name(), test.pool().clone(), definitions(&test.mails), move || {
            DELIVER_NOTIFICATION.with(&mail())
        })
        .says_no("store-notification", move || {
            DELIVER_NOTIFICATION.with(&DeliverNotification { to: "nobody".into(), ..mail() })
        })
        .check(|run| async move {
            let status: String =
                sqlx::query_scalar("select status from shop.notification where notification_id = $1")
                    .bind(run.saga_id.0)
                    .fetch_one(&run.pool)
                    .await
                    .map_err(|error| error.to_string())?;
            let expected = match run.final_status.status {
                Status::Completed => "sent",
                Status::Dead => "failed",
                Status::Compensated => "cancelled",
                Status::Running | Status::Compensating => return Err("it has neither ended nor died".into()),
            };
            (status == expected)
                .then_some(())
                .ok_or_else(|| format!("the notification is {status}, not {expected}"))
        })
        .run()
        .await
        .unwrap();
    assert!(report.violations.is_empty(), "{report}");
    settle_and_close(test).await;
}
