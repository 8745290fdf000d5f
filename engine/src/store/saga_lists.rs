//! Lists of sagas. For each condition alone an index leads to the page, however many sagas there are.
//!
//! - Sagas of a definition or of a time are sorted by the time of their start. The batches in which sagas are started
//!   are indexed by definition and time, and name their sagas. A time without a definition is looked up for each
//!   definition, and there are few.
//! - The statuses that few sagas have are in partial indexes, so the status is written into the statement.
//! - Children, and the sagas of a tree, are found by their parent or root, and then sorted.
//! - Running sagas are mostly among the newest; the others are those that are due, leased or wait, by three partial
//!   indexes. So it is with those that have not moved for a time, among the newest that were started before it.

use std::time::Duration;

use sqlx::{PgConnection, PgPool, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::{
    model::{
        page::{Page, PageOf},
        status::Status,
        views::{SagaFilter, SagaView},
    },
    store::queries::{SAGA_COLUMNS, SagaRow},
    support::{
        bounded_list::{ListCost, ListError, read_list},
        page::{page_rows, read_page},
    },
};

/// How many of the newest sagas are looked at first, and how many are few.
const NEWEST: i64 = 2000;

const CENTURY_MS: i64 = 100 * 365 * 24 * 60 * 60 * 1000;

/// The names of all definitions that have sagas, one look at the index for each.
const DEFINITIONS: &str = "with recursive owner (name) as ( \
         (select definition from engine.start_batch order by definition limit 1) \
         union all \
         select (select definition from engine.start_batch where definition > owner.name order by definition limit 1) \
         from owner where owner.name is not null) ";

/// The sagas of a definition, whose SQL comes next and ends in `)`, in the order of their starts. An id can be used
/// again when its saga is deleted, so it is the time that tells whether a saga is one of the batch. `offset 0` has each
/// looked up by its id: joined, the planner takes the agreement of the times for rare, and reads everything.
const BY_START: &str = "(select saga.*, batch.started_at from engine.start_batch batch \
     cross join lateral unnest(batch.saga_ids) as member (id) \
     cross join lateral (select * from engine.saga \
         where id = member.id and created_at = batch.started_at offset 0) saga \
     where batch.definition = ";

/// All sagas, with the columns of [`BY_START`].
const BY_ID: &str = "(select saga.*, created_at as started_at from engine.saga saga) saga";

/// The ids of the sagas with a business key, of all definitions.
const KEY_OWNERS: &str = "with recursive owner (name) as ( \
         (select definition from engine.business_key order by definition limit 1) \
         union all \
         select (select definition from engine.business_key where definition > owner.name order by definition limit 1) \
         from owner where owner.name is not null) \
     select k.saga_id from owner join engine.business_key k on k.definition = owner.name where k.key = ";

macro_rules! moving {
    () => {
        "select id from engine.saga where due_at is not null \
         union all select id from engine.saga where lease_until is not null \
         union all select id from engine.saga where waits_for is not null"
    };
}

/// The ids of all sagas that are not at rest.
const MOVING: &str = moving!();

/// SQL that selects the id, definition and input of all sagas that have not ended: those that run, wait, are undone, or
/// are dead and wait for an operator. Partial indexes lead to them, however many sagas there are. It stands in a
/// subquery, for lists of what these sagas have not settled yet.
pub const UNSETTLED_SAGAS: &str = concat!(
    "select id, definition, input from engine.saga where id in (",
    moving!(),
    " union all select saga_id from engine.dead_job where resolution is null)"
);

/// When a saga moved last: the end of its newest entry other than of an attempt that is made again, else its start.
const MOVED_AT: &str = "coalesce((select r.started_at \
         + coalesce(r.next_offsets_us[cardinality(r.next_offsets_us)], 0) * interval '1 microsecond' \
         + coalesce(r.next_durations_ms[cardinality(r.next_durations_ms)], r.duration_ms) * interval '1 millisecond' \
     from engine.history_run r where r.saga_id = saga.id and r.outcome not in ('retry', 'snoozed', 'lost') \
     order by r.seq desc limit 1), saga.created_at)";

/// Whether a saga sleeps, or waits for a signal or for its children, and nothing has made it due yet.
const IN_WAIT: &str = "coalesce(waits_for in ('sleep', 'signal') and due_at > now() or waits_for = 'children' \
     and coalesce(due_at > now(), true), false)";

/// Selects sagas, the newest first: by their ids, or by their start if the list is [by time](SagaFilter::is_by_time).
pub(crate) async fn sagas(
    pool: &PgPool,
    filter: &SagaFilter,
    page: Page,
) -> Result<PageOf<SagaView>, ListError> {
    let page = Page { limit: page.limit.clamp(1, 1000), ..page };
    let read = async |conn: &mut PgConnection| {
        if is_unfinished(filter) && !filter.is_by_time() {
            let newest: PageOf<SagaRow> =
                read_page(among_newest(filter, page).build().fetch(&mut *conn), page.limit).await?;
            if newest.has_more {
                return Ok(newest);
            }
        }
        let by_status = is_indexed_by_status(filter) || is_among_few(&mut *conn, filter).await?;
        read_page(all(filter, page, by_status).build().fetch(&mut *conn), page.limit).await
    };
    let rows = read_list(pool, ListCost::may_scan_if(filter.may_scan()), read).await?;
    Ok(rows.try_map(SagaRow::view)?)
}

/// Whether only sagas are wanted that are not at rest.
fn is_unfinished(filter: &SagaFilter) -> bool {
    filter.status == Some(Status::Running) || filter.stuck_for.is_some()
}

fn among_newest(filter: &SagaFilter, page: Page) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new(format!(
        "select {SAGA_COLUMNS} from (select saga.*, created_at as started_at from engine.saga saga where true"
    ));
    if let Some(after) = page.after {
        query.push(" and id < ").push_bind(after);
    }
    if let Some(stuck) = filter.stuck_for {
        // Ids are times: those that begin with the latest time at which such a saga can have been started, and earlier
        // ones.
        query.push(" and id < (lpad(to_hex(greatest(extract(epoch from ");
        push_ago(&mut query, stuck);
        query.push(") * 1000, 0)::bigint), 12, '0') || repeat('f', 20))::uuid");
    }
    query.push(" order by id desc limit ").push_bind(NEWEST).push(") saga where true");
    push_conditions(&mut query, filter);
    query.push(" order by id desc limit ").push_bind(page_rows(page.limit));
    query
}

