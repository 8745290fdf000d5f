//! Removes event consumers and replays events to them, with an audit record.

use sqlx::PgPool;

use crate::{
    events::{Replay, consumers},
    support::audit::{self, AuditActor, AuditEntry},
};

/// Which consumers may be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovalMode {
    /// Those to which no process publishes.
    Safe,
    /// Any.
    Force,
}

/// What became of a request to remove a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is removed.
    Done,
    /// No consumer has this name.
    Unknown,
    /// A process publishes to it, and nothing was changed.
    InUse,
}

/// Removes a consumer, so that pruning no longer waits for it. A process that publishes to it stops, says so in its log
/// and its metrics, and registers it again when it is started again; it then publishes all events that are kept.
///
/// # Errors
/// When the database refuses or can't be reached.
pub async fn remove_consumer(
    pool: &PgPool,
    name: &str,
    mode: RemovalMode,
    reason: Option<&str>,
    by: impl Into<AuditActor<'_>>,
) -> Result<Removal, sqlx::Error> {
    let mut tx = pool.begin().await?;
    match (consumers::lock_use(&mut tx, name).await?, mode) {
        (None, _) => return Ok(Removal::Unknown),
        (Some(true), RemovalMode::Safe) => return Ok(Removal::InUse),
        (Some(false), RemovalMode::Safe) | (Some(_), RemovalMode::Force) => {}
    }
    let Some(removed) = consumers::delete(&mut tx, name).await? else { return Ok(Removal::Unknown) };
    let change =
        AuditEntry::new("consumer.remove", "consumer", name).reason(reason).before(removed.audit_json());
    audit::record(&mut tx, &by.into(), &[change]).await?;
    tx.commit().await?;
    Ok(Removal::Done)
}

/// Moves a consumer back, so that it gets events again, in a new series: their ids at the consumer are higher than all
/// before. Returns the first event that it will get, or `None` if no consumer has this name. Pruned events can't be
/// replayed. The process that is publishing to the consumer loses its lease and takes a new one.
///
/// # Errors
/// When the database refuses or can't be reached.
pub async fn replay_events(
    pool: &PgPool,
    name: &str,
    from: Replay,
    reason: Option<&str>,
    by: impl Into<AuditActor<'_>>,
) -> Result<Option<i64>, sqlx::Error> {
    let mut tx = pool.begin().await?;
    let Some(before) = consumers::lock(&mut tx, name).await? else { return Ok(None) };
    let after = consumers::begin_again(&mut tx, name, from).await?;
    let change = AuditEntry::new("consumer.replay", "consumer", name).reason(reason);
    audit::record(&mut tx, &by.into(), &[change.before(before.audit_json()).after(after.audit_json())])
        .await?;
    tx.commit().await?;
    Ok(Some(after.last_event_id + 1))
}
