//! Processes that are killed under load.

use std::time::Duration;

use devkit::mail_catcher::Behaviour;

use super::load::Load;
use super::test_cluster::{TestCluster, at_least, order, stops_cleanly};
use crate::support::RedisServer;

const ORDERS: usize = 300;

async fn kill_a_worker_under_load(test: &TestCluster) {
    // Slow enough that the worker is always sending mails when it is killed.
    test.catcher.behave(Behaviour::Trickle(Duration::from_millis(5)));
    let served = test.serve().await;
    served.client.add_product("TEA-1", 10_000).await;
    let mut victim = test.work().await;
    let mut load = Load::start(&served.client, "TEA-1", ORDERS);
    load.reaches(ORDERS / 3).await;
    at_least("mails in progress", 8, || test.mails_under_way()).await;
    victim.kill9().await;
    assert!(test.leased().await > 0, "the killed worker held no saga");
    test.catcher.behave(Behaviour::Accept);

    let successor = test.work().await;
    let orders = load.all().await;
    assert_eq!(orders.len(), ORDERS);
    test.wait_until_no_saga_is_active().await;
    assert!(test.lost_attempts().await > 0, "nothing was taken over");
    for order_id in orders {
        let (status, _, held) = test.order(order_id).await;
        assert_eq!((status.as_str(), held), ("confirmed", 1), "order {order_id}");
        test.sent_message_id(&format!("order-confirmed:{order_id}")).await;
    }
    test.assert_mails_are_those_that_were_sent().await;
    test.assert_all_well().await;
    stops_cleanly(successor).await;
    stops_cleanly(served.process).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_killed_under_load_is_replaced_and_no_mail_is_missing() {
    kill_a_worker_under_load(&TestCluster::open().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_killed_under_load_is_replaced_with_due_hints_through_redis() {
    let redis = RedisServer::start().await.unwrap();
    let mut test = TestCluster::open().await;
    test.set("REDIS_URL", &redis.url());
    kill_a_worker_under_load(&test).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_whose_server_is_killed_right_after_the_answer_is_completed() {
    let test = TestCluster::open().await;
    let mut served = test.serve().await;
    served.client.add_product("TEA-1", 10).await;
    let order_id = served.client.place("ann@example.com", "TEA-1", 3).await;
    served.process.kill9().await;

    let worker = test.work().await;
    test.wait_until_no_saga_is_active().await;
    let (status, _, held) = test.order(order_id).await;
    assert_eq!((status.as_str(), held), ("confirmed", 3));
    test.sent_message_id(&format!("order-confirmed:{order_id}")).await;
    test.assert_mails_are_those_that_were_sent().await;
    test.assert_all_well().await;
    stops_cleanly(worker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_under_load_leaves_complete_orders_that_clients_find_by_their_keys() {
    const CLIENTS: usize = 40;
    let test = TestCluster::open().await;
    let mut served = test.serve().await;
    served.client.add_product("TEA-1", 1000).await;
    let worker = test.work().await;
    let bodies: Vec<_> = (0..CLIENTS).map(|_| order("ann@example.com", "TEA-1", 1)).collect();

    // A client without an answer from the first server sends the request to the second one, with the same key.
    let second = test.serve().await;
    let (first, other) = (served.client.clone(), second.client.clone());
    let clients = bodies.iter().enumerate().map(|(number, body)| {
        let (first, other, key) = (first.clone(), other.clone(), format!("checkout-{number}"));
        async move {
            match first.once("/api/orders", &key, body).await {
                Ok(answer) => answer,
                Err(_) => other.post_until_accepted("/api/orders", &key, body).await,
            }
        }
    });
    let killing = async {
        at_least("orders", 5, || test.count("select count(*) from shop.orders")).await;
        served.process.kill9().await;
    };
    let both = async { futures::join!(futures::future::join_all(clients), killing) };
    let (answers, ()) = test.with_keys_given_up_early(both).await;

    test.wait_until_no_saga_is_active().await;
    assert_eq!(usize::try_from(test.count("select count(*) from shop.orders").await).unwrap(), CLIENTS);
    for answer in answers {
        let (status, _, held) = test.order(super::test_cluster::id(&answer, "order_id")).await;
        assert_eq!((status.as_str(), held), ("confirmed", 1), "{answer}");
    }
    test.assert_mails_are_those_that_were_sent().await;
    test.assert_all_well().await;
    stops_cleanly(worker).await;
    stops_cleanly(second.process).await;
}
