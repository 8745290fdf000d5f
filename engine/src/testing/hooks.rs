//! How a test makes an engine fail, and skips time.

use crate::{
    builder::EngineBuilder,
    support::faults::{FaultHooks, Faults},
};

/// Makes an engine fail where `faults` says. For tests: a production engine has none.
pub fn with_faults(builder: EngineBuilder, faults: std::sync::Arc<dyn Faults>) -> EngineBuilder {
    builder.faults(FaultHooks::new(Some(faults)))
}

/// Makes sagas due now whose lease was left behind by an engine that died, or which wait for a retry; gives how many.
/// Skips time in tests.
///
/// # Errors
/// When the database is away.
pub async fn skip_waiting(
    pool: &sqlx::PgPool,
    dead: Option<crate::model::ids::WorkerId>,
) -> Result<u64, sqlx::Error> {
    crate::store::testing::skip_waiting(pool, dead).await
}
