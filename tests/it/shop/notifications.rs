//! The mails that the shop sends, and messages that callers send by the API.

use breakers::{Breaker, BreakerSettings, Dependency};
use std::collections::{BTreeMap, BTreeSet};

use devkit::mail_catcher::{Behaviour, MailCatcher, Stage};
use engine::{Page, RetryPolicy, Status};
use shop::{
    commands::{self, SendNotification, SendNotificationError},
    inventory,
    mail::Mailer,
    notifications::{self, DELIVER_NOTIFICATION, DeliverNotification, NotificationStatus},
    orders::OrderStatus,
    sagas::Settings,
};
use uuid::Uuid;

use super::{QUICK, TestShop, order};

use crate::support::WAIT_TIMEOUT;

fn message(to: &str) -> DeliverNotification {
    DeliverNotification { to: to.into(), subject: "Hello".into(), text: "Hello.".into(), html: None }
}

fn sending(message: DeliverNotification, dedup_key: Option<&str>) -> SendNotification {
    let dedup_key = dedup_key.map(ToOwned::to_owned);
    SendNotification { notification_id: Uuid::now_v7(), message, dedup_key }
}

async fn with_catcher(catcher: &MailCatcher, retry: RetryPolicy) -> TestShop {
    let mailer = Mailer::smtp(&catcher.url(), "shop@example.com").unwrap();
    let settings = Settings { send_mail_retry: retry, ..Settings::new(mailer) };
    TestShop::with(tempfile::tempdir().unwrap(), settings).await
}

#[tokio::test]
async fn a_shipped_order_is_mailed_once_in_text_and_in_html() {
    let catcher = MailCatcher::start().await.unwrap();
    let test = with_catcher(&catcher, QUICK).await.start_workers();
    test.add_product("TEA-1", 10, 5).await;
    let placed = test.place(order(&[("TEA-1", 4)])).await;
    for to in [OrderStatus::Processing, OrderStatus::Shipped, OrderStatus::Delivered] {
        commands::set_order_status(&test.shop, placed.order_id, to, None, "packer", None).await.unwrap();
    }
    let key = format!("order-shipped:{}", placed.order_id);
    assert_eq!(test.settled(DELIVER_NOTIFICATION.name(), key).await, Status::Completed);
    let mails = tokio::time::timeout(WAIT_TIMEOUT, catcher.wait_for(2)).await.unwrap();
    let subject = format!("Your order {} is on its way", placed.order_id);
    let shipped: Vec<_> =
        mails.iter().filter(|mail| mail.header("Subject").as_ref() == Some(&subject)).collect();
    assert_eq!(shipped.len(), 1);
    let kind = shipped[0].header("Content-Type").unwrap();
    assert!(kind.starts_with("multipart/alternative"), "{kind}");
    let body = shipped[0].body();
    let (plain, html) = (body.find("text/plain").unwrap(), body.find("text/html").unwrap());
    assert!(plain < html, "the preferred part comes last");
    test.close().await;
}

#[tokio::test]
async fn markup_in_a_name_is_escaped_in_the_mail() {
    let test = TestShop::open().await.start_workers();
    test.add_product("TEA-1", 10, 5).await;
    let details = shop::inventory::ProductDetails {
        name: "<script>alert(1)</script>".into(),
        description: String::new(),
        category: "tea".into(),
        price: 10,
        currency: "EUR".into(),
        low_stock_threshold: 0,
    };
    let tea = test.add_product("TEA-2", 10, 5).await;
    commands::update_product(&test.shop, tea.product_id, &details, "clerk", None).await.unwrap();
    let placed = test.place(order(&[("TEA-2", 1)])).await;
    let key = format!("order-confirmed:{}", placed.order_id);
    assert_eq!(test.settled(DELIVER_NOTIFICATION.name(), key).await, Status::Completed);
    let (plain, html): (String, String) =
        sqlx::query_as("select text, html from shop.notification").fetch_one(test.pool()).await.unwrap();
    assert!(!html.contains("<script") && html.contains("&#60;script&#62;alert(1)"), "{html}");
    assert!(plain.contains("1 x <script>alert(1)</script> (TEA-2)"), "{plain}");
    let mail = test.mails().remove(0);
    assert!(mail.contains("quoted-printable") && mail.contains("&#60;script&#62;"), "{mail}");
    test.close().await;
}

