//! A worker process that stands still for longer than its leases, and goes on as if nothing had been.

use devkit::mail_catcher::Behaviour;

use super::test_cluster::{TestCluster, at_least, ends_in_order};

/// Below what one process sends at a time, so that all mails are under way at once.
const ORDERS: i64 = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_stopped_beyond_its_lease_and_overtaken_has_its_writes_refused() {
    let test = TestCluster::open().await;
    // No mail goes on, so that the sleeper is stopped in the middle of them all and holds no transaction open.
    test.catcher.behave(Behaviour::NeverGreet);
    let served = test.serve().await;
    served.client.add_product("TEA-1", 1000).await;
    let sleeper = test.work().await;
    for _ in 0..ORDERS {
        served.client.place("ann@example.com", "TEA-1", 1).await;
    }
    at_least("mails under way", ORDERS, || test.mails_under_way()).await;
    sleeper.sigstop().await;
    test.catcher.behave(Behaviour::Accept);

    let overtaker = test.work().await;
    test.all_at_rest().await;
    let lost = test.lost_attempts().await;
    assert!(lost > 0, "nothing was overtaken");
    let sent = "select count(*) from shop.notification where status = 'sent'";
    assert_eq!(test.count(sent).await, ORDERS);
    let history = "select count(*) from engine.history";
    let written = test.count(history).await;

    sleeper.sigcont();
    sleeper.wait_for_line("a claim was lost; its work was dropped").await;
    // By its end the sleeper has brought home, or given up, every mail that it was in the middle of.
    ends_in_order(sleeper).await;
    assert_eq!(test.count(history).await, written, "a write of the sleeper was accepted");
    let told = "select count(*) from (select routing_key from shop.outbox union all select routing_key from shop.event) e \
                where routing_key = 'notification.sent'";
    assert_eq!(test.count(told).await, ORDERS);
    test.assert_mails_are_those_that_were_sent().await;
    test.assert_all_well().await;
    ends_in_order(overtaker).await;
    ends_in_order(served.process).await;
}
