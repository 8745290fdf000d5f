//! Placements that are parked with stock in hand: however they are given up, the stock comes back.

use engine::{BulkLimits, DeadJob, DeadJobError, DeadJobFilter, DiscardMode, Page, SagaId, Status};
use shop::{
    Shop,
    commands::{self, CancelOrderError, CancelRefusal},
    inventory::Product,
    mail::Mailer,
    notifications::DELIVER_NOTIFICATION,
    orders::{Order, OrderStatus},
    sagas::Settings,
};

use super::{
    QUICK, TestShop,
    expiry::{refuse_confirmations, stubborn},
    order, violations,
};

use crate::support::WAIT_TIMEOUT;

/// A test with an order whose placement is dead before its pivot, and holds four of the five that there are.
async fn parked() -> (TestShop, Product, Order) {
    let mails = tempfile::tempdir().unwrap();
    let mailer = Mailer::files(mails.path(), "shop@example.com").unwrap();
    let settings = Settings { send_mail_retry: QUICK, ..Settings::new(mailer) };
    let mut test = TestShop::with(mails, settings.clone()).await;
    test.shop = Shop::new(stubborn(&test, settings));
    let tea = test.add_product("TEA-1", 10, 5).await;
    refuse_confirmations(test.pool()).await;
    let test = test.start_workers();
    let placed = commands::place_order(&test.shop, order(&[("TEA-1", 4)]), None, "test", None).await.unwrap();
    let dead = async {
        loop {
            // As if the processes that try to confirm it had vanished, again and again.
            sqlx::query(
                "update engine.saga set lost_attempts = 5, due_at = now()
                 where id = $1 and step = 'confirm-order' and lease_owner is null and status = 'running'",
            )
            .bind(placed.workflow_id)
            .execute(test.pool())
            .await
            .unwrap();
            let rested = test
                .shop
                .engine()
                .wait(SagaId(placed.workflow_id), std::time::Duration::from_millis(100))
                .await;
            if let Some(ending) = rested.unwrap() {
                break ending;
            }
        }
    };
    let ending = tokio::time::timeout(WAIT_TIMEOUT, dead).await.expect("it is parked");
    assert_eq!(ending.status, Status::Dead);
    assert_eq!(test.stock(&tea).await, (5, 4));
    (test, tea, placed)
}

async fn dead_job(test: &TestShop) -> DeadJob {
    let page = Page { after: None, limit: 10 };
    test.shop.engine().dead_jobs(&DeadJobFilter::default(), page).await.unwrap().remove(0)
}

async fn unwound(test: &TestShop, placed: &Order) -> Order {
    let ending = test.shop.engine().wait(SagaId(placed.workflow_id), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Compensated);
    test.order(placed.order_id).await
}

#[tokio::test]
async fn a_parked_placement_that_is_discarded_gives_its_stock_back_and_the_customer_is_told() {
    let (test, tea, placed) = parked().await;
    let job = dead_job(&test).await;
    let bulk = BulkLimits { max_jobs: 10, time_limit: WAIT_TIMEOUT };
    let engine = test.shop.engine();
    let all = DeadJobFilter::default();
    let done = engine.discard_dead_jobs(&all, bulk, DiscardMode::Safe, "olga", "a fraud").await.unwrap();
    assert_eq!((&done.done, &done.compensating), (&vec![job.dead_job_id], &vec![job.dead_job_id]));
    let ended = unwound(&test, &placed).await;
    assert_eq!((ended.status, test.stock(&tea).await), (OrderStatus::Cancelled, (5, 0)));
    let key = format!("order-cancelled:{}", placed.order_id);
    assert_eq!(test.settled(DELIVER_NOTIFICATION.name(), key).await, Status::Completed);
    let mail = &test.mails()[0];
    assert!(mail.contains("technical reasons") && !mail.contains("fraud"), "{mail}");
    test.close().await;
}

#[tokio::test]
async fn a_parked_placement_unwinds_when_its_reservation_or_its_dead_job_expires() {
    for (column, table, status) in
        [("deadline_at", "saga", OrderStatus::Rejected), ("expires_at", "dead_job", OrderStatus::Cancelled)]
    {
        let (test, tea, placed) = parked().await;
        let sql = format!("update engine.{table} set {column} = now()");
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(test.pool()).await.unwrap();
        let engine = test.shop.engine();
        let ended = engine.compensate_overdue(10).await.unwrap() + engine.expire_dead_jobs(10).await.unwrap();
        assert_eq!(ended, 1, "{column}");
        let ended = unwound(&test, &placed).await;
        assert_eq!((ended.status, test.stock(&tea).await), (status, (5, 0)), "{column}");
        test.close().await;
    }
}

#[tokio::test]
async fn a_placement_that_died_unwinding_is_kept_for_a_person_and_abandoning_it_does_not_go_unnoticed() {
    let (test, tea, placed) = parked().await;
    sqlx::query(
        "create trigger refuse_release before update on shop.reservation for each row
         when (new.state = 'released') execute function pg_temp_refuse()",
    )
    .execute(test.pool())
    .await
    .unwrap();
    let first = dead_job(&test).await;
    let engine = test.shop.engine();
    engine.discard_dead_job(first.dead_job_id, DiscardMode::Safe, "olga", "old").await.unwrap();
    let dead = async {
        loop {
            engine::testing::skip_waiting(test.pool(), None).await.unwrap();
            let ending =
                engine.wait(SagaId(placed.workflow_id), std::time::Duration::from_millis(100)).await.unwrap();
            if ending.is_some_and(|ending| ending.status == Status::Dead) {
                break;
            }
        }
    };
    tokio::time::timeout(WAIT_TIMEOUT, dead).await.expect("its undo is out of attempts");
    let job = dead_job(&test).await;
    assert_eq!((job.step.as_str(), job.expires_at), ("reserve-stock", None));
    let refused = engine.discard_dead_job(job.dead_job_id, DiscardMode::Safe, "olga", "old").await;
    let Err(error @ DeadJobError::NotUndone { .. }) = refused else { panic!("{refused:?}") };
    assert!(error.to_string().contains("`open-order`, `reserve-stock`"), "{error}");
    assert_eq!(violations(test.pool()).await, [], "it waits for a person, who can be told");

    engine.discard_dead_job(job.dead_job_id, DiscardMode::Force, "olga", "by hand").await.unwrap();
    assert_eq!(test.stock(&tea).await, (5, 4));
    let noticed: Vec<u8> = violations(test.pool()).await.iter().map(|verdict| verdict.number).collect();
    assert_eq!(noticed, [2], "no saga moves its order any more");
    let cancelled = commands::cancel_order(&test.shop, placed.order_id, "no", "ann").await;
    assert!(
        matches!(&cancelled, Err(CancelOrderError::Refused(CancelRefusal::NotCancellable { message, .. })) if message.contains("given up")),
        "{cancelled:?}"
    );
    let test = test.stop_workers().await;
    test.shop.engine().shutdown().await;
}
