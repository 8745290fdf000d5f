//! Worker processes that are stopped by SIGTERM.

use std::time::Duration;

use devkit::mail_catcher::Behaviour;

use super::load::Load;
use super::test_cluster::{TestCluster, at_least, stops_cleanly};

const ORDERS: usize = 200;

/// A lease so long that a test can't wait for its end.
const ENDLESS_LEASE: (&str, &str) = ("LEASE_SECONDS", "3600");

/// Stops a worker while it sends mails, and lets another one finish.
async fn end_a_worker_under_load(test: &TestCluster, busy: Behaviour) {
    test.catcher.behave(busy);
    let served = test.serve().await;
    served.client.add_product("TEA-1", 10_000).await;
    let leaver = test.work().await;
    let mut load = Load::start(&served.client, "TEA-1", ORDERS);
    load.reaches(ORDERS / 3).await;
    at_least("mails in progress", 8, || test.mails_under_way()).await;
    stops_cleanly(leaver).await;
    assert_eq!(test.leased().await, 0, "a lease was left behind");
    let left = "select count(*) from engine.saga where status = 'running'";
    assert!(test.count(left).await > 0, "there was no load");

    test.catcher.behave(Behaviour::Accept);
    let successor = test.work().await;
    let orders = load.all().await;
    test.wait_until_no_saga_is_active().await;
    assert_eq!(test.lost_attempts().await, 0, "something was taken over");
    for order_id in orders {
        assert_eq!(test.order(order_id).await.0, "confirmed");
        test.sent_message_id(&format!("order-confirmed:{order_id}")).await;
    }
    test.assert_mails_are_those_that_were_sent().await;
    test.assert_all_well().await;
    stops_cleanly(successor).await;
    stops_cleanly(served.process).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_stopped_under_load_finishes_its_mails_and_releases_every_lease() {
    let mut test = TestCluster::open().await;
    test.set(ENDLESS_LEASE.0, ENDLESS_LEASE.1);
    end_a_worker_under_load(&test, Behaviour::Trickle(Duration::from_millis(5))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_worker_abandons_mails_beyond_its_deadline_and_releases_every_lease() {
    let mut test = TestCluster::open().await;
    test.set(ENDLESS_LEASE.0, ENDLESS_LEASE.1);
    test.set("SHUTDOWN_DEADLINE", "500ms");
    end_a_worker_under_load(&test, Behaviour::NeverGreet).await;
}
