//! Deletes what is over its time: sagas with all that is theirs, business keys and audit records.
//!
//! Nothing here runs by itself: a process calls these functions, batch by batch, and decides about the pauses between.
//!
//! Sagas are looked at in the order of their ids, which is the order of their starts, up to those that are too young to
//! be over their time. For each time that sagas are kept for there is one such walk, whose place is stored. What a walk
//! passes over (sagas that are unfinished, dead, ended late or kept for another time) it sees again in its next round, a
//! day later. So claims and commits need no index for it (`docs/decisions/0030`).

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::{
    engine::Engine,
    model::error_chain::ErrorChain,
    model::retention::{Pruned, Retention},
    store::{
        self,
        retention::{Visited, Walk, millis},
    },
    support::{
        connection,
        parts::{Parts, Statement},
    },
};

/// The time limit of one batch.
const BATCH_TIMEOUT: Duration = Duration::from_secs(30);
/// How many descendants of sagas a batch deletes.
const MOST_DESCENDANTS: i64 = 5_000;
/// How long a walk rests between two rounds that begin with the first saga.
const ROUND: TimeDelta = TimeDelta::hours(24);
/// Ids that lie further ahead than this are no UUIDs of version 7, so they say nothing about a time. A walk looks at all of
/// them once a round.
const AHEAD: TimeDelta = TimeDelta::hours(24);

impl Engine {
    /// How long sagas and their business keys are kept.
    pub fn retention(&self) -> &Retention {
        &self.core.retention
    }

    /// Looks at up to `limit` sagas for each time that sagas are kept for, and deletes those that are over it, with their
    /// histories, messages and progress. Their resolved dead jobs go to the archive, their audit records stay, and their
    /// business keys are kept as the retention says. Dead sagas that wait for an operator stay. A tree of
    /// children is deleted with its root, once all of it has ended.
    /// Any number of processes may call this at once; one at a time deletes.
    ///
    /// # Errors
    /// When the database can't be reached; what was deleted before stays deleted.
    pub async fn prune_sagas(&self, limit: u32) -> Result<Pruned, sqlx::Error> {
        let mut done = Pruned::default();
        for keep in self.retention().times() {
            let batch = connection::with_timeout(self.pool(), BATCH_TIMEOUT, async |conn| {
                let mut tx = conn.begin().await?;
                let batch = prune(&mut tx, self.retention(), keep, limit).await?;
                tx.commit().await?;
                Ok(batch)
            })
            .await?;
            done.deleted += batch.deleted;
            done.more |= batch.more;
        }
        Ok(done)
    }

    /// Deletes up to `limit` business keys that have outlived their sagas for as long as the retention says.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn prune_business_keys(&self, limit: u32) -> Result<Pruned, sqlx::Error> {
        let forgotten = async |conn: &mut _| store::retention::forget_keys(conn, limit).await;
        let deleted =
            connection::with_timeout(self.pool(), BATCH_TIMEOUT, async |conn| forgotten(&mut **conn).await)
                .await?;
        Ok(Pruned { deleted, more: deleted >= u64::from(limit) })
    }

    /// Deletes up to `limit` audit records that are over the time that the database holds
    /// ([`set_audit_retention`](crate::set_audit_retention)).
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn prune_audit(&self, limit: u32) -> Result<Pruned, sqlx::Error> {
        let most = i32::try_from(limit).unwrap_or(i32::MAX);
        let deleted = store::retention::delete_audits(self.pool(), most).await?;
        Ok(Pruned { deleted, more: deleted >= u64::from(limit) })
    }

    /// For how long the oldest saga that was not looked at yet may have been over its time; if all were, how long ago.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn saga_prune_lag(&self) -> Result<Duration, sqlx::Error> {
        let times: Vec<i64> = self.retention().times().into_iter().map(millis).collect();
        self.lag(async |conn| store::retention::sagas_overdue(conn, &times).await).await
    }

    /// For how long the oldest business key that is left has been free.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn business_key_prune_lag(&self) -> Result<Duration, sqlx::Error> {
        self.lag(async |conn| store::retention::keys_overdue(conn).await).await
    }

    /// For how long the oldest audit record has been over its time.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn audit_prune_lag(&self) -> Result<Duration, sqlx::Error> {
        self.lag(async |conn| store::retention::audits_overdue(conn).await).await
    }

    async fn lag(
        &self,
        overdue: impl AsyncFnOnce(&mut PgConnection) -> Result<f64, sqlx::Error>,
    ) -> Result<Duration, sqlx::Error> {
        let seconds =
            connection::with_timeout(self.pool(), BATCH_TIMEOUT, async |conn| overdue(&mut **conn).await)
                .await?;
        Ok(Duration::try_from_secs_f64(seconds).unwrap_or_default())
    }
}

