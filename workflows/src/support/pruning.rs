//! Deletes what is kept for a limited time: the oldest first, in small batches, one process at a time.
//!
//! What is deleted is listed in [`Prunable`]. To add to it: a variant here, and two statements, one that deletes a batch
//! and one that measures the lag. Both need an order in which the oldest rows come first: an index on the time by which
//! rows expire, or ids that are times and a place that is stored (`shop.pruning`). The engine deletes its own tables.

mod read;
mod write;

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use engine::{Engine, Pruned};
use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use sqlx::{Connection, PgConnection};

use super::idempotency;

const PRUNED: &str = "sagaline_pruned_total";
const LAG: &str = "sagaline_prune_lag_seconds";

/// How many rows one batch looks at, so that it ends soon.
const BATCH_SIZE: u32 = 1000;
/// The same for sagas, which are a dozen rows each.
const SAGAS_AT_ONCE: u32 = 500;
/// The time limit of one batch. Without it, a batch on a connection that is dead without a sign would never end.
const BATCH_TIMEOUT: Duration = Duration::from_secs(10);
/// How many times as long as a batch the pause after it is. So in each process the deletions take a fifth of one
/// connection's time, which is a tenth of what a server with two cores can do (`docs/decisions/0030`).
const PAUSE: u32 = 4;

/// Describes the metrics of pruning to the recorder; called once, after the recorder is installed.
pub fn describe_metrics() {
    describe_counter!(PRUNED, Unit::Count, "Rows deleted because they are over their time, by what they are");
    describe_gauge!(
        LAG,
        Unit::Seconds,
        "For how long the oldest row has been over its time, by what it is; measured after each round of deletions"
    );
}

/// What is kept for a limited time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumIter, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Prunable {
    /// Stored responses to requests with an `Idempotency-Key`.
    IdempotencyKeys,
    /// Sagas that have ended, with their histories. The [`engine::Retention`] of the engine says how long they are kept.
    Sagas,
    /// Business keys whose sagas are deleted.
    BusinessKeys,
    /// The texts of notifications. The rest of a notification stays.
    NotificationTexts,
    /// Reservations that are no longer held, of orders that are over.
    Reservations,
    /// The audit records of what people did to sagas. The database says how long they are kept.
    SagaAudits,
    /// The other audit records.
    Audits,
}

impl Prunable {
    /// The name in metrics and logs.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// How long the shop's own rows are kept; `None` for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShopRetention {
    /// The texts of notifications, from when they were accepted.
    pub notification_texts: Option<Duration>,
    /// Reservations, from when their order was over.
    pub reservations: Option<Duration>,
}

/// Deletes what is over its time.
#[derive(Clone, Debug)]
pub struct Pruner {
    engine: Engine,
    keep: ShopRetention,
}

impl Pruner {
    /// Deletes from the database of this engine.
    pub fn new(engine: Engine, keep: ShopRetention) -> Self {
        Self { engine, keep }
    }

    /// Deletes everything of a kind that is over its time, and returns how many rows. Ends early if another process
    /// deletes them now.
    ///
    /// It pauses after each batch for several times as long as the batch took.
    ///
    /// # Errors
    /// When the database refuses or can't be reached. What was deleted before stays deleted.
    ///
    /// # Cancel safety
    /// A batch that is in progress is rolled back or committed as a whole.
    pub async fn prune(&self, what: Prunable) -> Result<u64, sqlx::Error> {
        let mut pruned = 0;
        let mut after = None;
        loop {
            let started = Instant::now();
            let batch = self.prune_batch(what, &mut after).await?;
            counter!(PRUNED, "rows" => what.name()).increment(batch.deleted);
            pruned += batch.deleted;
            if !batch.more {
                return Ok(pruned);
            }
            tokio::time::sleep(started.elapsed() * PAUSE).await;
        }
    }

