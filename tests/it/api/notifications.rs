//! Notifications over HTTP.

use devkit::mail_catcher::{Behaviour, MailCatcher, Stage};
use engine::Engine;
use reqwest::Method;
use serde_json::{Value, json};
use shop::{
    mail::Mailer,
    notifications::QUEUE,
    sagas::{self, Settings},
};
use tokio_util::sync::CancellationToken;

use super::fixtures::{TestApi, body, generous_limits, problem};

use crate::support::WAIT_TIMEOUT;

/// A notification with its own text, without a template.
fn with_own_text() -> Value {
    json!({"to": "ann@example.com", "subject": "Hello", "text": "Hello.", "html": "<p>Hello.</p>"})
}

/// As [`with_own_text`], with one field changed.
fn with(name: &str, value: impl Into<Value>) -> Value {
    let mut new = with_own_text();
    new[name] = value.into();
    new
}

/// A notification with the template `low-stock`.
fn templated(variables: &Value) -> Value {
    json!({"to": "ann@example.com", "template": "low-stock", "variables": variables})
}

fn low_stock_variables(sku: &Value, threshold: &Value) -> Value {
    json!({"products": [{"sku": sku, "available": 1, "threshold": threshold}]})
}

/// The pointers of the errors of a problem.
fn pointers(problem: &Value) -> Vec<String> {
    let errors = problem["errors"].as_array().unwrap();
    errors.iter().map(|error| error["pointer"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn every_wrong_field_of_a_notification_is_named_by_its_pointer() {
    let shop = TestApi::without_workers(generous_limits()).await;
    let cases = [
        (with("to", "nobody"), vec!["/to"]),
        (with("to", "ann@example.com\r\nBcc: bob@example.com"), vec!["/to"]),
        (with("subject", "Hello\r\nBcc: bob@example.com"), vec!["/subject"]),
        (with("subject", "\u{0}"), vec!["/subject"]),
        (with("subject", "x".repeat(201)), vec!["/subject"]),
        (with("text", ""), vec!["/text"]),
        (with("text", "x".repeat(65_537)), vec!["/text"]),
        (with("html", "x".repeat(131_073)), vec!["/html"]),
        (with("dedup_key", "x".repeat(129)), vec!["/dedup_key"]),
        (with("dedup_key", "a\nb"), vec!["/dedup_key"]),
        (with("cc", "bob@example.com"), vec!["/cc"]),
        (with("variables", json!({})), vec!["/variables"]),
        (with("template", "low-stock"), vec!["/subject", "/text", "/html"]),
        (json!({"to": "ann@example.com"}), vec!["/subject", "/text"]),
        (json!({"subject": "Hello", "text": "Hello."}), vec!["/to"]),
        (json!({"to": "ann@example.com", "template": "none", "variables": {}}), vec!["/template"]),
        (json!({"to": "ann@example.com", "template": "low-stock"}), vec!["/variables/products"]),
        (
            templated(&json!({"products": [{"sku": "A", "available": 1}], "most": 2})),
            vec!["/variables/most", "/variables/products/0/threshold"],
        ),
        (
            templated(&low_stock_variables(&json!(7), &json!("2"))),
            vec!["/variables/products/0/sku", "/variables/products/0/threshold"],
        ),
        (
            templated(&low_stock_variables(&json!("A\r\nBcc: b@example.com"), &json!(2))),
            vec!["/variables/products/0/sku"],
        ),
    ];
    for (new, expected) in cases {
        let refused = problem(shop.post("/api/notifications", &new).await, 422, "invalid-body").await;
        let mut found = pointers(&refused);
        found.sort_unstable();
        let mut expected = expected;
        expected.sort_unstable();
        assert_eq!(found, expected, "{new}");
    }
    let listed = body(shop.get("/api/notifications/status/pending").await, 200).await;
    assert_eq!(listed["items"], json!([]));
}

#[tokio::test]
async fn a_notification_is_sent_and_lists_its_attempts() {
    let shop = TestApi::with_workers().await;
    let request = shop.request(Method::POST, "/api/notifications").header("Prefer", "wait=20");
    let answer = request.json(&with_own_text()).send().await.unwrap();
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(answer.headers()["preference-applied"], "wait=20");
    let sent = body(answer, 201).await;
    assert_eq!((&sent["status"], &sent["html"]), (&json!("sent"), &json!("<p>Hello.</p>")));
    assert_eq!(location, format!("/api/notifications/{}", sent["notification_id"].as_str().unwrap()));
    let read = body(shop.get(&location).await, 200).await;
    assert_eq!(read, sent);
    let attempts = read["attempts"].as_array().unwrap();
    assert_eq!((attempts.len(), &attempts[0]["outcome"]), (1, &json!("done")));
    assert!(attempts[0]["reply"].as_str().unwrap().starts_with("250 written to "), "{read}");

    let by_template = templated(&low_stock_variables(&json!("<b>TEA-1</b>"), &json!(2)));
    let by_template = body(shop.post("/api/notifications", &by_template).await, 201).await;
    assert_eq!(by_template["subject"], "Stock of <b>TEA-1</b> is low");
    let html = by_template["html"].as_str().unwrap();
    assert!(html.contains("TEA-1") && !html.contains("<b>"), "{html}");
}

#[tokio::test]
async fn a_repeated_notification_is_sent_once() {
    let shop = TestApi::without_workers(generous_limits()).await;
    let post = async |new: &Value, key: &str| {
        let request = shop.request(Method::POST, "/api/notifications").header("Idempotency-Key", key);
        request.json(new).send().await.unwrap()
    };
    let new = with("dedup_key", "news-1");
    let first = body(post(&new, "k-1").await, 201).await;
    let replayed = post(&new, "k-1").await;
    assert_eq!(replayed.headers()["idempotent-replayed"], "true");
    assert_eq!(body(replayed, 201).await, first);
    problem(post(&with_own_text(), "k-1").await, 422, "idempotency-mismatch").await;
    // Another request for the same notification finds the first one.
    let found = body(post(&new, "k-2").await, 200).await;
    assert_eq!(found["notification_id"], first["notification_id"]);
    let other = body(post(&with_own_text(), "k-3").await, 201).await;
    assert_ne!(other["notification_id"], first["notification_id"]);

    let page = body(shop.get("/api/notifications/status/pending?limit=1").await, 200).await;
    assert_eq!(page["items"][0]["notification_id"], other["notification_id"]);
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = body(shop.get(&format!("/api/notifications/status/pending?cursor={cursor}")).await, 200).await;
    assert_eq!(rest["items"].as_array().unwrap().len(), 1);
    assert_eq!(rest["items"][0]["notification_id"], first["notification_id"]);
    let sent = format!("/api/notifications/status/sent?cursor={cursor}");
    problem(shop.get(&sent).await, 400, "invalid-cursor").await;
    problem(shop.get("/api/notifications/status/lost").await, 400, "invalid-parameter").await;
    problem(shop.get("/api/notifications/0199f3a0-0000-7000-8000-000000000000").await, 404, "not-found")
        .await;
}

#[tokio::test]
async fn a_dead_notification_is_sent_after_its_dead_job_is_retried() {
    let catcher = MailCatcher::start().await.unwrap();
    catcher.behave(Behaviour::PermanentFailure(Stage::Recipient));
    let shop = TestApi::without_workers(generous_limits()).await;
    // A worker of its own delivers, through the mail catcher.
    let mailer = Mailer::smtp(&catcher.url(), "shop@example.com").unwrap();
    let builder = Engine::builder(shop.engine.pool().clone());
    let definitions = sagas::definitions(Settings::new(mailer)).unwrap();
    let worker = definitions.into_iter().fold(builder, engine::EngineBuilder::register).build().unwrap();
    let quit = CancellationToken::new();
    let mut feed = worker.feed(QUEUE, 8);
    let working = tokio::spawn({
        let (worker, quit) = (worker.clone(), quit.clone());
        async move { worker.run(&mut feed, quit).await }
    });

    let request = shop.request(Method::POST, "/api/notifications").header("Prefer", "wait=20");
    let dead = body(request.json(&with_own_text()).send().await.unwrap(), 201).await;
    assert_eq!(
        (&dead["status"], &dead["attempts"][0]["reply"]),
        (&json!("failed"), &json!("550 no such mailbox"))
    );
    let listed = body(shop.get("/api/notifications/status/failed").await, 200).await;
    assert_eq!(listed["items"][0]["notification_id"], dead["notification_id"]);
    let jobs = body(shop.get("/api/dead-jobs?definition=deliver-notification").await, 200).await;
    assert_eq!(jobs["items"][0]["workflow_id"], dead["workflow_id"]);

    catcher.behave(Behaviour::Accept);
    let retry = format!("/api/dead-jobs/{}/retry", jobs["items"][0]["dead_job_id"].as_str().unwrap());
    body(shop.post(&retry, &json!({"reason": "the mailbox is back"})).await, 202).await;
    let mail = tokio::time::timeout(WAIT_TIMEOUT, catcher.wait_for(1)).await.unwrap().remove(0);
    let id = dead["notification_id"].as_str().unwrap();
    let saga_id = engine::SagaId(id.parse().unwrap());
    assert!(shop.engine.wait(saga_id, WAIT_TIMEOUT).await.unwrap().is_some());
    let sent = body(shop.get(&format!("/api/notifications/{id}")).await, 200).await;
    assert_eq!((&sent["status"], &sent["message_id"]), (&json!("sent"), &json!(mail.message_id())));
    let replies: Vec<_> =
        sent["attempts"].as_array().unwrap().iter().map(|attempt| &attempt["reply"]).collect();
    assert_eq!(replies, ["550 no such mailbox", "250 OK, kept"]);
    quit.cancel();
    working.await.unwrap();
    worker.shutdown().await;
}

#[tokio::test]
async fn the_example_of_every_listed_template_can_be_sent() {
    let shop = TestApi::without_workers(generous_limits()).await;
    let listed = body(shop.get("/api/notification-templates").await, 200).await;
    let names: Vec<_> =
        listed["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "order-confirmed",
            "order-rejected",
            "order-cancelled",
            "order-shipped",
            "payment-reminder",
            "return-approved",
            "return-received",
            "return-closed",
            "low-stock",
        ]
    );
    for template in listed["items"].as_array().unwrap() {
        assert_eq!(template["variables"]["additionalProperties"], false, "{template}");
        let new =
            json!({"to": "ann@example.com", "template": template["name"], "variables": template["example"]});
        let sent = body(shop.post("/api/notifications", &new).await, 201).await;
        assert_eq!(sent["subject"], template["subject"]);
    }
}
