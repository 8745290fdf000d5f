//! Concurrent duplicates of one request at several processes.

use futures::future::join_all;
use serde_json::{Value, json};

use super::test_cluster::{HttpProcess, TestCluster, id, order, stops_cleanly};

const TIMES: usize = 50;

/// Posts the same body with the same key to the servers in turn, all at once.
async fn flood(servers: &[HttpProcess], path: &str, key: &str, body: &Value) -> Vec<Value> {
    join_all(
        (0..TIMES).map(|number| servers[number % servers.len()].client.post_until_accepted(path, key, body)),
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_concurrent_requests_with_one_key_at_two_servers_have_one_effect() {
    let mut test = TestCluster::open().await;
    test.set("LEASE_SECONDS", "3600");
    let servers = [test.serve().await, test.serve().await];
    let workers = [test.work().await, test.work().await];
    servers[0].client.add_product("TEA-1", 100).await;

    for key in ["checkout-1", "checkout-2", "checkout-3"] {
        let answers = flood(&servers, "/api/orders", key, &order("ann@example.com", "TEA-1", 2)).await;
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    }
    assert_eq!(test.count("select count(*) from shop.orders").await, 3);

    for business_key in ["hello-1", "hello-2", "hello-3"] {
        let delivery = json!({
            "definition": "deliver-notification", "business_key": business_key,
            "input": {"to": "bob@example.com", "subject": "Hello", "text": "Hello.\n"},
        });
        let answers = flood(&servers, "/api/workflows", "", &delivery).await;
        let ids: Vec<_> = answers.iter().map(|answer| id(answer, "workflow_id")).collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{answers:?}");
    }

    test.wait_until_no_saga_is_active().await;
    assert_eq!(test.count("select count(*) from engine.saga").await, 3 + 3 + 3);
    assert_eq!(test.count("select sum(reserved)::bigint from shop.stock").await, 6);
    assert_eq!(test.count("select count(*) from shop.orders where status = 'confirmed'").await, 3);
    // No process was killed, so no mail had to be sent twice.
    assert_eq!(test.assert_mails_are_those_that_were_sent().await, 0);
    test.assert_all_well().await;
    for process in workers.into_iter().chain(servers.into_iter().map(|served| served.process)) {
        stops_cleanly(process).await;
    }
}
