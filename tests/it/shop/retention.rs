//! What has ended is deleted after its time, and the shop's own records stay whole and readable.

use std::time::Duration;

use engine::{Retention, SagaId, StartError};
use shop::{
    commands::{self, AcceptedNotification, PlaceOrderError, SendNotification},
    invariants::{self, Extent, SurveyOptions},
    notifications::{self, DELIVER_NOTIFICATION, DeliverNotification, NotificationStatus},
    orders::OrderStatus,
    pruning::{Prunable, Pruner, ShopRetention},
    sagas::Settings,
};
use strum::IntoEnumIterator;
use uuid::Uuid;

use super::{QUICK, TestShop, order, violations};
use crate::support::{WAIT_TIMEOUT, as_owner};

/// Everything that has ended is over its time.
const MOMENT: Duration = Duration::from_millis(1);
const YEAR: Duration = Duration::from_hours(24 * 365);

/// A shop whose sagas are over their time at once, and their business keys after this time.
async fn forgetful(keys: Duration) -> TestShop {
    let mails = tempfile::tempdir().unwrap();
    let mailer = shop::mail::Mailer::files(mails.path(), "shop@example.com").unwrap();
    let settings = Settings { send_mail_retry: QUICK, ..Settings::new(mailer) };
    TestShop::keeping(mails, settings, Retention::of(MOMENT).keep_keys(keys)).await.start_workers()
}

fn pruner(test: &TestShop) -> Pruner {
    let keep = ShopRetention { notification_texts: Some(MOMENT), reservations: Some(MOMENT) };
    Pruner::new(test.shop.engine().clone(), keep)
}

impl TestShop {
    async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(self.pool()).await.unwrap()
    }

    /// Deletes until a query counts nothing any more. What ended in the same millisecond is over its time in the next.
    async fn pruned(&self, what: Prunable, left: &'static str) {
        let pruner = pruner(self);
        let gone = async {
            while self.count(left).await > 0 {
                pruner.prune(what).await.unwrap();
                sqlx::query("update engine.pruning set after_id = '00000000-0000-0000-0000-000000000000'")
                    .execute(self.pool())
                    .await
                    .unwrap();
                sqlx::query("update shop.pruning set reached = null").execute(self.pool()).await.unwrap();
            }
        };
        tokio::time::timeout(WAIT_TIMEOUT, gone)
            .await
            .unwrap_or_else(|_| panic!("{what:?} are left: {left}"));
    }

    /// A confirmed order, a delivered, a rejected and a cancelled one, and every mail sent.
    async fn with_orders(&self) -> [Uuid; 4] {
        self.add_product("TEA-1", 10, 20).await;
        let confirmed = self.place(order(&[("TEA-1", 1)])).await.order_id;
        let delivered = self.place(order(&[("TEA-1", 2)])).await.order_id;
        let rejected = self.place(order(&[("TEA-1", 99)])).await.order_id;
        let cancelled = self.place(order(&[("TEA-1", 3)])).await.order_id;
        for (key, order) in [
            ("order-confirmed:", confirmed),
            ("order-confirmed:", delivered),
            ("order-rejected:", rejected),
            ("order-confirmed:", cancelled),
        ] {
            self.settled(DELIVER_NOTIFICATION.name(), format!("{key}{order}")).await;
        }
        for status in [OrderStatus::Processing, OrderStatus::Shipped, OrderStatus::Delivered] {
            commands::set_order_status(&self.shop, delivered, status, None, "ann", None).await.unwrap();
        }
        self.settled(DELIVER_NOTIFICATION.name(), format!("order-shipped:{delivered}")).await;
        commands::cancel_order(&self.shop, cancelled, "no", "ann").await.unwrap();
        self.settled("cancel-order", cancelled.to_string()).await;
        self.settled(DELIVER_NOTIFICATION.name(), format!("order-cancelled:{cancelled}")).await;
        [confirmed, delivered, rejected, cancelled]
    }

    /// Whether the doctor finds the database clean, on one snapshot and in ranges.
    async fn is_clean(&self) {
        assert_eq!(violations(self.pool()).await, []);
        let whole = SurveyOptions { range: 1, ..SurveyOptions::new(Extent::Whole) };
        let (results, _) = invariants::survey(self.shop.engine(), whole, |_| {}).await.unwrap();
        assert!(results.iter().all(invariants::InvariantResult::holds), "{results:?}");
    }

    async fn violated(&self) -> Vec<u8> {
        violations(self.pool()).await.into_iter().map(|result| result.number).collect()
    }
}

