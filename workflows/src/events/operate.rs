//! What people do to consumers: forget one, or have it get events again. Each with the record of who did it.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool};
use sqlx_macros::FromRow;

use crate::audit::{self, AuditActor, AuditEntry};

/// Where a replay begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// With this event.
    From(i64),
    /// With the first event of this time or later.
    Since(DateTime<Utc>),
}

impl FromStr for Replay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(event_id) = text.parse::<i64>()
            && event_id > 0
        {
            return Ok(Self::From(event_id));
        }
        let time = DateTime::parse_from_rfc3339(text);
        time.map(|time| Self::Since(time.to_utc()))
            .map_err(|_| "neither an event's id nor a time such as 2026-11-22T10:00:00Z".into())
    }
}

/// Forgets a target, so that nothing waits for it any more; false when there is none of that name. A process that is
/// configured to publish to it registers it again when it starts.
///
/// # Errors
/// When the database refuses or is away.
pub async fn remove(
    pool: &PgPool,
    name: &str,
    reason: Option<&str>,
    by: impl Into<AuditActor<'_>>,
) -> Result<bool, sqlx::Error> {
    let mut tx = pool.begin().await?;
    let Some(removed) = delete(&mut tx, name).await? else { return Ok(false) };
    let change =
        AuditEntry::new("consumer.remove", "consumer", name).reason(reason).before(removed.audit_json());
    audit::record(&mut tx, &by.into(), &[change]).await?;
    tx.commit().await?;
    Ok(true)
}

/// Has a target get events again, in a new series, and gives the first that it will get; `None` when there is no target
/// of that name. Events that were pruned don't come again. Whoever publishes now finds its claim gone and takes it anew.
///
/// # Errors
/// When the database refuses or is away.
pub async fn replay(
    pool: &PgPool,
    name: &str,
    from: Replay,
    reason: Option<&str>,
    by: impl Into<AuditActor<'_>>,
) -> Result<Option<i64>, sqlx::Error> {
    let mut tx = pool.begin().await?;
    let Some(before) = lock(&mut tx, name).await? else { return Ok(None) };
    let after = begin_again(&mut tx, name, from).await?;
    let change = AuditEntry::new("consumer.replay", "consumer", name).reason(reason);
    audit::record(&mut tx, &by.into(), &[change.before(before.audit_json()).after(after.audit_json())])
        .await?;
    tx.commit().await?;
    Ok(Some(after.last_event_id + 1))
}

/// How far a target is, and in which series.
#[derive(Debug, FromRow)]
struct ConsumerPosition {
    last_event_id: i64,
    series: i64,
}

impl ConsumerPosition {
    /// As the audit shows it.
    fn audit_json(&self) -> Value {
        json!({"last_event_id": self.last_event_id, "series": self.series})
    }
}

async fn delete(conn: &mut PgConnection, name: &str) -> Result<Option<ConsumerPosition>, sqlx::Error> {
    sqlx::query_as("delete from shop.event_consumer where name = $1 returning last_event_id, series")
        .bind(name)
        .fetch_optional(conn)
        .await
}

async fn lock(conn: &mut PgConnection, name: &str) -> Result<Option<ConsumerPosition>, sqlx::Error> {
    sqlx::query_as("select last_event_id, series from shop.event_consumer where name = $1 for update")
        .bind(name)
        .fetch_optional(conn)
        .await
}

async fn begin_again(
    conn: &mut PgConnection,
    name: &str,
    from: Replay,
) -> Result<ConsumerPosition, sqlx::Error> {
    let (from_id, from_time) = match from {
        Replay::From(event_id) => (Some(event_id), None),
        Replay::Since(time) => (None, Some(time)),
    };
    sqlx::query_as(
        "with log as (
             select coalesce((select min(event_id) - 1 from shop.event), last_event_id) as pruned_through, last_event_id
             from shop.event_log where only_one
         ), start as (
             select least(greatest(coalesce($2 - 1, (select min(event_id) - 1 from shop.event where at >= $3),
                                            last_event_id), pruned_through), last_event_id) as begun_after
             from log
         )
         update shop.event_consumer c
         set previous_series = case when c.last_event_id > c.begun_after then c.series else c.previous_series end,
             previous_event_id =
                 case when c.last_event_id > c.begun_after then c.last_event_id else c.previous_event_id end,
             last_event_id = start.begun_after, begun_after = start.begun_after,
             series = greatest(c.series + 1, (extract(epoch from clock_timestamp()) * 1000)::bigint),
             epoch = c.epoch + 1, lease_until = '-infinity', updated_at = now()
         from start where c.name = $1
         returning c.last_event_id, c.series",
    )
    .bind(name)
    .bind(from_id)
    .bind(from_time)
    .fetch_one(conn)
    .await
}