/// Sets how long audit records are kept in this database; `None` for ever. It takes the owner of the engine's tables,
/// because everybody else is refused.
///
/// # Errors
/// When the database can't be reached, or refuses: less than 365 days are not possible.
pub async fn set_audit_retention(pool: &sqlx::PgPool, keep: Option<Duration>) -> Result<(), sqlx::Error> {
    store::retention::set_audit_retention(pool, keep).await
}

/// Looks at the next sagas of a walk, and deletes those that are over their time.
async fn prune(
    conn: &mut PgConnection,
    retention: &Retention,
    keep: Duration,
    limit: u32,
) -> Result<Pruned, sqlx::Error> {
    let keep_ms = millis(keep);
    let Some(walk) = store::retention::lock_walk(conn, keep_ms).await? else {
        return Ok(Pruned::default());
    };
    let cutoff =
        walk.now.checked_sub_signed(TimeDelta::milliseconds(keep_ms)).unwrap_or(DateTime::UNIX_EPOCH);
    let range = Range::of(&walk, cutoff);
    let mut visited =
        store::retention::visit(conn, retention, keep_ms, (walk.after_id, range.end()), limit).await?;
    let is_cut = match cut_large_trees(conn, &mut visited).await? {
        Cut::No => false,
        Cut::Behind => true,
        Cut::Within(root) => {
            let descendants = store::retention::deepest(conn, root, MOST_DESCENDANTS).await?;
            let deleted = delete(conn, retention, &descendants).await?;
            if deleted > 0 {
                // The walk stays before the root.
                return Ok(Pruned { deleted, more: true });
            }
            true
        }
    };
    let over: Vec<Uuid> = visited.iter().filter(|saga| saga.is_over).map(|saga| saga.id).collect();
    let deleted = delete(conn, retention, &over).await?;
    let is_full = is_cut || visited.len() >= limit as usize;
    let next = range.after(&walk, &visited, is_full, cutoff);
    store::retention::set_walk(conn, keep_ms, next.after_id, next.reached, next.begins_round).await?;
    Ok(Pruned { deleted, more: is_full || next.goes_on })
}

/// Where a batch is cut because it would delete too many sagas at once.
enum Cut {
    No,
    /// Before or behind a tree: the next batch begins there.
    Behind,
    /// Within the tree of this saga, the first of the batch, which is larger than a batch: its descendants go first.
    Within(Uuid),
}

/// Ends a batch where it would delete too many sagas at once.
async fn cut_large_trees(conn: &mut PgConnection, visited: &mut Vec<Visited>) -> Result<Cut, sqlx::Error> {
    let over: Vec<Uuid> = visited.iter().filter(|saga| saga.is_over).map(|saga| saga.id).collect();
    let sizes: HashMap<Uuid, i64> = store::retention::tree_sizes(conn, &over).await?.into_iter().collect();
    let mut descendants = 0;
    for (nth, saga) in visited.iter_mut().enumerate() {
        let size = sizes.get(&saga.id).copied().unwrap_or_default();
        descendants += size;
        if descendants <= MOST_DESCENDANTS {
            continue;
        }
        if nth > 0 {
            visited.truncate(nth);
            return Ok(Cut::Behind);
        }
        // If nothing of it can be deleted now, the walk passes over it.
        saga.is_over = false;
        let root = saga.id;
        visited.truncate(1);
        return Ok(Cut::Within(root));
    }
    Ok(Cut::No)
}