#[tokio::test]
async fn the_first_message_with_a_dedup_key_is_the_only_one() {
    let test = TestShop::open().await.start_workers();
    let send = async |to: &str, key| {
        commands::send_notification(&test.shop, sending(message(to), key), Some(WAIT_TIMEOUT), "clerk", None)
            .await
            .unwrap()
    };
    let first = send("ann@example.com", Some("news-1")).await;
    assert!(!first.existing);
    assert_eq!(first.notification.status, NotificationStatus::Sent);
    let second = send("bob@example.com", Some("news-1")).await;
    assert!(second.existing);
    assert_eq!(second.notification.notification_id, first.notification.notification_id);
    assert_eq!(second.notification.to, "ann@example.com");
    for key in [Some("news-2"), None, None] {
        assert!(!send("ann@example.com", key).await.existing);
    }
    assert_eq!(test.mails().len(), 4);
    // Sending with the same id again, after a lost response, sends nothing either.
    let request = sending(message("ann@example.com"), None);
    for _ in 0..2 {
        let repeated =
            commands::send_notification(&test.shop, request.clone(), Some(WAIT_TIMEOUT), "clerk", None)
                .await
                .unwrap();
        assert!(!repeated.existing);
    }
    assert_eq!(test.mails().len(), 5);
    assert_eq!(recorded(&test).await, (5, 0), "each that is sent is recorded once, and nothing else");
    test.close().await;
}

/// The number of audit records of sends, and how many of them refer to no existing message.
async fn recorded(test: &TestShop) -> (i64, i64) {
    sqlx::query_as(
        "select count(*), count(*) filter (where not exists ( \
             select from shop.notification n where n.notification_id::text = a.subject_id)) \
         from shop.audit a where a.action = 'notification.send'",
    )
    .fetch_one(test.pool())
    .await
    .unwrap()
}

#[tokio::test]
async fn the_longest_mail_of_the_shop_itself_is_sent() {
    let test = TestShop::open().await.start_workers();
    let widest = inventory::NewProduct {
        sku: "&".repeat(64),
        name: "&".repeat(200),
        description: String::new(),
        category: "tea".into(),
        price: 10,
        currency: "EUR".into(),
        initial_stock: 1000,
        low_stock_threshold: 0,
    };
    let sku = commands::create_product(test.pool(), widest, "clerk").await.unwrap().sku;
    let placed = test.place(order(&vec![(sku.as_str(), 1); 100])).await;
    assert_eq!(placed.status, OrderStatus::Confirmed);
    let key = format!("order-confirmed:{}", placed.order_id);
    assert_eq!(test.settled(DELIVER_NOTIFICATION.name(), key).await, Status::Completed);
    let longest: i32 = sqlx::query_scalar("select max(char_length(html)) from shop.notification")
        .fetch_one(test.pool())
        .await
        .unwrap();
    assert!(longest > 131_072, "longer than a caller's may be: {longest}");
    test.close().await;
}

#[tokio::test]
async fn a_message_with_header_injection_is_refused() {
    let test = TestShop::open().await;
    let wrong = [
        (message("a@example.com\r\nBcc: b@example.com"), "/to"),
        (message("Ann <a@example.com>"), "/to"),
        (
            DeliverNotification { subject: "Hi\r\nBcc: b@example.com".into(), ..message("a@example.com") },
            "/subject",
        ),
        (DeliverNotification { subject: "x".repeat(201), ..message("a@example.com") }, "/subject"),
        (DeliverNotification { text: String::new(), ..message("a@example.com") }, "/text"),
        (DeliverNotification { text: "x".repeat(65_537), ..message("a@example.com") }, "/text"),
        (DeliverNotification { html: Some("\u{1}".into()), ..message("a@example.com") }, "/html"),
    ];
    for (message, pointer) in wrong {
        let refused =
            commands::send_notification(&test.shop, sending(message, None), None, "clerk", None).await;
        let Err(SendNotificationError::Invalid(violations)) = refused else {
            panic!("{pointer}: {refused:?}")
        };
        assert_eq!(violations.len(), 1, "{violations:?}");
        assert_eq!(violations[0].pointer, pointer);
    }
    let refused = commands::send_notification(
        &test.shop,
        sending(message("a@example.com"), Some("a\nb")),
        None,
        "clerk",
        None,
    )
    .await;
    assert!(
        matches!(refused, Err(SendNotificationError::Invalid(wrong)) if wrong[0].pointer == "/dedup_key")
    );
    let any: i64 =
        sqlx::query_scalar("select count(*) from engine.saga").fetch_one(test.pool()).await.unwrap();
    assert_eq!((any, recorded(&test).await), (0, (0, 0)));
    test.close().await;
}

