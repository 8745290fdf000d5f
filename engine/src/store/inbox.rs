//! Statements about messages for sagas. The sender inserts a row, and waits for no lock of the saga.

use sqlx::{PgConnection, PgPool, types::Json};
use sqlx_macros::FromRow;
use uuid::Uuid;

use crate::model::pending_cancel::{IfLate, PendingCancel};

/// How far a message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumString)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum MessageState {
    /// The saga has not acted on it yet.
    Unread,
    /// The saga has followed it.
    Consumed,
    /// The saga could not follow it any more.
    TooLate,
}

/// An unread cancel.
#[derive(Debug, FromRow)]
pub(crate) struct CancelMessage {
    pub(crate) id: i64,
    pub(crate) saga_id: Uuid,
    pub(crate) payload: Json<PendingCancel>,
}

/// Stores a cancel. A saga needs no second one, so an earlier cancel of the same effect stands for it; returns how far
/// the stored one has come.
pub(crate) async fn send_cancel(
    conn: &mut PgConnection,
    saga_id: Uuid,
    cancel: &PendingCancel,
) -> Result<MessageState, sqlx::Error> {
    let key = match cancel.if_late() {
        IfLate::Tell => "",
        IfLate::Drop => "drop-if-late",
    };
    let inserted = sqlx::query(
        "insert into engine.inbox (saga_id, kind, name, key, payload, sender) values ($1, 'cancel', '', $2, $3, $4) \
         on conflict do nothing",
    )
    .bind(saga_id)
    .bind(key)
    .bind(Json(cancel))
    .bind(&cancel.actor)
    .execute(&mut *conn)
    .await?;
    if inserted.rows_affected() == 1 {
        return Ok(MessageState::Unread);
    }
    let state: String = sqlx::query_scalar(
        "select state from engine.inbox where saga_id = $1 and kind = 'cancel' and name = '' and key = $2",
    )
    .bind(saga_id)
    .bind(key)
    .fetch_one(conn)
    .await?;
    state.parse().map_err(|error: strum::ParseError| sqlx::Error::Decode(error.into()))
}

/// Selects the unread cancels of these sagas, the oldest first.
pub(crate) async fn unread_cancels(
    conn: &mut PgConnection,
    saga_ids: &[Uuid],
) -> Result<Vec<CancelMessage>, sqlx::Error> {
    sqlx::query_as(
        "select id, saga_id, payload from engine.inbox \
         where saga_id = any($1) and state = 'unread' and kind = 'cancel' order by id",
    )
    .bind(saga_ids)
    .fetch_all(conn)
    .await
}

/// Marks messages as consumed or too late; the caller has locked their sagas.
pub(crate) async fn settle(
    conn: &mut PgConnection,
    consumed: &[i64],
    too_late: &[i64],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update engine.inbox set settled_at = clock_timestamp(), \
             state = case when id = any($2) then 'too_late' else 'consumed' end \
         where id = any($1 || $2) and state = 'unread'",
    )
    .bind(consumed)
    .bind(too_late)
    .execute(conn)
    .await
    .map(drop)
}

/// Selects sagas of these graphs that have unread cancels, with ids after `after`, in their order. A saga that a
/// worker holds, and that has the cancel in its row already, is left to its worker.
pub(crate) async fn addressees(
    pool: &PgPool,
    hashes: &[String],
    after: Uuid,
    limit: i64,
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "select distinct s.id from engine.inbox i join engine.saga s on s.id = i.saga_id \
         where i.state = 'unread' and i.kind = 'cancel' and i.saga_id > $2 and s.graph_hash = any($1) \
             and (s.lease_owner is null or s.cancel is null) \
         order by s.id limit $3",
    )
    .bind(hashes)
    .bind(after)
    .bind(limit)
    .fetch_all(pool)
    .await
}

/// For how many seconds the oldest unread cancel has been waiting; zero if there is none.
pub(crate) async fn oldest_unread_secs(pool: &PgPool) -> Result<f64, sqlx::Error> {
    sqlx::query_scalar(
        "select coalesce(max(extract(epoch from clock_timestamp() - created_at)), 0)::float8 \
         from engine.inbox where state = 'unread' and kind = 'cancel'",
    )
    .fetch_one(pool)
    .await
}