    /// Measures for how long the oldest row of a kind has been over its time, for the metric.
    ///
    /// # Errors
    /// As [`Pruner::lag`].
    pub async fn record_lag(&self, what: Prunable) -> Result<(), sqlx::Error> {
        gauge!(LAG, "rows" => what.name()).set(self.lag(what).await?.as_secs_f64());
        Ok(())
    }

    /// For how long the oldest row of a kind has been over its time; zero if none is.
    ///
    /// # Errors
    /// When the database refuses or can't be reached.
    pub async fn lag(&self, what: Prunable) -> Result<Duration, sqlx::Error> {
        let keep = self.keep;
        match what {
            Prunable::Sagas => return self.engine.saga_prune_lag().await,
            Prunable::BusinessKeys => return self.engine.business_key_prune_lag().await,
            Prunable::SagaAudits => return self.engine.audit_prune_lag().await,
            Prunable::IdempotencyKeys
            | Prunable::NotificationTexts
            | Prunable::Reservations
            | Prunable::Audits => {}
        }
        engine::with_timeout(self.engine.pool(), BATCH_TIMEOUT, async |conn| match what {
            Prunable::IdempotencyKeys => idempotency::expired_for(conn).await,
            Prunable::NotificationTexts => read::oldest_text(conn, keep.notification_texts).await,
            Prunable::Reservations => read::last_round(conn, keep.reservations).await,
            Prunable::Audits => read::oldest_audit(conn).await,
            Prunable::Sagas | Prunable::BusinessKeys | Prunable::SagaAudits => Ok(Duration::ZERO),
        })
        .await
    }

    async fn prune_batch(
        &self,
        what: Prunable,
        after: &mut Option<DateTime<Utc>>,
    ) -> Result<Pruned, sqlx::Error> {
        match what {
            Prunable::Sagas => self.engine.prune_sagas(SAGAS_AT_ONCE).await,
            Prunable::BusinessKeys => self.engine.prune_business_keys(BATCH_SIZE).await,
            Prunable::SagaAudits => self.engine.prune_audit(BATCH_SIZE).await,
            Prunable::IdempotencyKeys
            | Prunable::NotificationTexts
            | Prunable::Reservations
            | Prunable::Audits => self.prune_own(what, after).await,
        }
    }

    /// Deletes one batch of the shop's rows; nothing if another process is deleting them.
    async fn prune_own(
        &self,
        what: Prunable,
        after: &mut Option<DateTime<Utc>>,
    ) -> Result<Pruned, sqlx::Error> {
        engine::with_timeout(self.engine.pool(), BATCH_TIMEOUT, async |conn| {
            let mut tx = conn.begin().await?;
            if !write::try_lock(&mut tx, what.name()).await? {
                return Ok(Pruned::default());
            }
            let pruned = self.delete_batch(&mut tx, what, after).await?;
            tx.commit().await?;
            Ok(pruned)
        })
        .await
    }

    async fn delete_batch(
        &self,
        conn: &mut PgConnection,
        what: Prunable,
        after: &mut Option<DateTime<Utc>>,
    ) -> Result<Pruned, sqlx::Error> {
        match what {
            Prunable::IdempotencyKeys => {
                let batch = idempotency::delete_expired(conn, *after, BATCH_SIZE).await?;
                *after = batch.through;
                let deleted = u64::try_from(batch.deleted).unwrap_or_default();
                Ok(Pruned { deleted, more: deleted >= u64::from(BATCH_SIZE) })
            }
            Prunable::NotificationTexts => match self.keep.notification_texts {
                Some(keep) => write::delete_texts(conn, keep, BATCH_SIZE).await,
                None => Ok(Pruned::default()),
            },
            Prunable::Reservations => match self.keep.reservations {
                Some(keep) => write::delete_reservations(conn, keep, BATCH_SIZE).await,
                None => Ok(Pruned::default()),
            },
            Prunable::Audits => write::delete_audits(conn, BATCH_SIZE).await,
            Prunable::Sagas | Prunable::BusinessKeys | Prunable::SagaAudits => Ok(Pruned::default()),
        }
    }
}