const SAGAS: &str = "select count(*) from engine.saga";
const KEYS: &str = "select count(*) from engine.business_key";
const TEXTS: &str = "select count(*) from shop.notification where text_deleted_at is null";
const ENDED_RESERVATIONS: &str = "select count(*) from shop.reservation where state <> 'held'";

#[tokio::test]
async fn after_everything_old_was_deleted_the_invariants_hold_and_the_records_of_orders_stay() {
    let test = forgetful(MOMENT).await;
    let orders = test.with_orders().await;
    let mut before = Vec::new();
    for id in orders {
        before.push(test.order(id).await);
    }

    test.pruned(Prunable::Sagas, SAGAS).await;
    test.pruned(Prunable::BusinessKeys, KEYS).await;
    test.pruned(Prunable::NotificationTexts, TEXTS).await;
    test.pruned(Prunable::Reservations, ENDED_RESERVATIONS).await;

    assert_eq!(test.count("select count(*) from engine.history").await, 0);
    assert_eq!(
        test.count("select count(*) from shop.reservation").await,
        1,
        "the confirmed order holds its stock"
    );
    test.is_clean().await;
    for (id, before) in orders.into_iter().zip(before) {
        assert_eq!(format!("{:?}", test.order(id).await), format!("{before:?}"));
    }
    // What goes on afterwards is checked as before.
    let fresh = test.place(order(&[("TEA-1", 1)])).await;
    test.settled(DELIVER_NOTIFICATION.name(), format!("order-confirmed:{}", fresh.order_id)).await;
    test.is_clean().await;
    sqlx::raw_sql("delete from engine.saga; delete from engine.history_run; delete from engine.business_key")
        .execute(test.pool())
        .await
        .unwrap();
    assert_eq!(test.violated().await, [1, 7], "these were not deleted because of their time");
    test.stop_workers().await.shop.engine().shutdown().await;
}

#[tokio::test]
async fn a_reservation_of_a_delivered_order_is_missed_if_it_was_not_deleted_for_its_time() {
    let test = forgetful(YEAR).await;
    test.with_orders().await;
    sqlx::raw_sql("delete from shop.reservation where state = 'consumed'")
        .execute(test.pool())
        .await
        .unwrap();
    assert_eq!(test.violated().await, [6]);
    test.stop_workers().await.shop.engine().shutdown().await;
}

#[tokio::test]
async fn an_order_is_not_placed_and_not_cancelled_a_second_time_after_its_sagas_and_their_keys_are_gone() {
    let test = forgetful(MOMENT).await;
    let [confirmed, delivered, rejected, cancelled] = test.with_orders().await;
    test.pruned(Prunable::Sagas, SAGAS).await;
    test.pruned(Prunable::BusinessKeys, KEYS).await;

    for id in [confirmed, delivered, rejected, cancelled] {
        let again = shop::orders::PlaceOrder { order_id: id, ..order(&[("TEA-1", 1)]) };
        let refused = commands::place_order(&test.shop, again, None, None).await;
        let Err(PlaceOrderError::Invalid(violations)) = refused else { panic!("{refused:?}") };
        assert_eq!(violations[0].code, "order-exists");
    }
    let again = commands::cancel_order(&test.shop, cancelled, "no", "ann").await.unwrap();
    assert_eq!(again.status, OrderStatus::Cancelled);
    assert!(commands::cancel_order(&test.shop, delivered, "no", "ann").await.is_err());
    // One that was confirmed can still be cancelled, once.
    commands::cancel_order(&test.shop, confirmed, "no", "ann").await.unwrap();
    test.settled("cancel-order", confirmed.to_string()).await;
    assert_eq!(test.order(confirmed).await.status, OrderStatus::Cancelled);
    test.settled(DELIVER_NOTIFICATION.name(), format!("order-cancelled:{confirmed}")).await;
    assert_eq!(test.mails().len(), 7, "four for the placements, one shipped, two cancelled");
    test.close().await;
}

