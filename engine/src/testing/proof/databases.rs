//! The databases on which the cases of a proof run.

use std::{any::Any, fmt};

use futures::future::BoxFuture;
use sqlx::PgPool;

/// Where the cases of a proof run. A [`PgPool`] is one database for all of them. A function that returns a future is
/// asked for a fresh database for each case, so that what a case leaves behind can't mislead the next: its future gives
/// a `PgPool`, or a pair of a guard and a `PgPool`, if something has to be dropped when the case is over.
pub trait Databases: Send + Sync + 'static {
    /// The database of the next case. It has the engine's schema, and the tables that the saga's steps use.
    fn next(&self) -> BoxFuture<'_, CaseDatabase>;
}

impl Databases for PgPool {
    fn next(&self) -> BoxFuture<'_, CaseDatabase> {
        let database = CaseDatabase { pool: self.clone(), is_fresh: false, _guard: None };
        Box::pin(std::future::ready(database))
    }
}

impl<F, Fut> Databases for F
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output: Into<CaseDatabase>> + Send + 'static,
{
    fn next(&self) -> BoxFuture<'_, CaseDatabase> {
        let database = self();
        Box::pin(async move { database.await.into() })
    }
}

/// The database of one case.
pub struct CaseDatabase {
    pub(super) pool: PgPool,
    is_fresh: bool,
    _guard: Option<Box<dyn Any + Send>>,
}

impl CaseDatabase {
    /// Closes the pool of a database that no other case uses, and drops what guards it.
    pub(super) async fn close(self) {
        if self.is_fresh {
            self.pool.close().await;
        }
    }
}

impl From<PgPool> for CaseDatabase {
    fn from(pool: PgPool) -> Self {
        Self { pool, is_fresh: true, _guard: None }
    }
}

impl<Guard: Send + 'static> From<(Guard, PgPool)> for CaseDatabase {
    fn from((guard, pool): (Guard, PgPool)) -> Self {
        Self { pool, is_fresh: true, _guard: Some(Box::new(guard)) }
    }
}

impl fmt::Debug for CaseDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaseDatabase").field("is_fresh", &self.is_fresh).finish_non_exhaustive()
    }
}
