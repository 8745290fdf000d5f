//! Statements about actions on dead jobs that wait for a process with the code of their sagas.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{PgConnection, PgPool, types::Json};
use uuid::Uuid;

use crate::model::dead_job_request::{DeadJobAction, DeadJobRequest};

/// A request, as it is stored.
#[derive(Debug, Deserialize)]
pub(crate) struct StoredRequest {
    #[serde(flatten)]
    pub(crate) request: DeadJobRequest,
    /// How the operator was authenticated.
    #[serde(default)]
    pub(crate) context: Option<Value>,
}

/// A request that is about to be stored.
#[derive(Debug, Serialize)]
pub(crate) struct NewRequest<'a> {
    pub(crate) graph_hash: &'a str,
    pub(crate) action: DeadJobAction,
    pub(crate) by: &'a str,
    pub(crate) reason: &'a str,
    pub(crate) context: Option<&'a Value>,
}

/// Stores a request with a dead job that the caller has locked, in place of an earlier one or its refusal.
pub(crate) async fn put(
    conn: &mut PgConnection,
    id: Uuid,
    request: &NewRequest<'_>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update engine.dead_job set refused_request = null, \
             request = $2::jsonb || jsonb_build_object('requested_at', clock_timestamp()) \
         where id = $1",
    )
    .bind(id)
    .bind(Json(request))
    .execute(conn)
    .await
    .map(drop)
}

/// Selects dead jobs of these graphs for which something is requested, with their sagas, in the order of their ids after
/// `after`.
pub(crate) async fn open(
    pool: &PgPool,
    hashes: &[String],
    after: Uuid,
    limit: i64,
) -> Result<Vec<(Uuid, Uuid)>, sqlx::Error> {
    sqlx::query_as(
        "select id, saga_id from engine.dead_job \
         where request is not null and resolution is null and request ->> 'graph_hash' = any($1) and id > $2 \
         order by id limit $3",
    )
    .bind(hashes)
    .bind(after)
    .bind(limit)
    .fetch_all(pool)
    .await
}

/// Notes that a request was refused, unless it was replaced or the dead job is resolved by now. If the dead job should
/// have expired meanwhile, it expires a day later, so that an operator sees the refusal.
pub(crate) async fn refuse(
    conn: &mut PgConnection,
    id: Uuid,
    request: &Value,
    why: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update engine.dead_job set request = null, \
             refused_request = request - 'context' - 'graph_hash' \
                 || jsonb_build_object('why', $3::text, 'refused_at', clock_timestamp()), \
             expires_at = case when expires_at <= now() then clock_timestamp() + interval '1 day' else expires_at end \
         where id = $1 and resolution is null and request = $2",
    )
    .bind(id)
    .bind(request)
    .bind(why)
    .execute(conn)
    .await
    .map(drop)
}
