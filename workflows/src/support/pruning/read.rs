//! For how long rows have been over their time.

use std::time::Duration;

use sqlx::PgConnection;

/// For how long the oldest text of a notification has been over its time.
pub(super) async fn oldest_text(
    conn: &mut PgConnection,
    keep: Option<Duration>,
) -> Result<Duration, sqlx::Error> {
    let seconds = sqlx::query_scalar(
        "select extract(epoch from now() - created_at)::float8 - $1 from shop.notification
         where notification_id > (select after_id from shop.pruning where rows = 'notification_texts')
         order by notification_id limit 1",
    )
    .bind(seconds_of(keep))
    .fetch_optional(conn)
    .await?;
    Ok(overdue(seconds.flatten()))
}

/// How long ago the last round ended that went through all reservations, as far as they were old enough.
pub(super) async fn last_round(
    conn: &mut PgConnection,
    keep: Option<Duration>,
) -> Result<Duration, sqlx::Error> {
    let seconds = sqlx::query_scalar(
        "select extract(epoch from now() - reached)::float8 - $1 from shop.pruning where rows = 'reservations'",
    )
    .bind(seconds_of(keep))
    .fetch_optional(conn)
    .await?;
    Ok(overdue(seconds.flatten()))
}

/// For how long the oldest audit record has been over its time.
pub(super) async fn oldest_audit(conn: &mut PgConnection) -> Result<Duration, sqlx::Error> {
    let seconds = sqlx::query_scalar(
        "select extract(epoch from shop.audit_cutoff() - at)::float8 from shop.audit order by at, id limit 1",
    )
    .fetch_optional(conn)
    .await?;
    Ok(overdue(seconds.flatten()))
}

/// What is kept for ever is never overdue.
fn seconds_of(keep: Option<Duration>) -> f64 {
    keep.unwrap_or(Duration::MAX).as_secs_f64()
}

fn overdue(seconds: Option<f64>) -> Duration {
    // Less than nothing is no duration.
    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or_default()
}