#[tokio::test]
async fn while_its_key_is_kept_a_placement_finds_its_order_and_a_mail_is_not_sent_twice() {
    let test = forgetful(YEAR).await;
    test.add_product("TEA-1", 10, 20).await;
    let new = order(&[("TEA-1", 1)]);
    let placed = test.place(new.clone()).await;
    test.settled(DELIVER_NOTIFICATION.name(), format!("order-confirmed:{}", placed.order_id)).await;
    let message = DeliverNotification {
        to: "ann@example.com".into(),
        subject: "News".into(),
        text: "There is news.".into(),
        html: Some("<p>There is news.</p>".into()),
    };
    let request = || SendNotification {
        notification_id: Uuid::now_v7(),
        message: message.clone(),
        dedup_key: Some("news-1".into()),
    };
    let send = async || {
        commands::send_notification(&test.shop, request(), Some(WAIT_TIMEOUT), "ann", None).await.unwrap()
    };
    let AcceptedNotification { notification: first, existing: false } = send().await else {
        panic!("it is new")
    };
    assert_eq!(first.status, NotificationStatus::Sent);
    test.pruned(Prunable::Sagas, SAGAS).await;
    assert_eq!(test.count(KEYS).await, 3);
    test.pruned(Prunable::NotificationTexts, TEXTS).await;

    let again = test.place(new).await;
    assert_eq!(
        (again.order_id, again.status),
        (placed.order_id, OrderStatus::Confirmed),
        "the same order again"
    );
    let again = send().await;
    assert!(again.existing);
    let again = again.notification;
    assert_eq!((again.notification_id, again.status), (first.notification_id, NotificationStatus::Sent));
    assert_eq!((again.text, again.html, again.text_deleted_at.is_some()), (None, None, true));
    assert_eq!((again.to, again.subject, again.message_id), (first.to, first.subject, first.message_id));
    assert_eq!(again.attempts.len(), 0, "they were in the history of the saga");
    assert_eq!(test.mails().len(), 2);
    let started = test
        .shop
        .engine()
        .start(DELIVER_NOTIFICATION.with(&message).id(SagaId::generate()).business_key("sent:news-1"));
    let started: Result<_, StartError> = started.await;
    assert!(started.unwrap().key_kept_until.is_some());
    test.close().await;
}

#[tokio::test]
async fn a_text_goes_whatever_became_of_its_mail_and_the_mail_is_still_sent_whole() {
    let test = TestShop::open().await;
    let message = DeliverNotification {
        to: "ann@example.com".into(),
        subject: "News".into(),
        text: "There is news.".into(),
        html: None,
    };
    let id = Uuid::now_v7();
    let request = SendNotification { notification_id: id, message, dedup_key: None };
    commands::send_notification(&test.shop, request, None, "ann", None).await.unwrap();
    let shown = async || notifications::get(test.shop.engine(), id).await.unwrap().unwrap();
    assert_eq!(shown().await.text.as_deref(), Some("There is news."));
    let never = Pruner::new(test.shop.engine().clone(), ShopRetention::default());
    for what in Prunable::iter() {
        assert_eq!(never.prune(what).await.unwrap(), 0, "{what:?} are kept for ever, or nothing is old");
        assert!(never.lag(what).await.unwrap().is_zero());
    }
    assert!(pruner(&test).lag(Prunable::NotificationTexts).await.unwrap() < YEAR);
    test.pruned(Prunable::NotificationTexts, TEXTS).await;
    assert_eq!((shown().await.text, shown().await.status), (None, NotificationStatus::Pending));

    let test = test.start_workers();
    test.shop.engine().wait(SagaId(id), WAIT_TIMEOUT).await.unwrap();
    assert!(test.mails()[0].contains("There is news."), "{:?}", test.mails());
    test.close().await;
}

#[tokio::test]
async fn the_shops_audit_is_deleted_by_its_function_only_and_never_too_early() {
    let test = TestShop::open().await;
    sqlx::raw_sql(
        "insert into shop.audit (at, actor, action, subject_kind, subject_id)
         select now() - make_interval(days => d), 'ann', 'stock.set', 'product', 'x'
         from unnest(array[4000, 3651, 3649, 1]) d",
    )
    .execute(test.pool())
    .await
    .unwrap();
    for (statement, why) in [
        ("delete from shop.audit", "append only"),
        ("truncate shop.audit", "append only"),
        ("select shop.prune_audit(now() - interval '3649 days', 10)", "kept for"),
        ("select shop.prune_audit(now() - interval '3651 days', 10); delete from shop.audit", "append only"),
        // The mark of one audit opens no other.
        (
            "select set_config('engine.pruned_audit', 'engine.audit'::regclass::oid::text, false); delete from shop.audit",
            "append only",
        ),
    ] {
        let error = as_owner(test.pool(), statement).await.unwrap_err();
        assert!(error.to_string().contains(why), "`{statement}`: {error}");
    }
    let pruner = pruner(&test);
    assert!(pruner.lag(Prunable::Audits).await.unwrap() > Duration::from_hours(24 * 349));
    assert_eq!(pruner.prune(Prunable::Audits).await.unwrap(), 2);
    assert!(pruner.lag(Prunable::Audits).await.unwrap().is_zero());
    assert_eq!(test.count("select count(*) from shop.audit").await, 2);
    test.close().await;
}