/// `by_status`: from the sagas in the status, to which an index leads, whatever else the filter says.
fn all(filter: &SagaFilter, page: Page, by_status: bool) -> QueryBuilder<Postgres> {
    let is_by_time = filter.is_by_time();
    let is_of_tree = filter.parent.is_some() || filter.root.is_some();
    let is_by_start = is_by_time && !by_status && !is_of_tree;
    let of_each_definition = is_by_start && filter.definition.is_none();
    let mut query = QueryBuilder::new("");
    if of_each_definition {
        query.push(DEFINITIONS).push("select saga.* from owner cross join lateral (");
    }
    query.push("select ").push(SAGA_COLUMNS).push(" from ");
    match &filter.definition {
        Some(definition) if is_by_start => query.push(BY_START).push_bind(definition.clone()).push(") saga"),
        None if is_by_start => query.push(BY_START).push("owner.name) saga"),
        _ if is_of_tree => push_tree(&mut query, filter),
        _ => query.push(BY_ID),
    };
    query.push(" where true");
    push_conditions(&mut query, filter);
    if is_unfinished(filter) {
        query.push(" and id in (").push(MOVING).push(")");
    }
    if let Some(after) = page.after {
        push_after(&mut query, after, is_by_time);
    }
    let order =
        if is_by_time { " order by started_at desc, id desc limit " } else { " order by id desc limit " };
    query.push(order).push_bind(page_rows(page.limit));
    if of_each_definition {
        query.push(") saga where owner.name is not null order by created_at desc, id desc limit ");
        query.push_bind(page_rows(page.limit));
    }
    query
}

