//! A worker process that is stopped for longer than its lease and then continues.

use devkit::mail_catcher::Behaviour;

use super::test_cluster::{TestCluster, at_least, stops_cleanly};

/// Fewer orders than the mails that one process sends at a time, so that all mails are in progress at once.
const ORDERS: i64 = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_writes_of_a_worker_that_was_stopped_beyond_its_lease_are_refused() {
    let test = TestCluster::open().await;
    // No mail completes, so that the worker is stopped while it sends all of them, and has no open transaction.
    test.catcher.behave(Behaviour::NeverGreet);
    let served = test.serve().await;
    served.client.add_product("TEA-1", 1000).await;
    let sleeper = test.work().await;
    for _ in 0..ORDERS {
        served.client.place("ann@example.com", "TEA-1", 1).await;
    }
    at_least("mails in progress", ORDERS, || test.mails_under_way()).await;
    sleeper.sigstop().await;
    test.catcher.behave(Behaviour::Accept);

    let overtaker = test.work().await;
    test.wait_until_no_saga_is_active().await;
    let lost = test.lost_attempts().await;
    assert!(lost > 0, "nothing was overtaken");
    let sent = "select count(*) from shop.notification where status = 'sent'";
    assert_eq!(test.count(sent).await, ORDERS);
    let history = "select count(*) from engine.history";
    let written = test.count(history).await;

    sleeper.sigcont();
    sleeper.wait_for_line("a claim was lost; its work was dropped").await;
    // By its end the stopped worker has settled or abandoned every mail that it was sending.
    stops_cleanly(sleeper).await;
    assert_eq!(test.count(history).await, written, "a write of the sleeper was accepted");
    let appended = "select count(*) from (select routing_key from shop.outbox union all select routing_key from shop.event) e \
                where routing_key = 'notification.sent'";
    assert_eq!(test.count(appended).await, ORDERS);
    test.assert_mails_are_those_that_were_sent().await;
    test.assert_all_well().await;
    stops_cleanly(overtaker).await;
    stops_cleanly(served.process).await;
}
