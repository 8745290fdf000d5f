//! Hooks by which a test injects faults and skips time.

use crate::{
    builder::EngineBuilder,
    engine::Engine,
    store,
    support::faults::{FaultHooks, Faults},
};

/// Injects the faults that `faults` returns. For tests only.
pub fn with_faults(builder: EngineBuilder, faults: std::sync::Arc<dyn Faults>) -> EngineBuilder {
    builder.faults(FaultHooks::new(Some(faults)))
}

/// Makes all sagas that wait for a retry due at once, so that a test need not wait; returns how many.
///
/// # Errors
/// When the database can't be reached.
pub async fn make_all_due(pool: &sqlx::PgPool) -> Result<u64, sqlx::Error> {
    crate::store::testing::make_all_due(pool).await
}

/// Ends all sleeps and waits for signals as if their time were over, so that a test need not wait; returns how many.
///
/// # Errors
/// When the database can't be reached.
pub async fn end_waits(pool: &sqlx::PgPool) -> Result<u64, sqlx::Error> {
    crate::store::testing::end_waits(pool).await
}

/// Ends the leases of an engine that died or is too slow, so that a test need not wait until they expire; returns how
/// many sagas had one.
///
/// # Errors
/// When the database can't be reached.
pub async fn expire_leases(
    pool: &sqlx::PgPool,
    worker: crate::model::ids::WorkerId,
) -> Result<u64, sqlx::Error> {
    crate::store::testing::expire_leases(pool, worker).await
}

/// How many sagas are found at once.
const FOUND: i64 = 1000;

/// Finds the sagas that a process which died did not tell of their signals, or of the ends of their children, as an
/// engine does from time to time.
///
/// # Errors
/// When the database can't be reached.
pub async fn find_forgotten(engine: &Engine) -> Result<(), sqlx::Error> {
    let mut conn = engine.core.pool.acquire().await?;
    let mut forgotten = store::signals::unnudged(&mut conn, 0, FOUND).await?;
    forgotten.extend(store::children::forgotten(&mut conn, FOUND).await?);
    engine.core.nudges.add(forgotten);
    store::children::wake_to_tell_again(&mut conn, FOUND).await?;
    engine.core.feeds.wake_all();
    Ok(())
}
