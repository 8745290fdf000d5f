//! What reads the lines of an upload, and what can be wrong with it.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use engine::{ItemPages, StepError, sqlx::PgConnection};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Line, Upload};

/// What is wrong with what reads the lines of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) enum Fault {
    FailsInSql,
    Fails,
    Panics,
    Hangs,
    /// In Rust, while no statement runs.
    Sleeps,
    Writes,
    /// The last item is on the next page again.
    Repeats,
    /// Each page is the first one.
    StartsAnew,
    /// A page has an item twice.
    Doubles,
    ExceedsTheLimit,
    /// An item can't be stored.
    HoldsNul,
    CountsInVain,
    /// Once it is mended, counting takes more than half of the time of a transaction.
    CountsSlowly,
    Miscounts,
}

/// What the tests see of a reader, and with what they control the lines.
#[derive(Debug, Default)]
pub(super) struct World {
    /// The pages that were asked for: behind which line, and how many lines.
    pub(super) asked: Mutex<Vec<(Option<i64>, u32)>>,
    /// Faults of readers are mended.
    pub(super) mended: AtomicBool,
}

#[derive(Debug)]
pub(super) struct Lines(pub(super) Arc<World>);

impl Lines {
    async fn fail(
        &self,
        conn: &mut PgConnection,
        upload: &Upload,
        is_refill: bool,
    ) -> Result<Option<Fault>, StepError> {
        let fault = upload.fault.filter(|_| is_refill && !self.0.mended.load(Ordering::Relaxed));
        let sql = match fault {
            Some(Fault::FailsInSql) => "select 1 / 0",
            Some(Fault::Hangs) => "select pg_sleep(600)",
            Some(Fault::Writes) => "delete from line",
            Some(Fault::Fails) => return Err(StepError::Other("the lines are elsewhere".into())),
            Some(Fault::Panics) => panic!("the reader panics"),
            Some(Fault::Sleeps) => std::future::pending().await,
            _ => return Ok(fault),
        };
        sqlx::query(sql).execute(conn).await?;
        Ok(fault)
    }
}

impl ItemPages for Lines {
    type Input = Upload;
    type Item = Line;

    async fn count(&self, conn: &mut PgConnection, upload: &Upload) -> Result<Option<i64>, StepError> {
        if upload.uncounted {
            return Ok(None);
        }
        let sql = match upload.fault {
            Some(Fault::CountsSlowly) if self.0.mended.load(Ordering::Relaxed) => "select pg_sleep(1.2)",
            Some(Fault::CountsInVain | Fault::CountsSlowly) => "select 1 / 0",
            _ => "select",
        };
        sqlx::query(sql).execute(&mut *conn).await?;
        let count = sqlx::query_scalar("select count(*) from line where upload = $1");
        let count: Option<i64> = count.bind(upload.id).fetch_one(conn).await?;
        Ok(count.map(|count| count + i64::from(upload.fault == Some(Fault::Miscounts))))
    }

    async fn page(
        &self,
        conn: &mut PgConnection,
        upload: &Upload,
        after: Option<&Line>,
        limit: u32,
    ) -> Result<Vec<Line>, StepError> {
        let after = after.map(|line| line.number);
        self.0.asked.lock().unwrap().push((after, limit));
        let is_refill = after.is_some_and(|after| after >= 3);
        let fault = self.fail(conn, upload, is_refill).await?;
        let after = match fault {
            Some(Fault::Repeats) => after.map(|after| after - 1),
            Some(Fault::StartsAnew) => None,
            _ => after,
        };
        let limit = limit + u32::from(fault == Some(Fault::ExceedsTheLimit));
        let page = "select * from line where upload = $1 and number > $2 order by number limit $3";
        let page = sqlx::query_as(page).bind(upload.id).bind(after.unwrap_or(0)).bind(i64::from(limit));
        let mut lines: Vec<Line> = page.fetch_all(conn).await?;
        match fault {
            Some(Fault::Doubles) => {
                let first = lines.first().cloned();
                if let Some((last, first)) = lines.last_mut().zip(first) {
                    *last = first;
                }
            }
            Some(Fault::HoldsNul) => lines.iter_mut().for_each(|line| line.text = "\0".into()),
            _ => {}
        }
        Ok(lines)
    }
}
