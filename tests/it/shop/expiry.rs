//! Orders that are not confirmed in time.

use std::time::Duration;

use engine::{Direction, Engine, Page, RetryPolicy, SagaFilter, Status};
use shop::{
    Shop, commands,
    mail::Mailer,
    notifications::DELIVER_NOTIFICATION,
    orders::{OrderStatus, PLACE_ORDER},
    sagas::{self, Settings},
};

use super::{QUICK, STEP_TIMEOUT, TestShop, order};

use crate::support::{WAIT_TIMEOUT, as_owner};

/// An engine that keeps trying to confirm.
pub(super) fn engine_with_many_attempts(test: &TestShop, settings: Settings) -> Engine {
    let many_attempts = RetryPolicy {
        first_delay: Duration::from_millis(20),
        factor: 1.0,
        max_delay: Duration::from_millis(50),
        attempts: 10_000,
        timeout: STEP_TIMEOUT,
        max_postponed: RetryPolicy::MAX_POSTPONED,
    };
    let mut builder = Engine::builder(test.pool().clone());
    for mut definition in sagas::definitions(settings).unwrap() {
        if definition.graph().name == PLACE_ORDER.name() {
            definition.set_policy("confirm-order", Direction::Action, many_attempts).unwrap();
        }
        builder = builder.register(definition);
    }
    builder.build().unwrap()
}

/// Makes the database refuse every confirmation, so that the placement keeps its reserved stock.
pub(super) async fn refuse_confirmations(pool: &sqlx::PgPool) {
    for statement in [
        "create function pg_temp_refuse() returns trigger language plpgsql as
         $$ begin raise exception 'the warehouse is closed'; end $$",
        "create trigger refuse_confirmation before update on shop.orders for each row
         when (new.status = 'confirmed') execute function pg_temp_refuse()",
    ] {
        as_owner(pool, statement).await.unwrap();
    }
}

#[tokio::test]
async fn an_expired_reservation_is_released_and_the_customer_is_notified() {
    let mails = tempfile::tempdir().unwrap();
    let mailer = Mailer::files(mails.path(), "shop@example.com").unwrap();
    let settings = Settings { send_mail_retry: QUICK, ..Settings::new(mailer) };
    let mut test = TestShop::with(mails, settings.clone()).await;
    test.shop = Shop::new(engine_with_many_attempts(&test, settings));
    let tea = test.add_product("TEA-1", 10, 5).await;
    refuse_confirmations(test.pool()).await;
    let test = test.start_workers();
    let placed = commands::place_order(&test.shop, order(&[("TEA-1", 4)]), None, None).await.unwrap();
    let held = async {
        while test.stock(&tea).await != (5, 4) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WAIT_TIMEOUT, held).await.expect("its stock is reserved before it is confirmed");
    assert_eq!(test.order(placed.order_id).await.status, OrderStatus::Pending);
    // The deadline of the reservation passes.
    sqlx::query("update engine.saga set deadline_at = now() where id = $1 and deadline_at > now()")
        .bind(placed.workflow_id)
        .execute(test.pool())
        .await
        .unwrap();

    assert_eq!(test.settled(PLACE_ORDER.name(), placed.order_id.to_string()).await, Status::Compensated);
    let ended = test.order(placed.order_id).await;
    assert_eq!(
        (ended.status, ended.status_reason.as_deref()),
        (OrderStatus::Rejected, Some("reservation expired"))
    );
    assert_eq!(test.stock(&tea).await, (5, 0));
    assert_eq!(test.events("inventory.released").await, 1);
    let key = format!("order-rejected:{}", placed.order_id);
    assert_eq!(test.settled(DELIVER_NOTIFICATION.name(), key).await, Status::Completed);
    assert!(test.mails()[0].contains("reservation expired"), "{}", test.mails()[0]);
    // The released stock can be ordered again, once confirmations succeed.
    as_owner(test.pool(), "drop trigger refuse_confirmation on shop.orders").await.unwrap();
    assert_eq!(test.place(order(&[("TEA-1", 5)])).await.status, OrderStatus::Confirmed);
    test.close().await;
}

#[tokio::test]
async fn an_order_that_no_worker_ran_before_its_deadline_is_rejected_later() {
    let mails = tempfile::tempdir().unwrap();
    let mailer = Mailer::files(mails.path(), "shop@example.com").unwrap();
    let settings = Settings { reservation_ttl: Duration::from_millis(1), ..Settings::new(mailer) };
    let test = TestShop::with(mails, settings).await;
    let tea = test.add_product("TEA-1", 10, 5).await;
    let placed = commands::place_order(&test.shop, order(&[("TEA-1", 4)]), None, None).await.unwrap();
    let passed = async {
        let filter = SagaFilter { definition: Some(PLACE_ORDER.name().into()), ..SagaFilter::default() };
        loop {
            let sagas =
                test.shop.engine().sagas(&filter, Page { after: None, limit: 1 }).await.unwrap().items;
            let now = test.shop.engine().now().await.unwrap();
            if sagas[0].deadline_at.is_some_and(|deadline| deadline < now) {
                break;
            }
        }
    };
    passed.await;
    let test = test.start_workers();
    assert_eq!(test.settled(PLACE_ORDER.name(), placed.order_id.to_string()).await, Status::Compensated);
    let ended = test.order(placed.order_id).await;
    assert_eq!(
        (ended.status, ended.status_reason.as_deref()),
        (OrderStatus::Rejected, Some("reservation expired"))
    );
    assert_eq!(test.stock(&tea).await, (5, 0));
    test.close().await;
}
