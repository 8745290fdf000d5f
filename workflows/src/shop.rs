//! The handle through which everything outside uses the shop.

use engine::Engine;
use sqlx::PgPool;

/// The engine that runs the shop's sagas, and the database that both share. Cheap to clone.
#[derive(Clone)]
pub struct Shop {
    engine: Engine,
}

impl Shop {
    /// Wraps an engine that has the [definitions](crate::sagas::definitions) registered.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The database.
    pub fn pool(&self) -> &PgPool {
        self.engine.pool()
    }
}

impl std::fmt::Debug for Shop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shop").finish_non_exhaustive()
    }
}