/// Deletes sagas, and passes over those that can't be deleted (a trigger raises, the data is damaged): the walk meets them
/// again in its next round.
async fn delete(conn: &mut PgConnection, retention: &Retention, over: &[Uuid]) -> Result<u64, sqlx::Error> {
    let mut parts = Parts::of(over);
    parts.run(Delete { conn, retention }).await?;
    for (saga_id, error) in &parts.refused {
        tracing::warn!(saga.id = %saga_id, error = %ErrorChain(error), "a saga is over its time and can't be deleted; it is tried again in a day");
    }
    Ok(parts.done.len() as u64)
}

/// Deletes sagas with all that is theirs, in a transaction of a connection.
struct Delete<'a> {
    conn: &'a mut PgConnection,
    retention: &'a Retention,
}

impl Statement<Uuid> for Delete<'_> {
    type Row = Uuid;

    async fn run(&mut self, ids: &[Uuid]) -> Result<Vec<Uuid>, sqlx::Error> {
        // A savepoint: what fails leaves no trace, and the transaction goes on.
        let mut part = self.conn.begin().await?;
        let whole = whole_trees(&mut part, ids).await?;
        let deleted = store::retention::delete_sagas(&mut part, &whole).await?;
        let ids: Vec<Uuid> = deleted.iter().map(|saga| saga.id).collect();
        if !ids.is_empty() {
            store::retention::delete_belongings(&mut part, &ids).await?;
            store::retention::archive_dead_jobs(&mut part, &ids).await?;
            store::retention::release_keys(&mut part, &deleted, millis(self.retention.keys())).await?;
        }
        part.commit().await?;
        Ok(ids)
    }
}

/// Of these sagas and their descendants, those whose whole tree can be deleted now: all of it has ended, and no other
/// transaction holds any of it.
async fn whole_trees(conn: &mut PgConnection, roots: &[Uuid]) -> Result<Vec<Uuid>, sqlx::Error> {
    let descendants = store::retention::descendants(conn, roots).await?;
    if descendants.is_empty() {
        return Ok(roots.to_vec());
    }
    let all: Vec<Uuid> = roots.iter().copied().chain(descendants.iter().map(|(id, _)| *id)).collect();
    let locked: HashSet<Uuid> = store::retention::lock_ended(conn, &all).await?.into_iter().collect();
    let held = descendants.iter().filter(|(id, _)| !locked.contains(id)).map(|(_, root)| *root);
    let incomplete: HashSet<Uuid> =
        held.chain(roots.iter().copied().filter(|root| !locked.contains(root))).collect();
    let whole = descendants.into_iter().filter(|(_, root)| !incomplete.contains(root)).map(|(id, _)| id);
    Ok(roots.iter().copied().filter(|root| !incomplete.contains(root)).chain(whole).collect())
}

/// Which ids a walk is among.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Range {
    /// Those of sagas that were started long enough ago, up to this id.
    Old(Uuid),
    /// Those that are no times.
    Foreign,
}

/// Where a walk goes on.
#[derive(Debug, PartialEq, Eq)]
struct Next {
    after_id: Uuid,
    /// The time of which all earlier sagas have been looked at.
    reached: Option<DateTime<Utc>>,
    begins_round: bool,
    /// Whether there is more to look at now, although the page was not full.
    goes_on: bool,
}

impl Range {
    fn of(walk: &Walk, cutoff: DateTime<Utc>) -> Self {
        // Time passes while a walk is among the foreign ids.
        let is_foreign = walk.after_id >= id_of(walk.now + AHEAD / 2);
        if is_foreign { Self::Foreign } else { Self::Old(id_of(cutoff)) }
    }

