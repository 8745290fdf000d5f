//! Dead placements that hold stock: however they are given up, the stock is released.

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
    expiry::{engine_with_many_attempts, refuse_confirmations},
    order, violations,
};

use crate::support::{WAIT_TIMEOUT, as_owner};

/// A test with an order whose placement is dead before its pivot, and has reserved four of five units.
async fn dead_placement() -> (TestShop, Product, Order) {
    let mails = tempfile::tempdir().unwrap();
    let mailer = Mailer::files(mails.path(), "shop@example.com").unwrap();
    let settings = Settings { send_mail_retry: QUICK, ..Settings::new(mailer) };
    let mut test = TestShop::with(mails, settings.clone()).await;
    test.shop = Shop::new(engine_with_many_attempts(&test, settings));
    let tea = test.add_product("TEA-1", 10, 5).await;
    refuse_confirmations(test.pool()).await;
    let test = test.start_workers();
    let placed = commands::place_order(&test.shop, order(&[("TEA-1", 4)]), None, None).await.unwrap();
    let dead = async {
        loop {
            // As if the processes that run this step had vanished repeatedly.
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
    let ending = tokio::time::timeout(WAIT_TIMEOUT, dead).await.expect("it dies");
    assert_eq!(ending.status, Status::Dead);
    assert_eq!(test.stock(&tea).await, (5, 4));
    (test, tea, placed)
}

async fn dead_job(test: &TestShop) -> DeadJob {
    let page = Page { after: None, limit: 10 };
    test.shop.engine().dead_jobs(&DeadJobFilter::default(), page).await.unwrap().items.remove(0)
}

async fn compensated(test: &TestShop, placed: &Order) -> Order {
    let ending = test.shop.engine().wait(SagaId(placed.workflow_id), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Compensated);
    test.order(placed.order_id).await
}

#[tokio::test]
async fn discarding_a_dead_placement_releases_its_stock_and_notifies_the_customer() {
    let (test, tea, placed) = dead_placement().await;
    let job = dead_job(&test).await;
    let bulk = BulkLimits { max_jobs: 10, time_limit: WAIT_TIMEOUT };
    let engine = test.shop.engine();
    let all = DeadJobFilter::default();
    let done = engine.discard_dead_jobs(&all, bulk, DiscardMode::Safe, "olga", "a fraud").await.unwrap();
    assert_eq!((&done.done, &done.compensating), (&vec![job.dead_job_id], &vec![job.dead_job_id]));
    let ended = compensated(&test, &placed).await;
    assert_eq!((ended.status, test.stock(&tea).await), (OrderStatus::Cancelled, (5, 0)));
    let key = format!("order-cancelled:{}", placed.order_id);
    assert_eq!(test.settled(DELIVER_NOTIFICATION.name(), key).await, Status::Completed);
    let mail = &test.mails()[0];
    assert!(mail.contains("technical reasons") && !mail.contains("fraud"), "{mail}");
    test.close().await;
}

#[tokio::test]
async fn a_dead_placement_compensates_when_its_reservation_or_its_dead_job_expires() {
    for (column, table, status) in
        [("deadline_at", "saga", OrderStatus::Rejected), ("expires_at", "dead_job", OrderStatus::Cancelled)]
    {
        let (test, tea, placed) = dead_placement().await;
        let sql = format!("update engine.{table} set {column} = now()");
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(test.pool()).await.unwrap();
        let engine = test.shop.engine();
        let ended = engine.compensate_overdue(10).await.unwrap() + engine.expire_dead_jobs(10).await.unwrap();
        assert_eq!(ended, 1, "{column}");
        let ended = compensated(&test, &placed).await;
        assert_eq!((ended.status, test.stock(&tea).await), (status, (5, 0)), "{column}");
        test.close().await;
    }
}

#[tokio::test]
async fn a_placement_that_died_in_an_undo_waits_for_an_operator_and_abandoning_it_is_recorded() {
    let (test, tea, placed) = dead_placement().await;
    let refuse = "create trigger refuse_release before update on shop.reservation for each row
                  when (new.state = 'released') execute function pg_temp_refuse()";
    as_owner(test.pool(), refuse).await.unwrap();
    let first = dead_job(&test).await;
    let engine = test.shop.engine();
    engine.discard_dead_job(first.dead_job_id, DiscardMode::Safe, "olga", "old").await.unwrap();
    let dead = async {
        loop {
            engine::testing::make_all_due(test.pool()).await.unwrap();
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
    assert_eq!(violations(test.pool()).await, [], "the dead job is open");

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
