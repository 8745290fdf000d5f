//! Statements about one saga that somebody decides about outside of its batches: an operator, or a clock.

use serde_json::value::RawValue;
use sqlx::{PgConnection, types::Json};
use sqlx_macros::FromRow;
use uuid::Uuid;

use crate::{
    model::pending_cancel::PendingCancel,
    store::{commits::SagaUpdate, saga_state::SagaStateRow},
};

/// A saga that was read for a decision.
#[derive(Debug, FromRow)]
#[expect(clippy::struct_excessive_bools, reason = "the columns of a row")]
pub(crate) struct LoadedSagaRow {
    pub(crate) graph_hash: String,
    pub(crate) step: String,
    #[sqlx(flatten)]
    pub(crate) state: SagaStateRow,
    pub(crate) history_seq: i32,
    pub(crate) epoch: i64,
    pub(crate) leased: bool,
    /// The saga whose child it is.
    pub(crate) parent_id: Option<Uuid>,
    /// Whether the saga completed, was compensated, or was given up.
    pub(crate) ended: bool,
    pub(crate) queue: String,
    pub(crate) input: Json<Box<RawValue>>,
    /// Whether a cancel is stored for the worker that holds it.
    pub(crate) cancel_requested: bool,
    /// Whether it has entered a wait at its step.
    pub(crate) in_wait: bool,
}

/// How a saga is read for a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SagaLock {
    /// It is locked; if another transaction holds the lock, the statement waits.
    Wait,
    /// It is locked; if another transaction holds the lock, the statement fails.
    NoWait,
    /// It is not locked: what is decided can only be noted.
    Unlocked,
}

/// Reads one saga for a decision.
pub(crate) async fn load(
    conn: &mut PgConnection,
    id: Uuid,
    lock: SagaLock,
) -> Result<Option<LoadedSagaRow>, sqlx::Error> {
    let lock = match lock {
        SagaLock::Wait => "for update",
        SagaLock::NoWait => "for update nowait",
        SagaLock::Unlocked => "",
    };
    let sql = format!(
        "select graph_hash, status, step, direction, attempt, lost_attempts, in_doubt, history_seq, epoch, \
             lease_owner is not null as leased, ended_at is not null as ended, cause, arms, round, parent_id, queue, \
             input, \
             cancel is not null as cancel_requested, wait_until is not null as in_wait \
         from engine.saga where id = $1 {lock}"
    );
    sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(id).fetch_optional(conn).await
}

/// Stores a cancel for the worker that holds the saga. One that is stored already stays, unless it would be dropped if
/// it is late.
pub(crate) async fn request_cancel(
    conn: &mut PgConnection,
    id: Uuid,
    cancel: &PendingCancel,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update engine.saga set cancel = $2 \
         where id = $1 and (cancel is null or coalesce((cancel->>'drop_if_late')::bool, false))",
    )
    .bind(id)
    .bind(Json(cancel))
    .execute(conn)
    .await
    .map(drop)
}

/// Writes the state that an operator's decision led to, of a saga that [`load`] has locked. If it is active, it is due
/// at once.
pub(crate) async fn write_decision(
    conn: &mut PgConnection,
    row: &SagaUpdate,
    discarded: bool,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update engine.saga set status = $2, step = $3, direction = $4, attempt = $5, lost_attempts = $6, \
             in_doubt = $7, \
             history_seq = $8, round = $12, \
             round_since = case when $12 is not distinct from round then round_since else clock_timestamp() end, \
             cause = coalesce($9::jsonb, cause), error = $10, \
             cancel = case when $2 = 'running' then cancel end, lease_owner = null, claimed_at = null, \
             lease_until = null, waits_for = null, postponed_since = null, \
             result = case when $2 = 'completed' then result end, \
             wait_until = case when step = $3 and direction = $4 and not $11 then wait_until end, \
             waits_since = case when step = $3 and direction = $4 and not $11 then waits_since end, \
             signal_name = case when step = $3 and direction = $4 and not $11 then signal_name end, \
             epoch = epoch + 1, \
             due_at = case when $2 in ('running', 'compensating') then clock_timestamp() end, \
             ended_at = case when $11 or $2 in ('completed', 'compensated') then clock_timestamp() end \
         where id = $1",
    )
    .bind(row.id)
    .bind(row.status)
    .bind(&row.step)
    .bind(row.direction)
    .bind(row.attempt)
    .bind(row.lost_attempts)
    .bind(row.in_doubt)
    .bind(row.seq)
    .bind(row.cause.as_deref())
    .bind(row.error.as_deref())
    .bind(discarded)
    .bind(row.children.unwrap_or_default().round)
    .execute(conn)
    .await
    .map(drop)
}