/// The children of the saga that the filter names, or else its tree, with the columns of [`BY_START`]. `offset 0` has them
/// found by an index of their own: the planner would look for them among all newer sagas.
fn push_tree<'a>(
    query: &'a mut QueryBuilder<Postgres>,
    filter: &SagaFilter,
) -> &'a mut QueryBuilder<Postgres> {
    query.push("(select saga.*, created_at as started_at from engine.saga saga where ");
    match (filter.parent, filter.root) {
        (Some(parent), _) => query.push("parent_id = ").push_bind(parent.0),
        (None, root) => {
            let root = root.map(|root| root.0);
            query.push("root_id = ").push_bind(root);
            query
                .push(" union all select saga.*, created_at from engine.saga saga where id = ")
                .push_bind(root)
        }
    };
    query.push(" offset 0) saga")
}

/// Whether a partial index leads to the few sagas that can be in the list, in no order of time.
fn is_indexed_by_status(filter: &SagaFilter) -> bool {
    is_unfinished(filter) || matches!(filter.status, Some(Status::Compensating | Status::Dead))
}

/// Whether few sagas have the status of the list. An index leads to all that were compensated, and there may be any
/// number.
async fn is_among_few(conn: &mut PgConnection, filter: &SagaFilter) -> Result<bool, sqlx::Error> {
    if filter.status != Some(Status::Compensated) || !filter.is_by_time() {
        return Ok(false);
    }
    sqlx::query_scalar(
        "select count(*) < $1 from (select from engine.saga where status = 'compensated' limit $1) compensated",
    )
    .bind(NEWEST)
    .fetch_one(conn)
    .await
}

/// Begins after a saga in the order of the list. If that one was deleted since, the time in its id stands for that of
/// its start.
fn push_after(query: &mut QueryBuilder<Postgres>, after: Uuid, is_by_time: bool) {
    if is_by_time {
        let (seconds, nanos) = after.get_timestamp().map(|time| time.to_unix()).unwrap_or_default();
        let seconds = i64::try_from(seconds).unwrap_or_default();
        let time = chrono::DateTime::from_timestamp(seconds, nanos).unwrap_or_default();
        let mut push_start = |condition: &str| {
            query.push(condition);
            query.push("coalesce((select start.created_at from engine.saga start where start.id = ");
            query.push_bind(after).push("), ").push_bind(time).push(")");
        };
        // Only the first of the two bounds the batches.
        push_start(" and started_at <= ");
        push_start(" and (started_at, id) < (");
        query.push(", ").push_bind(after).push(")");
    } else {
        query.push(" and id < ").push_bind(after);
    }
}

fn push_conditions(query: &mut QueryBuilder<Postgres>, filter: &SagaFilter) {
    if let Some(status) = filter.status {
        query.push(" and status = '").push(status.name()).push("'");
    }
    if let Some(definition) = &filter.definition {
        query.push(" and definition = ").push_bind(definition.clone());
    }
    if let Some(key) = &filter.business_key {
        query.push(" and id in (");
        match &filter.definition {
            Some(definition) => {
                query.push("select saga_id from engine.business_key where definition = ");
                query.push_bind(definition.clone()).push(" and key = ")
            }
            None => query.push(KEY_OWNERS),
        };
        query.push_bind(key.clone()).push(")");
    }
    if let Some(parent) = filter.parent {
        query.push(" and parent_id = ").push_bind(parent.0);
    }
    if let Some(root) = filter.root {
        query.push(" and (root_id = ").push_bind(root.0).push(" or id = ").push_bind(root.0).push(")");
    }
    if let Some(time) = filter.created_after {
        query.push(" and started_at > ").push_bind(time);
    }
    if let Some(time) = filter.created_before {
        query.push(" and started_at < ").push_bind(time);
    }
    if let Some(stuck) = filter.stuck_for {
        query.push(" and status in ('running', 'compensating') and created_at < ");
        push_ago(query, stuck);
        query.push(" and ").push(MOVED_AT).push(" < ");
        push_ago(query, stuck);
        query.push(" and not ").push(IN_WAIT);
    }
}

/// The time that long ago, by the database's clock.
fn push_ago(query: &mut QueryBuilder<Postgres>, ago: Duration) {
    // No saga is older than a century, and the database can't subtract any time.
    let ms = i64::try_from(ago.as_millis()).unwrap_or(CENTURY_MS).min(CENTURY_MS);
    query.push("(now() - ").push_bind(ms).push(" * interval '1 millisecond')");
}
