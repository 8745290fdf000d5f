//! Sending mails: failing servers, the breaker, and the connections.

use std::time::Duration;

use breakers::{Breaker, BreakerSettings, BreakerState, Dependency};
use devkit::mail_catcher::{Behaviour, MailCatcher, Stage};
use engine::{DeadJobFilter, Page, RetryPolicy, Status};
use shop::{
    mail::{Mail, MailError, Mailer, SmtpSettings},
    notifications::{self, DELIVER_NOTIFICATION, DeliverNotification, NotificationStatus},
    sagas::Settings,
};

use super::{QUICK, TestShop, a_notification, order};

use crate::support::{WAIT_TIMEOUT, a_mail};

#[tokio::test]
async fn a_failing_mail_server_dead_letters_the_mail_and_a_retry_sends_it() {
    let catcher = MailCatcher::start().await.unwrap();
    // The reply ends like the stored sentence about it.
    let reply = "550 no such mailbox (mail-refused)";
    catcher.behave(Behaviour::Answer(Stage::Recipient, reply));
    let mailer = Mailer::smtp(&catcher.url(), "shop@example.com").unwrap();
    let settings = Settings { send_mail_retry: QUICK, ..Settings::new(mailer) };
    let test = TestShop::with(tempfile::tempdir().unwrap(), settings).await.start_workers();
    let mail = DeliverNotification {
        to: "ann@example.com".into(),
        subject: "Grüße".into(),
        text: "Hello.\n".into(),
        html: Some("<p>Hello.</p>".into()),
    };
    let (started, ending) =
        test.shop.engine().start_and_wait(DELIVER_NOTIFICATION.with(&mail), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Dead);
    let id = started.saga_id.0;
    let failed = notifications::get(test.shop.engine(), id).await.unwrap().unwrap();
    assert_eq!((failed.status, failed.attempts.len()), (NotificationStatus::Failed, 1));
    assert_eq!(failed.attempts[0].reply.as_deref(), Some(reply));

    catcher.behave(Behaviour::Accept);
    let (filter, page) = (DeadJobFilter::default(), Page { after: None, limit: 9 });
    let dead = test.shop.engine().dead_jobs(&filter, page).await.unwrap().items;
    test.shop.engine().retry_dead_job(dead[0].dead_job_id, "ops", "server is back").await.unwrap();
    let ending = test.shop.engine().wait(started.saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ending.status, Status::Completed);
    let sent = notifications::get(test.shop.engine(), id).await.unwrap().unwrap();
    assert_eq!((sent.status, sent.attempts.len()), (NotificationStatus::Sent, 2));
    assert_eq!(sent.message_id, catcher.wait_for(1).await[0].message_id());
    assert_eq!((test.events("notification.failed").await, test.events("notification.sent").await), (1, 1));
    test.close().await;
}

