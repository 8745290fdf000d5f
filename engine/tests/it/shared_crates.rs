//! The API is used with the crates that the engine re-exports, and with connections that it tunes.

use std::sync::Arc;

use engine::{
    Engine, Failure, SagaId, SagaName, TracePropagator,
    chrono::{DateTime, Utc},
    schemars, serde_json,
    sqlx::{self, PgPool, postgres::PgConnectOptions},
    tokio_util::sync::CancellationToken,
    tracing::Span,
    uuid::Uuid,
};

use super::fixtures::{self, PLAIN, TestInput};
use crate::support::Database;

/// Traces nothing.
struct NoTraces;

impl TracePropagator for NoTraces {
    fn current(&self) -> Option<String> {
        None
    }

    fn adopt(&self, _: &Span, _: &str) {}
}

#[tokio::test]
async fn an_engine_needs_no_crate_but_those_that_it_re_exports() {
    fn is_an_input<T: schemars::JsonSchema>(_: SagaName<T>) {}
    is_an_input(PLAIN);
    let (_database, pool): (Database, PgPool) = fixtures::database().await;
    let builder = Engine::builder(pool).trace_propagator(Arc::new(NoTraces));
    let engine = builder.register(fixtures::plain_saga()).build().unwrap();
    let saga_id = SagaId(Uuid::now_v7());
    engine.start(PLAIN.with(&TestInput::default()).id(saga_id)).await.unwrap();
    let _: DateTime<Utc> = engine.saga(saga_id).await.unwrap().unwrap().created_at;
    assert_eq!(Failure::new("none", "none").details, serde_json::Value::Null);
    let stop = CancellationToken::new();
    stop.cancel();
    engine.run(&mut engine.feed("default", 1), stop).await;
    engine.shutdown().await;
}

#[tokio::test]
async fn a_tuned_connection_plans_without_scans_of_whole_tables() {
    let database = Database::fresh().await;
    let options: PgConnectOptions = database.url().parse().unwrap();
    let pool = PgPool::connect_with(engine::tuned(options)).await.unwrap();
    for (setting, value) in engine::ENGINE_SETTINGS {
        let show = sqlx::query_scalar("select current_setting($1)").bind(setting);
        let shown: String = show.fetch_one(&pool).await.unwrap();
        assert_eq!((setting, shown.as_str()), (setting, value));
    }
    pool.close().await;
}
