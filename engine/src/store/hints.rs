//! Notifications between the processes of one database. They are hints: each may be lost, and a poll finds the same.

use sqlx::PgConnection;
use uuid::Uuid;

/// Tells that there are due sagas in the queue that is the payload.
pub(crate) const DUE: &str = "engine_due";
/// Tells that the process whose worker id is the payload waits for sagas that others move. An empty payload asks who
/// waits.
pub(crate) const WAITING: &str = "engine_waiting";
/// Tells which sagas ended or died.
pub(crate) const ENDED: &str = "engine_ended";

/// Tells, from a transaction of a caller's own, that a signal was stored for the saga whose id is the payload.
pub(crate) const SIGNALLED: &str = "engine_signalled";

/// A notification to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notification {
    pub(crate) channel: &'static str,
    pub(crate) payload: String,
}

/// Sends notifications, in a transaction of their own. At its commit, a transaction that notifies takes a lock that is the
/// same for all databases of the server, and keeps it until the commit is on disk. So commits of sagas don't notify.
pub(crate) async fn send(conn: &mut PgConnection, notifications: &[Notification]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "select pg_notify(channel, payload) from unnest($1::text[], $2::text[]) as n (channel, payload)",
    )
    .bind(notifications.iter().map(|notification| notification.channel).collect::<Vec<_>>())
    .bind(notifications.iter().map(|notification| notification.payload.as_str()).collect::<Vec<_>>())
    .execute(conn)
    .await
    .map(drop)
}

/// Tells, when the caller's transaction commits, that there are due sagas in these queues. For transactions whose commit
/// the engine does not see; after its own commits it uses [`send`].
pub(crate) async fn notify_due_at_commit(
    conn: &mut PgConnection,
    queues: &[&str],
) -> Result<(), sqlx::Error> {
    sqlx::query("select pg_notify($1, queue) from unnest($2::text[]) as q (queue)")
        .bind(DUE)
        .bind(queues)
        .execute(conn)
        .await
        .map(drop)
}

/// Tells, when the caller's transaction commits, that a signal was stored for a saga.
pub(crate) async fn notify_signalled_at_commit(
    conn: &mut PgConnection,
    saga_id: Uuid,
) -> Result<(), sqlx::Error> {
    sqlx::query("select pg_notify($1, $2)")
        .bind(SIGNALLED)
        .bind(saga_id.to_string())
        .execute(conn)
        .await
        .map(drop)
}
