//! Mail outages under load: orders continue, mails wait without losing attempts, and each arrives once.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use breakers::{Breaker, BreakerSettings, BreakerState, Dependency};
use devkit::mail_catcher::{Behaviour, MailCatcher, Stage};
use engine::{Allowance, DeadJobFilter, HistoryOutcome, Page, RetryPolicy, SagaFilter, Status};
use shop::{
    mail::Mailer,
    notifications::{self, DELIVER_NOTIFICATION, NotificationStatus, QUEUE, SEND_MAIL},
    orders::OrderStatus,
    sagas::Settings,
};

use super::{QUICK, TestShop, a_notification, order};

use crate::support::WAIT_TIMEOUT;

const ORDERS: usize = 40;

/// A mailer whose breaker opens after this many failures, and the breaker.
fn mailer(catcher: &MailCatcher, failures: u32) -> (Mailer, Breaker) {
    let open_duration = Duration::from_millis(100);
    let breaker =
        Breaker::new(Dependency::Smtp, BreakerSettings { failures, open_duration, successes_to_close: 1 });
    let mailer = Mailer::smtp(&catcher.url(), "shop@example.com").unwrap().with_breaker(breaker.clone());
    (mailer, breaker)
}

/// The sagas that deliver notifications.
async fn deliveries(test: &TestShop) -> Vec<engine::SagaView> {
    let filter = SagaFilter { definition: Some(DELIVER_NOTIFICATION.name().into()), ..SagaFilter::default() };
    test.shop.engine().sagas(&filter, Page { after: None, limit: 1000 }).await.unwrap().items
}

/// Waits until a condition of the test holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(WAIT_TIMEOUT, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("condition not reached: {what}"));
}

#[tokio::test]
async fn orders_continue_during_a_mail_outage_and_every_mail_arrives_once_after_it() {
    let catcher = MailCatcher::start().await.unwrap();
    let (mailer, breaker) = mailer(&catcher, 3);
    // So few attempts that without the breaker every mail would be dead at once.
    let settings = Settings { send_mail_retry: QUICK, ..Settings::new(mailer) };
    let test = TestShop::with(tempfile::tempdir().unwrap(), settings).await.start_workers();
    test.add_product("TEA-1", 10, 1000).await;
    catcher.behave(Behaviour::Refuse);
    let placed = futures::future::join_all((0..ORDERS).map(|_| test.place(order(&[("TEA-1", 1)])))).await;
    assert!(placed.iter().all(|order| order.status == OrderStatus::Confirmed));
    until("the breaker opens", async || breaker.state() != BreakerState::Closed).await;
    assert_eq!(deliveries(&test).await.len(), ORDERS);
    // The outage lasts many times as long as the breaker stays open, so that many probes fail.
    until("probes fail", async || breaker.view().failures > 3 + 10).await;
    let more = test.place(order(&[("TEA-1", 1)])).await;
    assert_eq!(more.status, OrderStatus::Confirmed, "orders continue");
    assert_eq!(catcher.messages().len(), 0);
    assert_eq!(test.shop.engine().count_dead_jobs(&DeadJobFilter::default()).await.unwrap(), 0);

    catcher.behave(Behaviour::Accept);
    until("every mail is sent", async || {
        let all = deliveries(&test).await;
        all.len() == ORDERS + 1 && all.iter().all(|saga| saga.status == Status::Completed)
    })
    .await;
    assert_eq!(breaker.state(), BreakerState::Closed);
    let ids: Vec<String> =
        catcher.messages().iter().map(|message| message.message_id().unwrap().clone()).collect();
    let distinct: BTreeSet<&String> = ids.iter().collect();
    assert_eq!((ids.len(), distinct.len()), (ORDERS + 1, ORDERS + 1), "each arrives, and none twice");
    test.close().await;
}

