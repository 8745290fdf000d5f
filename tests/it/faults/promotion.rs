//! A primary that dies, and a streaming standby that is promoted behind the same address.

use devkit::postgres::{Cluster, Durability, Options};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};

use super::{
    load::Load,
    proxy::Proxy,
    test_cluster::{HttpProcess, TestCluster, at_least, order, stops_cleanly, until},
};
use crate::support::TempState;

const ORDERS: usize = 120;

/// Makes commits wait until the standby has them, so that none that was acknowledged is lost with the primary.
async fn commit_on_both(primary: &Cluster) {
    let mut admin = PgConnection::connect(&primary.url("postgres")).await.unwrap();
    admin.execute("alter system set synchronous_standby_names = '*'").await.unwrap();
    admin.execute("select pg_reload_conf()").await.unwrap();
    at_least("a synchronous standby", 1, || async {
        let sync =
            "select count(*) from pg_stat_replication where sync_state = 'sync' and state = 'streaming'";
        let mut admin = PgConnection::connect(&primary.url("postgres")).await.unwrap();
        let count = sqlx::query_scalar(sync).fetch_one(&mut admin).await.unwrap();
        admin.close().await.unwrap();
        count
    })
    .await;
    admin.close().await.unwrap();
}

async fn detail(process: &HttpProcess) -> String {
    let health: Value = process.client.send("GET", "/health", &Value::Null).await.json().await.unwrap();
    health["parts"]["database"]["detail"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_go_on_after_the_promotion_of_a_standby_and_none_is_lost() {
    let (state, second_state) = (TempState::new(), TempState::new());
    let primary =
        Cluster::start(Options { durability: Durability::Durable, ..state.options() }).await.unwrap();
    let proxy = Proxy::to(&TempState::migrated(&primary, "shop").await).await;
    let options = Options { durability: Durability::Durable, ..second_state.options() };
    let standby = primary.start_standby(options).await.unwrap();
    commit_on_both(&primary).await;

    let test = TestCluster::on(proxy.url.clone()).await;
    let (served, worker) = (test.serve().await, test.work().await);
    served.client.add_product("TEA-1", 10_000).await;
    let mut load = Load::start(&served.client, "TEA-1", ORDERS);
    load.reaches(ORDERS / 3).await;

    // The address leads to the standby before it is promoted, as it may for a while.
    kill(Pid::from_raw(primary.pid()), Signal::SIGKILL).unwrap();
    proxy.lead_to(&standby.process_url("shop"));
    until("health to name a standby", || async {
        let detail = detail(&served).await;
        if detail.contains("read-only") { Ok(()) } else { Err(detail) }
    })
    .await;
    let refused = served.client.send("POST", "/api/orders", &order("ann@example.com", "TEA-1", 1)).await;
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    let acknowledged = load.acknowledged();
    assert!(acknowledged < ORDERS, "the primary died in the middle");

    let mut admin = PgConnection::connect(&standby.url("postgres")).await.unwrap();
    let promoted: bool = sqlx::query_scalar("select pg_promote()").fetch_one(&mut admin).await.unwrap();
    assert!(promoted);
    admin.close().await.unwrap();
    let orders = load.all().await;
    assert_eq!(orders.len(), ORDERS);
    until("health to be up", || async {
        let detail = detail(&served).await;
        if detail.contains("read-only") { Err(detail) } else { Ok(()) }
    })
    .await;
    test.wait_until_no_saga_is_active().await;
    for order_id in orders {
        let (status, _, held) = test.order(order_id).await;
        assert_eq!((status.as_str(), held), ("confirmed", 1), "order {order_id}");
    }
    served.client.put("/api/queues/default", &json!({"paused": false, "reason": "writes"})).await;
    test.assert_all_well().await;
    stops_cleanly(worker).await;
    stops_cleanly(served.process).await;
    test.pool.close().await;
    standby.stop().await.unwrap();
    primary.stop().await.unwrap();
}
