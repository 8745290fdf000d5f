//! Mail outages under load: the breaker opens visibly, orders continue, and after the outage every mail has arrived
//! once.

use devkit::mail_catcher::Behaviour;
use serde_json::Value;
use uuid::Uuid;

use super::{
    load::Load,
    test_cluster::{HttpProcess, TestCluster, until},
};

/// The number of orders in each part of a test.
const ORDERS: usize = 40;

impl TestCluster {
    /// Waits until all of these orders are confirmed.
    async fn all_confirmed(&self, orders: &[Uuid]) {
        let confirmed = "select count(*) from shop.orders where order_id = any($1) and status = 'confirmed'";
        until("all orders to be confirmed", || async {
            let count: i64 = sqlx::query_scalar(confirmed).bind(orders).fetch_one(&self.pool).await.unwrap();
            if count == i64::try_from(orders.len()).unwrap() { Ok(()) } else { Err(count) }
        })
        .await;
    }

    async fn dead_jobs(&self) -> i64 {
        self.count("select count(*) from engine.dead_job").await
    }
}

/// Places orders, and returns their ids.
async fn place_orders(served: &HttpProcess) -> Vec<Uuid> {
    Load::start(&served.client, "TEA-1", ORDERS).all().await
}

/// The worker's breaker of the mail server, as the API lists it.
async fn smtp_breaker(served: &HttpProcess) -> Value {
    let list = served.client.json("/api/circuit-breakers").await;
    let items = list["items"].as_array().unwrap();
    let is_it = |item: &&Value| item["process"] == "work" && item["dependency"] == "smtp";
    items.iter().find(is_it).cloned().unwrap_or_default()
}

/// Waits until the worker's breaker reports this many consecutive failures.
async fn fails(served: &HttpProcess, least: i64) {
    until("the breaker to count failures", || async {
        let breaker = smtp_breaker(served).await;
        if breaker["failures"].as_i64().unwrap_or_default() >= least { Ok(()) } else { Err(breaker) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn during_a_mail_outage_orders_continue_and_every_mail_arrives_once_after_it() {
    let mut test = TestCluster::open().await;
    for (name, value) in [
        ("BREAKER_SMTP_FAILURES", "3"),
        ("BREAKER_SMTP_OPEN", "1s"),
        ("SMTP_REPLY_TIMEOUT", "3s"),
        ("LEASE_SECONDS", "3600"),
        ("QUEUE_CONCURRENCY_NOTIFICATIONS", "4"),
    ] {
        test.set(name, value);
    }
    let (served, worker) = (test.serve().await, test.worker().await);
    served.client.add_product("TEA-1", 1_000_000).await;
    let mut orders = place_orders(&served).await;
    // If a server disappears during a mail, it is unknown whether it has it.
    test.wait_until_no_saga_is_active().await;
    assert_eq!(smtp_breaker(&served).await["state"], "closed");

    test.catcher.behave(Behaviour::Refuse);
    orders.extend(place_orders(&served).await);
    test.all_confirmed(&orders).await;
    fails(&served, 3).await;
    until("everybody to see it", || async {
        let listed = smtp_breaker(&served).await["state"].as_str().unwrap_or_default().to_owned();
        let health = served.client.json("/health").await;
        let metrics = worker.client.text("/metrics").await;
        let gauge = metrics.lines().find(|line| line.starts_with("sagaline_breaker_state{"));
        let seen = (listed, health["parts"]["breakers"].clone(), gauge.unwrap_or_default().to_owned());
        let is_seen = seen.0 != "closed"
            && seen.1["state"] == "degraded"
            && seen.1["not_closed"][0] == "smtp"
            && ["1", "2"].iter().any(|state| seen.2.ends_with(&format!("\"smtp\"}} {state}")));
        if is_seen { Ok(()) } else { Err(seen) }
    })
    .await;

    // Now the server hangs, and each probe fails.
    test.catcher.behave(Behaviour::NeverGreet);
    let failures = smtp_breaker(&served).await["failures"].as_i64().unwrap();
    orders.extend(place_orders(&served).await);
    test.all_confirmed(&orders).await;
    fails(&served, failures + 2).await;
    assert!(test.catcher.messages().len() == ORDERS, "no mail has arrived since");
    assert_eq!(test.dead_jobs().await, 0);

    test.catcher.behave(Behaviour::Accept);
    orders.extend(place_orders(&served).await);
    test.wait_until_no_saga_is_active().await;
    test.all_confirmed(&orders).await;
    assert_eq!(test.assert_mails_are_those_that_were_sent().await, 0, "no mail arrived twice");
    assert_eq!(test.catcher.messages().len(), orders.len());
    assert_eq!(test.dead_jobs().await, 0);
    assert_eq!(smtp_breaker(&served).await["state"], "closed");
    test.assert_all_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_are_confirmed_while_hanging_mails_hold_every_slot() {
    const PLACES: i64 = 4;
    let mut test = TestCluster::open().await;
    test.set("QUEUE_CONCURRENCY_NOTIFICATIONS", "4");
    test.set("LEASE_SECONDS", "3600");
    let (served, _worker) = (test.serve().await, test.worker().await);
    served.client.add_product("TEA-1", 1_000_000).await;
    test.catcher.behave(Behaviour::NeverGreet);
    let mut orders = place_orders(&served).await;
    let all_taken = || {
        until("every slot to be taken", || async {
            let taken = test.mails_under_way().await;
            if taken == PLACES { Ok(()) } else { Err(taken) }
        })
    };
    all_taken().await;
    orders.extend(place_orders(&served).await);
    test.all_confirmed(&orders).await;
    all_taken().await;
    assert!(test.catcher.messages().is_empty());

    test.catcher.behave(Behaviour::Accept);
    test.wait_until_no_saga_is_active().await;
    assert_eq!(test.assert_mails_are_those_that_were_sent().await, 0, "no mail arrived twice");
    assert_eq!(test.catcher.messages().len(), orders.len());
    test.assert_all_well().await;
}
