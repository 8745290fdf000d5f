//! Database connections that silently died, as behind an address that another server took over.

use super::{
    proxy::Proxy,
    test_cluster::{TestCluster, at_least},
};
use crate::support::Database;

#[tokio::test]
async fn events_continue_over_new_connections_and_the_process_can_be_stopped() {
    let database = Database::durable().await;
    let proxy = Proxy::to(&database.url()).await;
    let test = TestCluster::on(database.url()).await;
    let mut worker = test.start(&["work"], &[("DATABASE_URL", &proxy.url)]);
    worker.wait_for_line(r#""message":"working""#).await;
    let append = "insert into shop.outbox (routing_key, key, payload) values ('product.updated', 'k', '{}')";
    test.arrange(append).await;
    let numbered = "select last_event_id from shop.event_log";
    at_least("the first event", 1, || test.count(numbered)).await;
    proxy.drop_traffic();
    test.arrange(append).await;
    at_least("an event after the drop", 2, || test.count(numbered)).await;

    proxy.drop_traffic();
    worker.sigterm();
    // The process reports it if stopping takes too long.
    let status = worker.wait().await;
    assert_eq!(status.code(), Some(0), "{status}:\n{}", worker.output());
}