#[tokio::test]
async fn every_attempt_is_listed_with_the_reply_of_the_server_and_sets_the_status() {
    let catcher = MailCatcher::start().await.unwrap();
    catcher.behave(Behaviour::TemporaryFailure(Stage::Recipient));
    let test = with_catcher(&catcher, RetryPolicy { attempts: 2, ..QUICK }).await;
    let request = sending(message("ann@example.com"), None);
    let pending =
        commands::send_notification(&test.shop, request, None, "clerk", None).await.unwrap().notification;
    assert_eq!((pending.status, pending.attempts.len()), (NotificationStatus::Pending, 0));
    let test = test.start_workers();
    let id = pending.notification_id;
    let saga = engine::SagaId(id);
    assert_eq!(test.shop.engine().wait(saga, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Dead);
    let failed = notifications::get(test.shop.engine(), id).await.unwrap().unwrap();
    assert_eq!(failed.status, NotificationStatus::Failed);
    let replies: Vec<_> = failed.attempts.iter().map(|attempt| attempt.reply.as_deref()).collect();
    assert_eq!(replies, [Some("451 try again later"); 2]);

    catcher.behave(Behaviour::PermanentFailure(Stage::Data));
    let revive = async || {
        let page = Page { after: None, limit: 1 };
        let dead = test.shop.engine().dead_jobs(&engine::DeadJobFilter::default(), page).await.unwrap().items;
        test.shop.engine().retry_dead_job(dead[0].dead_job_id, "ops", "again").await.unwrap();
        test.shop.engine().wait(saga, WAIT_TIMEOUT).await.unwrap().unwrap().status
    };
    assert_eq!(revive().await, Status::Dead);
    catcher.behave(Behaviour::Accept);
    assert_eq!(revive().await, Status::Completed);
    let sent = notifications::get(test.shop.engine(), id).await.unwrap().unwrap();
    let replies: Vec<_> = sent.attempts.iter().map(|attempt| attempt.reply.as_deref().unwrap()).collect();
    assert_eq!(
        replies,
        ["451 try again later", "451 try again later", "550 no such mailbox", "250 OK, kept"]
    );
    assert_eq!(sent.status, NotificationStatus::Sent);
    let page = Page { after: None, limit: 9 };
    for (status, count) in [(NotificationStatus::Sent, 1), (NotificationStatus::Failed, 0)] {
        let listed = notifications::list(test.pool(), status, page).await.unwrap().items;
        assert_eq!(listed.len(), count, "{status:?}");
    }
    test.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_continue_while_the_mail_server_hangs_and_every_mail_arrives_once_it_answers() {
    let catcher = MailCatcher::start().await.unwrap();
    catcher.behave(Behaviour::NeverGreet);
    let mailer = Mailer::smtp(&catcher.url(), "shop@example.com")
        .unwrap()
        .with_timeout(WAIT_TIMEOUT)
        .with_breaker(Breaker::new(
            Dependency::Smtp,
            BreakerSettings {
                failures: 3,
                open_duration: std::time::Duration::from_millis(100),
                successes_to_close: 1,
            },
        ));
    let settings =
        Settings { send_mail_retry: RetryPolicy { attempts: 1000, ..QUICK }, ..Settings::new(mailer) };
    let test = TestShop::with(tempfile::tempdir().unwrap(), settings).await.start_workers();
    test.add_product("TEA-1", 10, 1000).await;
    // There are more mails than the queue has slots, so that orders could starve behind them.
    let placed = futures::future::join_all((0..300).map(|_| test.place(order(&[("TEA-1", 1)])))).await;
    assert!(placed.iter().all(|order| order.status == OrderStatus::Confirmed));
    assert!(catcher.messages().is_empty());
    let later = test.place(order(&[("TEA-1", 1)])).await;
    assert_eq!(later.status, OrderStatus::Confirmed, "an order that is placed when all slots are taken");
    let page = Page { after: None, limit: 1 };
    assert!(
        notifications::list(test.pool(), NotificationStatus::Failed, page).await.unwrap().items.is_empty()
    );

    catcher.behave(Behaviour::Accept);
    for order in placed.iter().chain([&later]) {
        let key = format!("order-confirmed:{}", order.order_id);
        assert_eq!(test.settled(DELIVER_NOTIFICATION.name(), key).await, Status::Completed);
    }
    let mut by_id = BTreeMap::new();
    for mail in catcher.messages() {
        *by_id.entry(mail.message_id().unwrap()).or_insert(0) += 1;
    }
    assert_eq!(by_id.len(), 301);
    assert_eq!(
        by_id.into_values().collect::<BTreeSet<_>>(),
        BTreeSet::from([1]),
        "a server that never greeted has none"
    );
    test.close().await;
}
