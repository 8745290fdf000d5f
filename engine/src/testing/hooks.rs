//! Hooks by which a test injects faults and skips time.

use crate::{
    builder::EngineBuilder,
    support::faults::{FaultHooks, Faults},
};

/// Injects the faults that `faults` returns. For tests only.
pub fn with_faults(builder: EngineBuilder, faults: std::sync::Arc<dyn Faults>) -> EngineBuilder {
    builder.faults(FaultHooks::new(Some(faults)))
}

/// Makes sagas due now that wait for a retry, or whose lease is still held by an engine that died; returns how many. It
/// skips time in tests.
///
/// # Errors
/// When the database can't be reached.
pub async fn skip_waiting(
    pool: &sqlx::PgPool,
    dead: Option<crate::model::ids::WorkerId>,
) -> Result<u64, sqlx::Error> {
    crate::store::testing::skip_waiting(pool, dead).await
}
