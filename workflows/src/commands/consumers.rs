//! Removes consumers and replays events to them, with the record of who did.

use sqlx::PgPool;

use crate::{
    events::{Replay, consumers},
    support::audit::{self, AuditActor, AuditEntry},
};

/// Forgets a target, so that nothing waits for it any more; false when there is none of that name. A process that is
/// configured to publish to it registers it again when it starts.
///
/// # Errors
/// When the database refuses or is away.
pub async fn remove_consumer(
    pool: &PgPool,
    name: &str,
    reason: Option<&str>,
    by: impl Into<AuditActor<'_>>,
) -> Result<bool, sqlx::Error> {
    let mut tx = pool.begin().await?;
    let Some(removed) = consumers::delete(&mut tx, name).await? else { return Ok(false) };
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