#[tokio::test]
async fn an_open_breaker_costs_a_mail_no_attempt() {
    let catcher = MailCatcher::start().await.unwrap();
    let (mailer, breaker) = mailer(&catcher, 1);
    let settings =
        Settings { send_mail_retry: RetryPolicy { attempts: 2, ..QUICK }, ..Settings::new(mailer) };
    let test = TestShop::with(tempfile::tempdir().unwrap(), settings).await.start_workers();
    catcher.behave(Behaviour::Refuse);
    let mail = a_notification();
    let engine = test.shop.engine();
    let saga = engine.start(DELIVER_NOTIFICATION.with(&mail)).await.unwrap().saga_id;
    until("five probes have failed", async || breaker.view().failures >= 6).await;
    catcher.behave(Behaviour::Accept);
    let ending = engine.wait(saga, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ending.status, Status::Completed);
    let history = engine.history(saga).await.unwrap().unwrap();
    let sends: Vec<_> = history.iter().filter(|entry| entry.step == SEND_MAIL).collect();
    let count = |outcome| sends.iter().filter(|entry| entry.outcome == outcome).count();
    assert_eq!(count(HistoryOutcome::Retry), 1, "the one that opened it");
    assert!(count(HistoryOutcome::Snoozed) >= 5);
    let last = sends.last().unwrap();
    assert_eq!((last.outcome, last.attempt), (HistoryOutcome::Done, 2));
    assert!(
        sends
            .iter()
            .any(|entry| entry.error.iter().any(|error| error.starts_with("the mail server still fails")))
    );
    test.close().await;
}

#[tokio::test]
async fn a_mail_server_that_refuses_everything_costs_no_attempt_and_its_reply_is_stored() {
    for reply in ["535 your password has expired", "421 going down"] {
        let catcher = MailCatcher::start().await.unwrap();
        let (mailer, breaker) = mailer(&catcher, 1);
        let settings =
            Settings { send_mail_retry: RetryPolicy { attempts: 2, ..QUICK }, ..Settings::new(mailer) };
        let test = TestShop::with(tempfile::tempdir().unwrap(), settings).await.start_workers();
        catcher.behave(Behaviour::Answer(Stage::Recipient, reply));
        let saga =
            test.shop.engine().start(DELIVER_NOTIFICATION.with(&a_notification())).await.unwrap().saga_id;
        until("more probes have failed than there are attempts", async || breaker.view().failures > 5).await;
        let sending = notifications::get(test.shop.engine(), saga.0).await.unwrap().unwrap();
        assert_eq!(sending.status, NotificationStatus::Sending);
        let replies: Vec<_> =
            sending.attempts.iter().filter_map(|attempt| attempt.reply.as_deref()).collect();
        assert!(replies.len() > 3 && replies.iter().all(|shown| *shown == reply), "{replies:?}");
        catcher.behave(Behaviour::Accept);
        let ending = test.shop.engine().wait(saga, WAIT_TIMEOUT).await.unwrap().unwrap();
        assert_eq!(ending.status, Status::Completed);
        test.close().await;
    }
}

