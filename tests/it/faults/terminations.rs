//! Worker processes that are told to end.

use std::time::Duration;

use devkit::mail_catcher::Behaviour;

use super::load::Load;
use super::test_cluster::{TestCluster, at_least, ends_in_order};

const ORDERS: usize = 200;

/// Whoever would wait for such a lease would wait in vain.
const ENDLESS_LEASE: (&str, &str) = ("LEASE_SECONDS", "3600");

/// Tells a worker to end when it is busy with mails, and has another finish.
async fn end_a_worker_under_load(test: &TestCluster, busy: Behaviour) {
    test.catcher.behave(busy);
    let served = test.serve().await;
    served.client.add_product("TEA-1", 10_000).await;
    let leaver = test.work().await;
    let mut load = Load::start(&served.client, "TEA-1", ORDERS);
    load.reaches(ORDERS / 3).await;
    at_least("mails under way", 8, || test.mails_under_way()).await;
    ends_in_order(leaver).await;
    assert_eq!(test.leased().await, 0, "a lease was left behind");
    let left = "select count(*) from engine.saga where status = 'running'";
    assert!(test.count(left).await > 0, "there was no load");

    test.catcher.behave(Behaviour::Accept);
    let successor = test.work().await;
    let orders = load.all().await;
    test.all_at_rest().await;
    assert_eq!(test.lost_attempts().await, 0, "something was taken over");
    for order_id in orders {
        assert_eq!(test.order(order_id).await.0, "confirmed");
        test.sent_message_id(&format!("order-confirmed:{order_id}")).await;
    }
    test.assert_mails_are_those_that_were_sent().await;
    test.assert_all_well().await;
    ends_in_order(successor).await;
    ends_in_order(served.process).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_told_to_end_under_load_finishes_its_mails_and_leaves_nothing_leased() {
    let mut test = TestCluster::open().await;
    test.set(ENDLESS_LEASE.0, ENDLESS_LEASE.1);
    end_a_worker_under_load(&test, Behaviour::Trickle(Duration::from_millis(5))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_told_to_end_gives_up_mails_that_take_too_long_and_leaves_nothing_leased() {
    let mut test = TestCluster::open().await;
    test.set(ENDLESS_LEASE.0, ENDLESS_LEASE.1);
    test.set("SHUTDOWN_DEADLINE", "500ms");
    end_a_worker_under_load(&test, Behaviour::NeverGreet).await;
}
