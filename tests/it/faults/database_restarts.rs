//! A PostgreSQL that is restarted under load.

use devkit::postgres::{Cluster, Durability, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::load::Load;
use super::test_cluster::{TestCluster, stops_cleanly, until};
use crate::support::TempState;

const ORDERS: usize = 200;

/// Ends the server without an orderly shutdown and starts it again.
async fn restart(cluster: Cluster, options: &Options, signal: Signal) -> Cluster {
    let pid = Pid::from_raw(cluster.pid());
    kill(pid, signal).unwrap();
    // The server is our child, so its process stays until it is reaped.
    until("the server to be gone", || async {
        match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => Err("it runs"),
            Ok(_) | Err(_) => Ok(()),
        }
    })
    .await;
    cluster.detach();
    let cluster = Cluster::start(options.clone()).await.unwrap();
    assert!(!cluster.was_adopted());
    cluster
}

/// Checks that all orders are placed while this signal ends the database server twice.
async fn outlive(signal: Signal) {
    let state = TempState::new();
    let options = Options { durability: Durability::Durable, ..state.options() };
    let mut cluster = Cluster::start(options.clone()).await.unwrap();
    let test = TestCluster::on(TempState::migrated(&cluster, "shop").await).await;
    let served = test.serve().await;
    served.client.add_product("TEA-1", 10_000).await;
    let worker = test.work().await;

    let mut load = Load::start(&served.client, "TEA-1", ORDERS);
    for _ in 0..2 {
        let acknowledged = load.acknowledged();
        load.reaches(acknowledged + ORDERS / 4).await;
        cluster = restart(cluster, &options, signal).await;
    }
    let orders = load.all().await;
    assert_eq!(orders.len(), ORDERS);
    test.wait_until_no_saga_is_active().await;
    for order_id in orders {
        let (status, _, held) = test.order(order_id).await;
        assert_eq!((status.as_str(), held), ("confirmed", 1), "order {order_id}");
        test.sent_message_id(&format!("order-confirmed:{order_id}")).await;
    }
    // An order that was stored without an answer is found by its key, not placed again.
    let stored = test.count("select count(*) from shop.orders").await;
    assert_eq!(usize::try_from(stored).unwrap(), ORDERS);
    test.assert_mails_are_those_that_were_sent().await;
    test.assert_all_well().await;
    // Both are the processes that were started first: neither ended or was restarted.
    stops_cleanly(worker).await;
    stops_cleanly(served.process).await;
    test.pool.close().await;
    cluster.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_and_worker_survive_an_immediate_shutdown_of_postgresql() {
    outlive(Signal::SIGQUIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_and_worker_survive_a_killed_postgresql() {
    outlive(Signal::SIGKILL).await;
}