#[tokio::test]
async fn a_breaker_opens_on_a_silent_server_and_closes_after_one_probe() {
    let catcher = MailCatcher::start().await.unwrap();
    let mailer = Mailer::smtp(&catcher.url(), "shop@example.com")
        .unwrap()
        .with_timeout(Duration::from_secs(3))
        .with_breaker(Breaker::new(
            Dependency::Smtp,
            BreakerSettings { failures: 2, open_duration: Duration::from_secs(3), successes_to_close: 1 },
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
    tokio::time::timeout(WAIT_TIMEOUT, healed).await.unwrap();
    assert_eq!(mailer.state(), BreakerState::Closed);
}

#[tokio::test]
async fn the_late_reply_to_a_timed_out_mail_is_not_taken_for_that_of_the_next() {
    let catcher = MailCatcher::start().await.unwrap();
    let limit = Duration::from_secs(3);
    let mailer = Mailer::smtp(&catcher.url(), "shop@example.com").unwrap().with_timeout(limit);
    // The reply to an abandoned mail arrives while the next one is being sent.
    catcher.behave(Behaviour::StallAfterData(limit * 3 / 2));
    for mails in 1..=3 {
        let error = mailer.send(&a_mail()).await.unwrap_err();
        assert!(error.is_retryable() && !error.concerns_one_mail());
        let sentence = error.sentence();
        assert!(
            sentence.contains("did not confirm the mail within")
                && sentence.ends_with("it may have taken it"),
            "{sentence}"
        );
        assert_eq!(catcher.connections(), mails, "each has its own connection");
    }
    assert_eq!(catcher.messages().len(), 3, "as it may have");
}

#[tokio::test]
async fn mails_share_connections_up_to_the_configured_number() {
    let catcher = MailCatcher::start().await.unwrap();
    let settings = SmtpSettings { max_idle_connections: 2, ..SmtpSettings::default() };
    let mailer = Mailer::smtp_with(&catcher.url(), "shop@example.com", &settings).unwrap();
    for _ in 0..10 {
        mailer.send(&a_mail()).await.unwrap();
    }
    assert_eq!(catcher.connections(), 1);
    // A refused mail leaves its connection usable.
    catcher.behave(Behaviour::PermanentFailure(Stage::Recipient));
    for _ in 0..10 {
        assert!(matches!(mailer.send(&a_mail()).await, Err(MailError::RecipientRejected { .. })));
    }
    assert_eq!(catcher.connections(), 2, "the server closed the one before");
    catcher.behave(Behaviour::StallAfterData(Duration::from_secs(1)));
    let mail = a_mail();
    let sent = futures::future::join_all((0..5).map(|_| mailer.send(&mail))).await;
    assert!(sent.iter().all(Result::is_ok));
    assert_eq!(catcher.connections(), 2 + 5);
    let sent = futures::future::join_all((0..5).map(|_| mailer.send(&mail))).await;
    assert!(sent.iter().all(Result::is_ok));
    assert_eq!(catcher.connections(), 2 + 5 + 3, "two of them were kept");
}

#[tokio::test]
async fn a_connection_is_closed_after_its_idle_time_out() {
    let catcher = MailCatcher::start().await.unwrap();
    let settings = SmtpSettings { idle_timeout: Duration::from_millis(50), ..SmtpSettings::default() };
    let mailer = Mailer::smtp_with(&catcher.url(), "shop@example.com", &settings).unwrap();
    mailer.send(&a_mail()).await.unwrap();
    let closed = async {
        while catcher.open_connections() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(WAIT_TIMEOUT, closed).await.expect("it is closed without another mail");
    mailer.send(&a_mail()).await.unwrap();
    assert_eq!(catcher.connections(), 2);
}

#[tokio::test]
async fn a_server_that_stops_answering_is_noticed_by_the_reply_time_out() {
    let catcher = MailCatcher::start().await.unwrap();
    let settings = SmtpSettings { reply_timeout: Duration::from_millis(200), ..SmtpSettings::default() };
    let mailer = Mailer::smtp_with(&catcher.url(), "shop@example.com", &settings)
        .unwrap()
        .with_timeout(Duration::from_hours(1));
    // The time-out applies to a whole reply, not only to its first byte.
    catcher.behave(Behaviour::Trickle(Duration::from_millis(50)));
    let error = tokio::time::timeout(WAIT_TIMEOUT, mailer.send(&a_mail())).await.unwrap().unwrap_err();
    assert!(error.sentence().contains("no answer within"), "{}", error.sentence());
    // Only the final reply may take longer.
    let reply_timeout = Duration::from_secs(3);
    let settings = SmtpSettings { reply_timeout, ..settings };
    let mailer = Mailer::smtp_with(&catcher.url(), "shop@example.com", &settings)
        .unwrap()
        .with_timeout(Duration::from_hours(1));
    catcher.behave(Behaviour::StallAfterData(reply_timeout + Duration::from_secs(1)));
    mailer.send(&a_mail()).await.unwrap();
}

#[tokio::test]
async fn a_reply_about_the_server_counts_as_a_failure_of_the_breaker_and_one_about_a_mail_does_not() {
    let catcher = MailCatcher::start().await.unwrap();
    let about_all = [
        Behaviour::Answer(Stage::Greeting, "554 you are blocked"),
        Behaviour::Answer(Stage::Greeting, "521 no mail here"),
        Behaviour::Answer(Stage::Greeting, "421 too many connections"),
        Behaviour::Answer(Stage::Sender, "530 log in first"),
        Behaviour::Answer(Stage::Sender, "550 no such sender"),
        Behaviour::Answer(Stage::Recipient, "421 going down"),
        Behaviour::Answer(Stage::Recipient, "535 your password has expired"),
        Behaviour::Answer(Stage::Data, "454 can't check your password now"),
        Behaviour::Refuse,
        Behaviour::DropAfterData,
    ];
    for behaviour in about_all {
        let (mailer, breaker) = with_breaker(&catcher, 1);
        catcher.behave(behaviour);
        let error = mailer.send(&a_mail()).await.unwrap_err();
        assert!(error.is_retryable() && !error.concerns_one_mail(), "{behaviour:?}: {error:?}");
        assert_eq!(breaker.state(), BreakerState::Open, "{behaviour:?}");
    }
    let about_one = [
        (Behaviour::Answer(Stage::Recipient, "450 greylisted"), true),
        (Behaviour::Answer(Stage::Recipient, "452 mailbox full"), true),
        (Behaviour::Answer(Stage::Data, "451 try again"), true),
        (Behaviour::Answer(Stage::Recipient, "550 no such mailbox"), false),
        (Behaviour::Answer(Stage::Data, "554 spam"), false),
    ];
    for (behaviour, is_retryable) in about_one {
        let (mailer, breaker) = with_breaker(&catcher, 1);
        catcher.behave(behaviour);
        for _ in 0..3 {
            let error = mailer.send(&a_mail()).await.unwrap_err();
            assert_eq!((error.is_retryable(), error.concerns_one_mail()), (is_retryable, true), "{error:?}");
        }
        assert_eq!(breaker.state(), BreakerState::Closed, "{behaviour:?}");
    }
}

fn with_breaker(catcher: &MailCatcher, failures: u32) -> (Mailer, Breaker) {
    let settings =
        BreakerSettings { failures, open_duration: Duration::from_hours(1), successes_to_close: 1 };
    let breaker = Breaker::new(Dependency::Smtp, settings);
    let mailer = Mailer::smtp(&catcher.url(), "shop@example.com").unwrap().with_breaker(breaker.clone());
    (mailer, breaker)
}

#[tokio::test]
async fn an_international_address_is_written_in_ascii_as_far_as_it_can_be() {
    let catcher = MailCatcher::start().await.unwrap();
    let (mailer, breaker) = with_breaker(&catcher, 1);
    let to = |to: &str| Mail { to: to.into(), ..a_mail() };
    catcher.behave(Behaviour::WithoutSmtpUtf8);
    mailer.send(&to("info@bücher.de")).await.unwrap();
    assert_eq!(catcher.messages()[0].to, ["info@xn--bcher-kva.de"]);
    for _ in 0..3 {
        let error = mailer.send(&to("jörg@example.com")).await.unwrap_err();
        assert!(matches!(error, MailError::Unsendable { .. }), "{error:?}");
        assert!(error.sentence().contains("SMTPUTF8"), "{}", error.sentence());
    }
    assert_eq!(breaker.state(), BreakerState::Closed, "the server works");
    catcher.behave(Behaviour::Accept);
    mailer.send(&to("jörg@bücher.de")).await.unwrap();
    assert_eq!(catcher.messages()[1].to, ["jörg@xn--bcher-kva.de"]);
}

#[tokio::test]
async fn a_mail_that_can_not_be_encoded_does_not_count_as_a_failure_of_the_server() {
    let catcher = MailCatcher::start().await.unwrap();
    let (mailer, breaker) = with_breaker(&catcher, 1);
    catcher.behave(Behaviour::Refuse);
    mailer.send(&a_mail()).await.unwrap_err();
    let error = mailer.send(&Mail { to: "\"a b\"@example.com".into(), ..a_mail() }).await.unwrap_err();
    assert!(matches!(error, MailError::Unsendable { .. }), "{error:?}");
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[tokio::test]
async fn a_mail_whose_confirmation_was_lost_is_sent_again_under_the_same_message_id() {
    let catcher = MailCatcher::start().await.unwrap();
    catcher.behave(Behaviour::DropAfterData);
    let mailer = Mailer::smtp(&catcher.url(), "shop@example.com").unwrap();
    let many_attempts = RetryPolicy { attempts: 1000, ..QUICK };
    let settings = Settings { send_mail_retry: many_attempts, ..Settings::new(mailer) };
    let test = TestShop::with(tempfile::tempdir().unwrap(), settings).await.start_workers();
    test.add_product("TEA-1", 10, 5).await;
    let placed = test.place(order(&[("TEA-1", 1)])).await;
    // The server has the mail but never confirmed it: it is sent again and can be recognised as the same.
    catcher.wait_for(2).await;
    catcher.behave(Behaviour::Accept);
    let key = format!("order-confirmed:{}", placed.order_id);
    assert_eq!(test.settled(DELIVER_NOTIFICATION.name(), key).await, Status::Completed);
    let mut ids: Vec<_> = catcher.messages().iter().map(|message| message.message_id().unwrap()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 1);
    test.close().await;
}

#[tokio::test]
async fn a_customer_whose_address_has_stray_dots_gets_the_mail() {
    let catcher = MailCatcher::start().await.unwrap();
    let mailer = Mailer::smtp(&catcher.url(), "Shop <shop@bücher.example>").unwrap();
    let settings = Settings { send_mail_retry: QUICK, ..Settings::new(mailer) };
    let test = TestShop::with(tempfile::tempdir().unwrap(), settings).await.start_workers();
    test.add_product("TEA-1", 10, 5).await;
    for address in ["a..b@docomo.ne.jp", "a.@docomo.ne.jp"] {
        let order = shop::orders::PlaceOrder { customer_email: address.into(), ..order(&[("TEA-1", 1)]) };
        let placed = test.place(order).await;
        let key = format!("order-confirmed:{}", placed.order_id);
        assert_eq!(test.settled(DELIVER_NOTIFICATION.name(), key).await, Status::Completed);
        assert_eq!(test.order(placed.order_id).await.customer_email, address);
    }
    let messages = catcher.messages();
    let to: Vec<_> =
        messages.iter().map(|message| (message.to[0].as_str(), message.header("To").unwrap())).collect();
    for (nth, quoted) in ["\"a..b\"@docomo.ne.jp", "\"a.\"@docomo.ne.jp"].into_iter().enumerate() {
        assert_eq!(to[nth], (quoted, quoted.to_owned()));
    }
    let id = messages[0].message_id().unwrap();
    assert!(id.ends_with(".send-mail@xn--bcher-kva.example>"), "{id}");
    test.close().await;
}

#[tokio::test]
async fn a_message_id_stays_the_same_when_the_sender_changes_between_two_attempts() {
    let catcher = MailCatcher::start().await.unwrap();
    catcher.behave(Behaviour::DropAfterData);
    let settings = |from: &str| Settings {
        send_mail_retry: RetryPolicy { attempts: 1000, ..QUICK },
        ..Settings::new(Mailer::smtp(&catcher.url(), from).unwrap())
    };
    let mails = tempfile::tempdir().unwrap();
    let test = TestShop::with(mails, settings("shop@one.example")).await.start_workers();
    let mail = a_notification();
    let saga = test.shop.engine().start(DELIVER_NOTIFICATION.with(&mail)).await.unwrap().saga_id;
    catcher.wait_for(1).await;
    let test = test.stop_workers().await;
    catcher.behave(Behaviour::Accept);
    let later = super::engine(test.pool().clone(), settings("shop@two.example"));
    let (stop, mut feed) = (tokio_util::sync::CancellationToken::new(), later.feed(notifications::QUEUE, 8));
    let worker = tokio::spawn({
        let (later, stop) = (later.clone(), stop.clone());
        async move { later.run(&mut feed, stop).await }
    });
    assert_eq!(later.wait(saga, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    let messages = catcher.messages();
    assert_eq!(messages.last().unwrap().from, "shop@two.example");
    assert!(
        messages
            .iter()
            .all(|message| message.message_id().unwrap() == format!("<{saga}.send-mail@one.example>"))
    );
    stop.cancel();
    worker.await.unwrap();
    later.shutdown().await;
    test.close().await;
}
