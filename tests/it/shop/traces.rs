//! The trace of a request is propagated through every saga that it starts.

use engine::{Engine, EngineBuilder, TracePropagator};
use shop::{
    Shop, commands,
    mail::Mailer,
    sagas::{self, Settings},
};
use tokio_util::sync::CancellationToken;

use super::{TestShop, order};
use crate::support::Database;

/// Reports the same trace for every caller.
struct OneTrace;

impl TracePropagator for OneTrace {
    fn current(&self) -> Option<String> {
        Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into())
    }

    fn adopt(&self, _: &tracing::Span, _: &str) {}
}

#[tokio::test]
async fn the_trace_of_an_order_reaches_its_mail() {
    let database = Database::fresh().await;
    let mails = tempfile::tempdir().unwrap();
    let settings = Settings::new(Mailer::files(mails.path(), "shop@example.com").unwrap());
    let builder = sagas::definitions(settings)
        .unwrap()
        .into_iter()
        .fold(Engine::builder(database.pool().await), EngineBuilder::register);
    let shop = Shop::new(builder.trace_propagator(std::sync::Arc::new(OneTrace)).build().unwrap());
    let test = TestShop { shop, workers: Vec::new(), stop: CancellationToken::new(), mails, database }
        .start_workers();
    test.add_product("TEA", 500, 10).await;
    let placed = test.place(order(&[("TEA", 1)])).await;
    test.settled("deliver-notification", format!("order-confirmed:{}", placed.order_id)).await;
    commands::cancel_order(&test.shop, placed.order_id, "changed my mind", "ann").await.unwrap();
    test.settled("cancel-order", placed.order_id.to_string()).await;
    test.settled("deliver-notification", format!("order-cancelled:{}", placed.order_id)).await;
    let traces: Vec<(Option<String>, i64)> =
        sqlx::query_as("select trace, count(*) from engine.saga group by trace")
            .fetch_all(test.pool())
            .await
            .unwrap();
    // The placement, the cancellation, and a mail for each.
    assert_eq!(traces, [(OneTrace.current(), 4)]);
    test.close().await;
}
