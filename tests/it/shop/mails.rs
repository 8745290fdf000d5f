//! Mails: a server that fails, a breaker, an operator.

use std::time::Duration;

use breakers::{Breaker, BreakerSettings, BreakerState, Dependency};
use engine::{DeadJobFilter, Page, RetryPolicy, Status};
use sagaline::mailcatcher::{Behaviour, MailCatcher, Stage};
use workflows::{
    mailer::{Mail, MailError, Mailer, SmtpReply},
    notifications::{self, NotificationStatus},
    sagas::{
        Settings,
        deliver_notification::{DELIVER_NOTIFICATION, DeliverNotification},
    },
};

use super::{Market, PATIENCE, QUICK, order};

#[tokio::test]
async fn a_mail_server_that_fails_parks_the_mail_and_an_operator_revives_it() {
    let catcher = MailCatcher::start().await.unwrap();
    catcher.behave(Behaviour::PermanentFailure(Stage::Recipient));
    let mailer = Mailer::smtp(&catcher.url(), "shop@example.com").unwrap();
    let settings = Settings { send_mail_retry: QUICK, ..Settings::new(mailer) };
    let market = Market::with(tempfile::tempdir().unwrap(), settings).await.hire();
    let mail = DeliverNotification {
        to: "ann@example.com".into(),
        subject: "Grüße".into(),
        text: "Hello.\n".into(),
        html: Some("<p>Hello.</p>".into()),
    };
    let (started, ending) =
        market.shop.engine().start_and_wait(DELIVER_NOTIFICATION.with(&mail), PATIENCE).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Dead);
    let id = started.saga_id.0;
    let failed = notifications::get(&market.shop, id).await.unwrap().unwrap();
    assert_eq!((failed.status, failed.attempts.len()), (NotificationStatus::Failed, 1));

    catcher.behave(Behaviour::Accept);
    let (filter, page) = (DeadJobFilter::default(), Page { after: None, limit: 9 });
    let dead = market.shop.engine().dead_jobs(&filter, page).await.unwrap();
    market.shop.engine().retry_dead_job(dead[0].dead_job_id, "ops", "server is back").await.unwrap();
    let ending = market.shop.engine().wait(started.saga_id, PATIENCE).await.unwrap().unwrap();
    assert_eq!(ending.status, Status::Completed);
    let sent = notifications::get(&market.shop, id).await.unwrap().unwrap();
    assert_eq!((sent.status, sent.attempts.len()), (NotificationStatus::Sent, 2));
    assert_eq!(sent.message_id, catcher.wait_for(1).await[0].message_id());
    assert_eq!(
        (market.events("notification.failed").await, market.events("notification.sent").await),
        (1, 1)
    );
    market.close().await;
}

fn a_mail() -> Mail {
    Mail {
        to: "ann@example.com".into(),
        subject: "s".into(),
        text: "t\n".into(),
        html: None,
        message_id: "<1.send-mail@sagaline>".into(),
        at: chrono::DateTime::UNIX_EPOCH,
    }
}

#[tokio::test]
async fn a_breaker_opens_on_a_silent_server_and_closes_by_one_probe() {
    let catcher = MailCatcher::start().await.unwrap();
    let mailer = Mailer::smtp(&catcher.url(), "shop@example.com")
        .unwrap()
        .with_timeout(Duration::from_millis(400))
        .with_breaker(Breaker::new(
            Dependency::Smtp,
            BreakerSettings { failures: 2, open_for: Duration::from_millis(50), probes: 1 },
        ));
    mailer.send(&a_mail()).await.unwrap();
    catcher.behave(Behaviour::NeverGreet);
    for _ in 0..2 {
        assert!(mailer.send(&a_mail()).await.unwrap_err().is_retryable());
    }
    assert_eq!(mailer.state(), BreakerState::Open);
    assert!(matches!(mailer.send(&a_mail()).await, Err(MailError::BreakerOpen { .. })));
    catcher.behave(Behaviour::Accept);
    let healed = async {
        while mailer.send(&a_mail()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, healed).await.unwrap();
    assert_eq!(mailer.state(), BreakerState::Closed);
}

#[tokio::test]
async fn a_mail_that_timed_out_leaves_no_reply_behind_for_the_next() {
    let catcher = MailCatcher::start().await.unwrap();
    let mailer =
        Mailer::smtp(&catcher.url(), "shop@example.com").unwrap().with_timeout(Duration::from_millis(400));
    mailer.send(&a_mail()).await.unwrap();
    catcher.behave(Behaviour::Trickle(Duration::from_millis(20)));
    assert!(mailer.send(&a_mail()).await.unwrap_err().is_retryable());
    catcher.behave(Behaviour::PermanentFailure(Stage::Data));
    assert!(matches!(
        mailer.send(&a_mail()).await,
        Err(MailError::Refused { reply: SmtpReply { code: 500..600, .. } })
    ));
}

#[tokio::test]
async fn a_mail_that_is_turned_away_for_now_is_sent_later_under_the_same_message_id() {
    let catcher = MailCatcher::start().await.unwrap();
    catcher.behave(Behaviour::DropAfterData);
    let mailer = Mailer::smtp(&catcher.url(), "shop@example.com").unwrap();
    let patient = RetryPolicy { attempts: 1000, ..QUICK };
    let settings = Settings { send_mail_retry: patient, ..Settings::new(mailer) };
    let market = Market::with(tempfile::tempdir().unwrap(), settings).await.hire();
    market.sell("TEA-1", 10, 5).await;
    let placed = market.place(order(&[("TEA-1", 1)])).await;
    // The server has it, and never said so: it comes again, and can be told for the same mail.
    catcher.wait_for(2).await;
    catcher.behave(Behaviour::Accept);
    let key = format!("order-confirmed:{}", placed.order_id);
    assert_eq!(market.settled(DELIVER_NOTIFICATION.name(), key).await, Status::Completed);
    let mut ids: Vec<_> = catcher.messages().iter().map(|message| message.message_id().unwrap()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 1);
    market.close().await;
}