#[tokio::test]
async fn snoozes_of_a_mail_do_not_count_as_attempts() {
    let catcher = MailCatcher::start().await.unwrap();
    let (mailer, breaker) = mailer(&catcher, 1);
    let settings = Settings { send_mail_retry: QUICK, ..Settings::new(mailer) };
    let test = TestShop::with(tempfile::tempdir().unwrap(), settings).await.start_workers();
    // The error of deliveries that were claimed before the breaker opened.
    test.shop.engine().throttle(QUEUE, Arc::new(|| Allowance::Unlimited));
    catcher.behave(Behaviour::Refuse);
    let engine = test.shop.engine();
    let one = engine.start(DELIVER_NOTIFICATION.with(&a_notification())).await.unwrap().saga_id;
    let other = engine.start(DELIVER_NOTIFICATION.with(&a_notification())).await.unwrap().saga_id;
    until("ten probes fail", async || breaker.view().failures > 10).await;
    catcher.behave(Behaviour::Accept);
    let mut waited = 0;
    for saga in [one, other] {
        assert_eq!(engine.wait(saga, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
        let history = engine.history(saga).await.unwrap().unwrap();
        let sends = history.iter().filter(|entry| entry.step == SEND_MAIL);
        let (held_back, attempts): (Vec<_>, Vec<_>) =
            sends.partition(|entry| entry.error.iter().any(|error| error.contains("failed too often")));
        waited += held_back.len();
        let shown = notifications::get(test.shop.engine(), saga.0).await.unwrap().unwrap().attempts;
        assert_eq!(shown.len(), attempts.len());
    }
    assert!(waited > 0, "none ever waited, so nothing was shown");
    test.close().await;
}

#[tokio::test]
async fn mails_that_wait_for_the_breaker_cause_no_database_writes() {
    const WAITING: usize = 200;
    let catcher = MailCatcher::start().await.unwrap();
    let (mailer, breaker) = mailer(&catcher, 1);
    let settings = Settings { send_mail_retry: QUICK, ..Settings::new(mailer) };
    let test = TestShop::with(tempfile::tempdir().unwrap(), settings).await.start_workers();
    let engine = test.shop.engine();
    catcher.behave(Behaviour::Refuse);
    engine.start(DELIVER_NOTIFICATION.with(&a_notification())).await.unwrap();
    until("the breaker opens", async || breaker.state() != BreakerState::Closed).await;
    let starts = (0..WAITING).map(|_| engine.start(DELIVER_NOTIFICATION.with(&a_notification())));
    for started in futures::future::join_all(starts).await {
        started.unwrap();
    }
    // Probes continue while the rows are counted; every probe that may have written between the two counts is included.
    let failures_before = breaker.view().failures;
    let before = test.rows_written().await;
    until("twenty more probes fail", async || breaker.view().failures >= failures_before + 20).await;
    let (after, failures_after) = (test.rows_written().await, breaker.view().failures);
    let probes = u64::from(failures_after - failures_before) + 1;
    // A probe writes at most three history rows: that the sending starts, if it is the mail's first attempt, and that
    // it failed.
    assert!(after.history - before.history <= 3 * probes, "{before:?} to {after:?} by {probes} probes");
    assert!(after.claims - before.claims <= probes + 1, "{before:?} to {after:?} by {probes} probes");
    let tried = deliveries(&test).await.iter().filter(|saga| saga.step == SEND_MAIL).count();
    assert!(tried > 1, "the probe is not always the same mail");

    catcher.behave(Behaviour::Accept);
    until("every mail is sent", async || {
        deliveries(&test).await.iter().all(|saga| saga.status == Status::Completed)
    })
    .await;
    assert_eq!(catcher.messages().len(), WAITING + 1);
    test.close().await;
}

/// The rows written so far.
#[derive(Clone, Copy, Debug)]
struct Written {
    /// History rows.
    history: u64,
    /// Claims, each an update of a saga's row.
    claims: u64,
}

impl TestShop {
    /// Counts the rows that were written so far.
    async fn rows_written(&self) -> Written {
        let (history, claims): (i64, i64) = sqlx::query_as(
            "select (select count(*) from engine.history where step = any(array['begin-delivery', $1])), \
                 (select sum(epoch) from engine.saga)::bigint",
        )
        .bind(SEND_MAIL)
        .fetch_one(self.pool())
        .await
        .unwrap();
        Written { history: history.unsigned_abs(), claims: claims.unsigned_abs() }
    }
}

#[tokio::test]
async fn a_death_is_an_event_of_the_same_commit() {
    let catcher = MailCatcher::start().await.unwrap();
    let settings = Settings {
        send_mail_retry: RetryPolicy { attempts: 1, ..QUICK },
        ..Settings::new(mailer(&catcher, 1000).0)
    };
    let test = TestShop::with(tempfile::tempdir().unwrap(), settings).await.start_workers();
    catcher.behave(Behaviour::Refuse);
    let mail = a_notification();
    let (started, ending) =
        test.shop.engine().start_and_wait(DELIVER_NOTIFICATION.with(&mail), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Dead);
    let job = test.shop.engine().dead_jobs(&DeadJobFilter::default(), Page { after: None, limit: 1 }).await;
    let job = job.unwrap().items.remove(0);
    let (key, payload): (String, serde_json::Value) =
        sqlx::query_as("select key, payload from shop.outbox where routing_key = 'workflow.dead'")
            .fetch_one(test.pool())
            .await
            .unwrap();
    assert_eq!(key, started.saga_id.to_string());
    assert_eq!(
        (&payload["dead_job_id"], &payload["definition"], &payload["step"], &payload["attempts"]),
        (
            &serde_json::json!(job.dead_job_id),
            &serde_json::json!("deliver-notification"),
            &serde_json::json!(SEND_MAIL),
            &serde_json::json!(1)
        )
    );
    test.close().await;
}
