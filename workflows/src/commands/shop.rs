//! The handle of the shop for API, workers and tools.

use engine::{Engine, NewSaga, StepError};
use sqlx::{PgConnection, PgPool};

use crate::{events::LowWaterMarks, support::admin_emails::AdminEmails};

/// The engine that runs the shop's sagas, and the database of both. Cheap to clone.
#[derive(Clone)]
pub struct Shop {
    engine: Engine,
    admins: AdminEmails,
    low_water_marks: LowWaterMarks,
}

impl Shop {
    /// Wraps an engine that has the [definitions](crate::sagas::definitions) registered. No low-stock alerts are sent.
    pub fn new(engine: Engine) -> Self {
        Self { engine, admins: AdminEmails::default(), low_water_marks: LowWaterMarks::default() }
    }

    /// Sets who gets an alert when a command makes a product's stock low. The sagas have a
    /// [setting](crate::sagas::Settings::admin_emails) of their own.
    pub fn alerting(self, admins: AdminEmails) -> Self {
        Self { admins, ..self }
    }

    /// The engine that runs the shop's sagas.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The database pool of the engine and the shop.
    pub fn pool(&self) -> &PgPool {
        self.engine.pool()
    }

    /// The low-water marks of the outbox and the event log, which all tasks of the process share.
    pub fn low_water_marks(&self) -> &LowWaterMarks {
        &self.low_water_marks
    }

    pub(crate) fn admins(&self) -> &AdminEmails {
        &self.admins
    }

    /// Starts sagas in the caller's transaction: all of them or none.
    pub(crate) async fn start_in(
        &self,
        conn: &mut PgConnection,
        sagas: Vec<NewSaga>,
    ) -> Result<(), sqlx::Error> {
        if sagas.is_empty() {
            return Ok(());
        }
        let answers = self.engine.start_in(conn, sagas).await.map_err(|error| match error {
            StepError::Database(error) => error,
            error @ (StepError::Start(_) | StepError::OutputTooLarge(_) | StepError::Other(_)) => {
                sqlx::Error::Decode(error.into())
            }
        })?;
        answers
            .into_iter()
            .try_for_each(|answer| answer.map(drop))
            .map_err(|error| sqlx::Error::Decode(error.into()))
    }
}

impl std::fmt::Debug for Shop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shop").finish_non_exhaustive()
    }
}
