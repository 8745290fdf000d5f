//! Statements that claim sagas, extend leases and release claims.

use serde_json::value::RawValue;
use sqlx::{Arguments, PgConnection, postgres::PgArguments, types::Json};
use sqlx_macros::FromRow;
use uuid::Uuid;

use crate::{
    model::ids::WorkerId,
    store::{rows::Rows, saga_state::SagaStateRow},
};

/// A saga that was just claimed.
#[derive(Debug, FromRow)]
pub(crate) struct ClaimedRow {
    pub(crate) id: Uuid,
    pub(crate) definition: String,
    pub(crate) graph_hash: String,
    pub(crate) queue: String,
    pub(crate) step: String,
    #[sqlx(flatten)]
    pub(crate) state: SagaStateRow,
    pub(crate) history_seq: i32,
    pub(crate) epoch: i64,
    pub(crate) trace: Option<String>,
    pub(crate) parent_id: Option<Uuid>,
    pub(crate) root_id: Option<Uuid>,
    pub(crate) depth: i16,
    pub(crate) input: Json<Box<RawValue>>,
    pub(crate) taken_over: bool,
    pub(crate) interrupted: bool,
    /// For how long the saga could have been claimed before.
    pub(crate) age_ms: i64,
}

/// Which sagas a claim considers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ClaimScope<'a> {
    /// Sagas of a queue that nobody holds, and that have been due for no longer than `lookback_ms`.
    Due { queue: &'a str, lookback_ms: i64 },
    /// Sagas of a queue whose lease ended no longer than `lookback_ms` ago, and whose holder did not vanish twice in a
    /// row.
    Lapsed { queue: &'a str, lookback_ms: i64 },
    /// Sagas of a queue on probation: their holder vanished twice or more in a row, and they run alone.
    Probation(&'a str),
    /// The sagas with these ids, in whatever queue, if they are due or their lease has ended, but not those on
    /// probation.
    Ids(&'a [Uuid]),
    /// The sagas with these ids that are held up, whenever they would come back by themselves.
    HeldUp(&'a [Uuid]),
}

/// The time since when a saga can be claimed. A version before leases had a column stored the end of a lease as
/// `due_at`, so an old row may have both an owner and a due time.
const CLAIMABLE_SINCE: &str = "coalesce(lease_until, due_at)";
/// Whether the holder of a saga vanished twice or more in a row.
pub(super) const SUSPECT: &str = "(lease_owner is not null and lost_attempts >= 1)";

impl ClaimScope<'_> {
    /// The column or expression by which claims are ordered, and the condition.
    fn sql(self) -> (&'static str, String) {
        match self {
            Self::Due { .. } => {
                let condition =
                    format!("queue = $4 and due_at >= now() - $6 * interval '1 ms' and not {SUSPECT}");
                ("due_at", condition)
            }
            Self::Lapsed { .. } => {
                let condition =
                    format!("queue = $4 and lease_until >= now() - $6 * interval '1 ms' and not {SUSPECT}");
                ("lease_until", condition)
            }
            Self::Probation(_) => (CLAIMABLE_SINCE, format!("queue = $4 and {SUSPECT}")),
            Self::Ids(_) => (CLAIMABLE_SINCE, format!("id = any($4) and not {SUSPECT}")),
            Self::HeldUp(_) => ("least(due_at, now())", "id = any($4) and waits_for = 'lock'".into()),
        }
    }

    /// The end of a query for the sagas of this scope that can be claimed, the longest due first.
    fn candidates(self, rows: Rows<'_>) -> String {
        let (since, condition) = self.sql();
        let rows = rows.and("id", 7);
        format!(
            "from engine.saga \
             where {condition}{rows} and graph_hash = any($5) \
                 and status in ('running', 'compensating') and {since} <= now() \
             order by {since} limit $3"
        )
    }

    /// The parameters of a query with [`ClaimScope::candidates`]. It need not mention all of them.
    fn arguments(
        self,
        rows: Rows<'_>,
        limit: i64,
        context: &ClaimContext<'_>,
    ) -> Result<PgArguments, sqlx::Error> {
        let mut arguments = PgArguments::default();
        let added = arguments
            .add(context.worker)
            .and_then(|()| arguments.add(context.lease_ms))
            .and_then(|()| arguments.add(limit))
            .and_then(|()| match self {
                Self::Due { queue, .. } | Self::Lapsed { queue, .. } | Self::Probation(queue) => {
                    arguments.add(queue)
                }
                Self::Ids(ids) | Self::HeldUp(ids) => arguments.add(ids),
            })
            .and_then(|()| arguments.add(context.hashes))
            .and_then(|()| match self {
                Self::Due { lookback_ms, .. } | Self::Lapsed { lookback_ms, .. } => {
                    arguments.add(lookback_ms)
                }
                Self::Probation(_) | Self::Ids(_) | Self::HeldUp(_) => arguments.add(0_i64),
            })
            .and_then(|()| arguments.add(rows.ids()));
        added.map_err(sqlx::Error::Encode)?;
        Ok(arguments)
    }
}

/// The claiming worker, and the graphs that it knows.
#[derive(Debug)]
pub(crate) struct ClaimContext<'a> {
    pub(crate) worker: WorkerId,
    pub(crate) lease_ms: i64,
    /// The hash of every graph that the process knows.
    pub(crate) hashes: &'a [String],
}

/// Claims sagas, the longest due first: leases them to the worker, increments their epoch, counts the attempt, and
/// records in the history that an earlier holder's attempt was lost.
pub(crate) async fn claim(
    conn: &mut PgConnection,
    scope: ClaimScope<'_>,
    rows: Rows<'_>,
    limit: i64,
    context: &ClaimContext<'_>,
) -> Result<Vec<ClaimedRow>, sqlx::Error> {
    let ((since, _), candidates) = (scope.sql(), scope.candidates(rows));
    let sql = format!(
        "with picked as ( \
             select id, lease_owner, epoch, attempt, step, direction, history_seq, claimed_at, {since} as since \
             {candidates} for update skip locked \
         ), lost as ( \
             insert into engine.history_run (saga_id, seq, step, direction, outcome, attempt, started_at, duration_ms, error, \
                 worker, epoch) \
             select id, history_seq + 1, step, direction, 'lost', attempt, coalesce(claimed_at, clock_timestamp()), \
                 coalesce(extract(epoch from clock_timestamp() - claimed_at) * 1000, 0)::bigint, \
                 '[\"the lease ended before the attempt did: its process is gone or too slow\"]', lease_owner, epoch \
             from picked where lease_owner is not null \
         ) \
         update engine.saga s set lease_owner = $1, epoch = s.epoch + 1, attempt = s.attempt + 1, \
             lost_attempts = s.lost_attempts + (p.lease_owner is not null)::int, \
             history_seq = s.history_seq + (p.lease_owner is not null)::int, \
             claimed_at = clock_timestamp(), due_at = null, waits_for = null, \
             lease_until = clock_timestamp() + $2 * interval '1 ms' \
         from picked p where s.id = p.id \
         returning s.id, s.definition, s.graph_hash, s.queue, s.status, s.step, s.direction, s.attempt, s.lost_attempts, s.in_doubt, \
             s.history_seq, s.epoch, s.cause, s.arms, s.round, s.trace, s.parent_id, s.root_id, s.depth, s.input, p.lease_owner is not null as taken_over, \
             s.cancel is not null or coalesce(s.deadline_at <= clock_timestamp(), false) as interrupted, \
             (extract(epoch from now() - p.since) * 1000)::bigint as age_ms"
    );
    let arguments = scope.arguments(rows, limit, context)?;
    sqlx::query_as_with(sqlx::AssertSqlSafe(sql), arguments).fetch_all(conn).await
}

/// Selects the ids of the sagas that [`claim`] would find. It reads little of each, so that it succeeds even if a row
/// can't be claimed.
pub(crate) async fn claimable(
    conn: &mut PgConnection,
    scope: ClaimScope<'_>,
    rows: Rows<'_>,
    limit: i64,
    context: &ClaimContext<'_>,
) -> Result<Vec<Uuid>, sqlx::Error> {
    let sql = format!("select id {}", scope.candidates(rows));
    let arguments = scope.arguments(rows, limit, context)?;
    sqlx::query_scalar_with(sqlx::AssertSqlSafe(sql), arguments).fetch_all(conn).await
}

/// The stored output of a finished step.
#[derive(Debug, FromRow)]
pub(crate) struct OutputRow {
    pub(crate) saga_id: Uuid,
    pub(crate) step: String,
    pub(crate) output: Option<Json<Box<RawValue>>>,
}

/// The outputs of a run of entries.
#[derive(Debug, FromRow)]
struct RunOutputsRow {
    #[sqlx(flatten)]
    first: OutputRow,
    next_steps: Option<Vec<String>>,
    next_outputs: Option<Json<Vec<Box<RawValue>>>>,
}

impl RunOutputsRow {
    fn entries(self) -> impl Iterator<Item = OutputRow> {
        let saga_id = self.first.saga_id;
        let mut outputs = self.next_outputs.map(|json| json.0).unwrap_or_default().into_iter();
        let next = self.next_steps.unwrap_or_default().into_iter();
        let next = next.map(move |step| OutputRow { saga_id, step, output: outputs.next().map(Json) });
        std::iter::once(self.first).chain(next)
    }
}

/// Selects the outputs of the finished steps of these sagas. Reads whole runs: there are fewer of them than entries.
pub(crate) async fn outputs(conn: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<OutputRow>, sqlx::Error> {
    let runs: Vec<RunOutputsRow> = sqlx::query_as(
        "select saga_id, step, output, next_steps, next_outputs from engine.history_run \
         where saga_id = any($1) and direction = 'action' and outcome = 'done'",
    )
    .bind(ids)
    .fetch_all(conn)
    .await?;
    Ok(runs.into_iter().flat_map(RunOutputsRow::entries).collect())
}

/// A saga whose lease was extended.
#[derive(Debug, FromRow)]
pub(crate) struct ExtendedRow {
    pub(crate) id: Uuid,
    /// Whether a cancel or a passed deadline is to be applied after its action.
    pub(crate) interrupted: bool,
}

/// Extends the leases of sagas that the worker holds, and returns those that were extended. Rows that a running
/// transaction has locked are skipped: no other process can claim them while it runs, and its commit sets a new lease.
pub(crate) async fn extend(
    conn: &mut PgConnection,
    ids: &[Uuid],
    worker: WorkerId,
    lease_ms: i64,
) -> Result<Vec<ExtendedRow>, sqlx::Error> {
    sqlx::query_as(
        "update engine.saga set lease_until = clock_timestamp() + $3 * interval '1 ms' \
         where id in (select id from engine.saga where id = any($1) and lease_owner = $2 for update skip locked) \
         returning id, status = 'running' and (cancel is not null \
             or coalesce(deadline_at <= clock_timestamp(), false) \
             or exists (select from engine.inbox i \
                 where i.saga_id = saga.id and i.state = 'unread' and i.kind = 'cancel')) as interrupted",
    )
    .bind(ids)
    .bind(worker)
    .bind(lease_ms)
    .fetch_all(conn)
    .await
}

/// A claim to be released.
#[derive(Clone, Debug)]
pub(crate) struct ReleaseRow {
    pub(crate) id: Uuid,
    pub(crate) epoch: i64,
    /// The number of attempts that stay counted.
    pub(crate) attempt: i32,
    /// The history number that the worker last knew. If the database has a later one, it keeps its own count.
    pub(crate) history_seq: i32,
    pub(crate) in_doubt: bool,
    /// Whether a call was started whose answer is not known; the history records that.
    pub(crate) called: bool,
    pub(crate) delay_ms: i64,
    /// The reason, stored with the saga for operators; `None` keeps the stored one.
    pub(crate) error: Option<String>,
    /// Whether the saga is held up, so that it waits for more than the time. It comes back at its deadline at the latest.
    pub(crate) held_up: bool,
}

/// What a release did with a claim that the worker still held.
#[derive(Debug, FromRow)]
pub(crate) struct ReleasedRow {
    pub(crate) id: Uuid,
    pub(crate) queue: String,
    /// Whether another transaction has locked the saga, so that its claim is still held.
    pub(crate) locked: bool,
}

/// Releases claims. A saga that was advanced in the meantime (by a commit whose answer was lost) keeps its newer state
/// and loses only the lease.
///
/// Sagas that another transaction has locked are skipped, so that the others are free at once. Claims that the worker
/// has lost are missing from the result.
pub(crate) async fn release(
    conn: &mut PgConnection,
    rows: &[ReleaseRow],
    worker: WorkerId,
) -> Result<Vec<ReleasedRow>, sqlx::Error> {
    sqlx::query_as(
        "with asked as ( \
             select * \
             from unnest($2::uuid[], $3::bigint[], $4::int[], $5::int[], $6::bool[], $7::bool[], $8::bigint[], $9::text[], \
                     $10::bool[]) \
                 as r (id, epoch, attempt, seq, in_doubt, called, delay_ms, error, held_up) \
         ), held as ( \
             select s.id, s.step, s.direction, s.epoch, s.claimed_at, s.history_seq, r.attempt, r.in_doubt, r.delay_ms, r.error, \
                 r.held_up, \
                 s.history_seq = r.seq as unmoved, r.called and s.history_seq = r.seq as called \
             from asked r join engine.saga s on s.id = r.id and s.epoch = r.epoch and s.lease_owner = $1 \
                 and s.status in ('running', 'compensating') \
             order by s.id for update of s skip locked \
         ), noted as ( \
             insert into engine.history_run (saga_id, seq, step, direction, outcome, attempt, started_at, duration_ms, error, \
                 worker, epoch) \
             select h.id, h.history_seq + 1, h.step, h.direction, 'retry', h.attempt, \
                 coalesce(h.claimed_at, clock_timestamp()), \
                 coalesce(extract(epoch from clock_timestamp() - h.claimed_at) * 1000, 0)::bigint, \
                 '[\"the call was given up before its outcome was stored\"]', $1, h.epoch \
             from held h where h.called \
         ), freed as ( \
             update engine.saga s set lease_owner = null, claimed_at = null, lease_until = null, \
                 waits_for = case when h.held_up then 'lock' end, \
                 due_at = least(clock_timestamp() + h.delay_ms * interval '1 ms', \
                     case when h.held_up and s.deadline_at > clock_timestamp() then s.deadline_at end), \
                 attempt = case when h.unmoved then h.attempt else greatest(s.attempt - 1, 0) end, \
                 in_doubt = s.in_doubt or (h.unmoved and h.in_doubt), \
                 error = case when h.unmoved then coalesce(h.error, s.error) else s.error end, \
                 history_seq = s.history_seq + h.called::int \
             from held h where s.id = h.id \
             returning s.id, s.queue \
         ) \
         select id, queue, false as locked from freed \
         union all \
         select s.id, s.queue, true from asked r join engine.saga s on s.id = r.id and s.epoch = r.epoch and s.lease_owner = $1 \
         where not exists (select from freed f where f.id = s.id)",
    )
    .bind(worker)
    .bind(rows.iter().map(|row| row.id).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.epoch).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.attempt).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.history_seq).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.in_doubt).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.called).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.delay_ms).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.error.as_deref()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.held_up).collect::<Vec<_>>())
    .fetch_all(conn)
    .await
}

/// Makes sagas due at once that are held up, and returns the ids of those that were.
pub(crate) async fn wake_held_up(conn: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "update engine.saga set due_at = clock_timestamp(), waits_for = null where id in (select id from engine.saga \
             where id = any($1) and waits_for = 'lock' and due_at is not null for update skip locked) returning id",
    )
    .bind(ids)
    .fetch_all(conn)
    .await
}

/// Of these sagas, selects those that are held up, or that the worker has not given back yet.
pub(crate) async fn still_held_up(
    conn: &mut PgConnection,
    ids: &[Uuid],
    worker: WorkerId,
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "select id from engine.saga where id = any($1) and (waits_for = 'lock' or lease_owner = $2)",
    )
    .bind(ids)
    .bind(worker)
    .fetch_all(conn)
    .await
}