    fn end(self) -> Uuid {
        match self {
            Self::Old(end) => end,
            Self::Foreign => Uuid::max(),
        }
    }

    fn after(self, walk: &Walk, visited: &[Visited], is_full: bool, cutoff: DateTime<Utc>) -> Next {
        let after_id = visited.last().map_or(walk.after_id, |saga| saga.id);
        let stay = Next { after_id, reached: None, begins_round: false, goes_on: false };
        match (self, is_full) {
            (Self::Old(_), true) => Next { reached: Some(time_of(after_id)), ..stay },
            (Self::Old(_), false) if walk.now - walk.round_began_at < ROUND => {
                Next { reached: Some(cutoff), ..stay }
            }
            // The round ends with the ids that are no times.
            (Self::Old(_), false) => {
                Next { after_id: first_foreign(walk.now), reached: Some(cutoff), goes_on: true, ..stay }
            }
            (Self::Foreign, true) => stay,
            (Self::Foreign, false) => {
                Next { after_id: Uuid::nil(), begins_round: true, goes_on: true, ..stay }
            }
        }
    }
}

/// The lowest id that no saga gets before tomorrow, if ids are UUIDs of version 7.
fn first_foreign(now: DateTime<Utc>) -> Uuid {
    id_of(now + AHEAD)
}

/// The lowest UUID of version 7 of a time: its first 48 bits are milliseconds since 1970.
fn id_of(time: DateTime<Utc>) -> Uuid {
    let ms = u128::try_from(time.timestamp_millis()).unwrap_or_default();
    Uuid::from_u128(ms << 80)
}

fn time_of(id: Uuid) -> DateTime<Utc> {
    let ms = i64::try_from(id.as_u128() >> 80).unwrap_or_default();
    DateTime::from_timestamp_millis(ms).unwrap_or(DateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + hours * 3600, 0).unwrap()
    }

    fn walk(after_id: Uuid, round_began: i64) -> Walk {
        Walk { after_id, round_began_at: at(round_began), now: at(0) }
    }

    fn saga(id: Uuid) -> Visited {
        Visited { id, is_over: false }
    }

    #[test]
    fn a_walk_goes_on_behind_the_last_saga_and_tells_how_far_it_is() {
        let (walk, cutoff) = (walk(Uuid::nil(), -1), at(-100));
        let range = Range::of(&walk, cutoff);
        assert_eq!(range, Range::Old(id_of(cutoff)));
        let last = id_of(at(-200));
        let next = range.after(&walk, &[saga(id_of(at(-300))), saga(last)], true, cutoff);
        assert_eq!(
            next,
            Next { after_id: last, reached: Some(at(-200)), begins_round: false, goes_on: false }
        );
        let next = range.after(&walk, &[saga(last)], false, cutoff);
        assert_eq!(next, Next { after_id: last, reached: Some(cutoff), begins_round: false, goes_on: false });
    }

    #[test]
    fn a_day_later_a_walk_looks_at_foreign_ids_and_begins_anew() {
        let (old, cutoff) = (walk(id_of(at(-200)), -24), at(-100));
        let range = Range::of(&old, cutoff);
        let next = range.after(&old, &[], false, cutoff);
        assert!(next.goes_on && !next.begins_round);
        assert_eq!(next.after_id, id_of(at(24)));

        // Some hours later.
        let foreign = Walk { now: at(5), ..walk(next.after_id, -24) };
        let range = Range::of(&foreign, cutoff);
        assert_eq!((range, range.end()), (Range::Foreign, Uuid::max()));
        let id = Uuid::from_u128(u128::MAX / 2);
        let next = range.after(&foreign, &[saga(id)], true, cutoff);
        assert_eq!(next, Next { after_id: id, reached: None, begins_round: false, goes_on: false });
        let next = range.after(&foreign, &[saga(id)], false, cutoff);
        assert!(next.begins_round && next.goes_on && next.after_id.is_nil());
    }
}
