//! No customer gets copies of a mail without end, and no mail waits without end.

use std::time::Duration;

use breakers::{Breaker, BreakerSettings, Dependency};
use devkit::mail_catcher::{Behaviour, MailCatcher, Stage};
use engine::{DeadJobFilter, HistoryOutcome, Page, RetryPolicy, SagaId, Status};
use shop::{
    mail::{Mailer, SmtpSettings},
    notifications::{DELIVER_NOTIFICATION, SEND_MAIL},
    sagas::Settings,
};

use super::{QUICK, TestShop, a_notification};

use crate::support::WAIT_TIMEOUT;

/// More than a mail with three attempts needs; a mail that is sent without end does not end within it.
const LONG_ENOUGH: Duration = Duration::from_mins(1);

/// A shop with workers whose breaker opens after the first failure and probes every 20 ms.
async fn shop(catcher: &MailCatcher, send_mail_retry: RetryPolicy) -> TestShop {
    let open_duration = Duration::from_millis(20);
    let settings = BreakerSettings { failures: 1, open_duration, successes_to_close: 1 };
    let mailer = Mailer::smtp_with(&catcher.url(), "shop@example.com", &SmtpSettings::default())
        .unwrap()
        .with_timeout(Duration::from_secs(2))
        .with_breaker(Breaker::new(Dependency::Smtp, settings));
    let settings = Settings { send_mail_retry, ..Settings::new(mailer) };
    TestShop::with(tempfile::tempdir().unwrap(), settings).await.start_workers()
}

/// Starts the only delivery there is, so that every probe is its.
async fn deliver(test: &TestShop) -> SagaId {
    let mail = a_notification();
    test.shop.engine().start(DELIVER_NOTIFICATION.with(&mail)).await.unwrap().saga_id
}

#[tokio::test]
async fn what_fails_after_the_content_was_sent_counts_as_an_attempt_even_of_a_probe() {
    let attempts = RetryPolicy { attempts: 3, ..QUICK };
    for (behaviour, copies) in [
        (Behaviour::DropAfterData, 3),
        // It is confirmed when it has been given up.
        (Behaviour::StallAfterData(Duration::from_secs(4)), 3),
        (Behaviour::Answer(Stage::Data, "421 going down"), 0),
        (Behaviour::Answer(Stage::Data, "221 going down"), 3),
    ] {
        let catcher = MailCatcher::start().await.unwrap();
        catcher.behave(behaviour);
        let test = shop(&catcher, attempts).await;
        let saga = deliver(&test).await;
        let ending = test.shop.engine().wait(saga, LONG_ENOUGH).await.unwrap();
        let status = ending.map(|ending| ending.status);
        let sent = catcher.messages().len();
        assert_eq!((status, sent), (Some(Status::Dead), copies), "{behaviour:?}");
        let history = test.shop.engine().history(saga).await.unwrap().unwrap();
        let outcomes: Vec<_> =
            history.iter().filter(|entry| entry.step == SEND_MAIL).map(|entry| entry.outcome).collect();
        let counted = outcomes.iter().filter(|outcome| **outcome == HistoryOutcome::Retry).count();
        assert_eq!((counted, outcomes.last()), (2, Some(&HistoryOutcome::Exhausted)), "{behaviour:?}");
        test.close().await;
    }
}

#[tokio::test]
async fn a_mail_that_an_open_breaker_keeps_putting_off_becomes_a_dead_job() {
    let catcher = MailCatcher::start().await.unwrap();
    catcher.behave(Behaviour::Refuse);
    let test = shop(&catcher, RetryPolicy { max_postponed: Duration::from_millis(300), ..QUICK }).await;
    let saga = deliver(&test).await;
    let engine = test.shop.engine();
    assert_eq!(engine.wait(saga, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Dead);
    let job = engine
        .dead_jobs(&DeadJobFilter::default(), Page { after: None, limit: 1 })
        .await
        .unwrap()
        .items
        .remove(0);
    assert!(job.error.contains("it was only put off") && job.error.contains("still fails"), "{}", job.error);
    assert_eq!(test.events("notification.failed").await, 1);

    catcher.behave(Behaviour::Accept);
    engine.retry_dead_job(job.dead_job_id, "ops", "it is back").await.unwrap();
    assert_eq!(engine.wait(saga, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    assert_eq!(catcher.messages().len(), 1);
    test.close().await;
}
