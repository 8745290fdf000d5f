//! Lists of the rows in one status, newest first by their ids.
//!
//! No index has the status, because every row changes it a few times, and these updates are to stay HOT. Four ways lead
//! to the rows, and each looks at about as many as it returns:
//!
//! - statuses off the way of most rows are recorded in a narrow table, by a trigger (`shop.order_by_status` and
//!   `shop.notification_by_status`);
//! - the status that every row gets and in which some stay (`confirmed`) is recorded there a while later, by a process; rows
//!   in it are found among the newest, or else among the recorded and those that are not old enough to be recorded;
//! - rows that a saga is to move on are found among the newest, or else through the sagas that have not ended;
//! - the status that nearly all rows have in the end (`sent`) is found from the end of the primary key.

use engine::{ListCost, ListError, Page, PageOf, UNSETTLED_SAGAS, page_rows, read_list, read_page};
use sqlx::{FromRow, PgPool, Postgres, QueryBuilder, postgres::PgRow};
use uuid::Uuid;

use super::read;

/// How many of the newest rows are looked at first.
const NEWEST: i64 = 2000;

/// A table whose rows have a status.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StatusTable {
    /// What is selected of a row `r`.
    pub(crate) columns: &'static str,
    /// The table.
    pub(crate) table: &'static str,
    /// Its primary key, a UUID of version 7.
    pub(crate) key: &'static str,
    /// The table that records the statuses in which rows stay, by (status, key).
    pub(crate) recorded: &'static str,
    /// An expression for the `created_at` of the newest row that was recorded [later](StatusPath::RecordedLater).
    pub(crate) recorded_through: &'static str,
    /// The definitions of the sagas that move rows on, and the expression of such a saga `s` for the key of its row.
    pub(crate) moved_by: (&'static str, &'static str),
}

/// What leads to the rows in a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatusPath {
    /// It is recorded.
    Recorded,
    /// It is recorded when rows have had it for a while.
    RecordedLater,
    /// A saga is to move the rows on.
    Moving,
    /// Nearly all rows have it in the end.
    Common,
}

impl StatusPath {
    /// Whether a list may have to look at many rows before a page is full.
    pub(crate) fn may_scan(self) -> bool {
        self != Self::Recorded
    }
}

impl StatusTable {
    /// Reads a page of the rows in this status.
    ///
    /// # Errors
    /// See [`ListError`]; a list whose path does not [scan](StatusPath::may_scan) never times out.
    pub(crate) async fn read<T>(
        &self,
        pool: &PgPool,
        path: StatusPath,
        status: &'static str,
        page: Page,
    ) -> Result<PageOf<T>, ListError>
    where
        T: for<'r> FromRow<'r, PgRow>,
    {
        match path {
            StatusPath::Recorded => {
                read(pool, ListCost::Indexed, self.recorded(status, page), page.limit).await
            }
            StatusPath::Common => {
                read(pool, ListCost::MayScan, self.among(status, page, None), page.limit).await
            }
            StatusPath::Moving => self.newest_or(pool, self.moving(status, page), status, page).await,
            StatusPath::RecordedLater => {
                self.newest_or(pool, self.recorded_later(status, page), status, page).await
            }
        }
    }

    /// Looks at the newest rows, and if these don't fill the page, reads it by another query.
    async fn newest_or<T>(
        &self,
        pool: &PgPool,
        mut otherwise: QueryBuilder<Postgres>,
        status: &'static str,
        page: Page,
    ) -> Result<PageOf<T>, ListError>
    where
        T: for<'r> FromRow<'r, PgRow>,
    {
        read_list(pool, ListCost::MayScan, async |conn| {
            let mut newest = self.among(status, page, Some(NEWEST));
            let newest = read_page(newest.build().fetch(&mut *conn), page.limit).await?;
            if newest.has_more {
                return Ok(newest);
            }
            read_page(otherwise.build().fetch(conn), page.limit).await
        })
        .await
    }

    /// Looks at the newest rows, or at all.
    fn among(&self, status: &'static str, page: Page, newest: Option<i64>) -> QueryBuilder<Postgres> {
        let Self { columns, table, key, .. } = self;
        let mut query = QueryBuilder::new(format!("select {columns} from (select * from {table} where true"));
        push_after(&mut query, key, page.after);
        if let Some(newest) = newest {
            query.push(format!(" order by {key} desc limit {newest}"));
        }
        query.push(") r where r.status = ").push_bind(status);
        query.push(format!(" order by r.{key} desc limit ")).push_bind(page_rows(page.limit));
        query
    }

    fn recorded(&self, status: &'static str, page: Page) -> QueryBuilder<Postgres> {
        let Self { columns, key, recorded, .. } = self;
        let mut query =
            QueryBuilder::new(format!("select {columns} from (select {key} from {recorded} where status = "));
        query.push_bind(status);
        push_after(&mut query, key, page.after);
        query.push(format!(" order by {key} desc) listed"));
        self.push_rows(&mut query, status, page);
        query
    }

    /// Both parts are limited before they are merged, since each may have many rows. A row can be in both.
    fn recorded_later(&self, status: &'static str, page: Page) -> QueryBuilder<Postgres> {
        let Self { columns, table, key, recorded, recorded_through, .. } = self;
        let mut query = QueryBuilder::new(format!(
            "select {columns} from ((select listed.{key} from (select {key} from {recorded} where status = "
        ));
        query.push_bind(status);
        push_after(&mut query, key, page.after);
        query.push(format!(" order by {key} desc) listed"));
        self.push_rows(&mut query, status, page);
        query.push(format!(
            ") union (select {key} from (
                 select {key}, status from {table} where created_at > {recorded_through} offset 0) fresh where status = "
        ));
        query.push_bind(status);
        push_after(&mut query, key, page.after);
        query.push(format!(" order by {key} desc limit ")).push_bind(page_rows(page.limit)).push(")) listed");
        self.push_rows(&mut query, status, page);
        query
    }

    fn moving(&self, status: &'static str, page: Page) -> QueryBuilder<Postgres> {
        let Self { columns, key, moved_by: (definitions, moved), .. } = self;
        let mut query = QueryBuilder::new(format!(
            "select {columns} from (
                 select distinct {moved} as {key} from ({UNSETTLED_SAGAS}) s where s.definition in ({definitions})
             ) listed"
        ));
        self.push_rows(&mut query, status, page);
        query
    }

    /// Looks each listed row up by its key: a join could be planned as a walk through the whole table.
    fn push_rows(&self, query: &mut QueryBuilder<Postgres>, status: &'static str, page: Page) {
        let Self { table, key, .. } = self;
        query.push(format!(
            " cross join lateral (select * from {table} t where t.{key} = listed.{key} and t.status = "
        ));
        query.push_bind(status).push(" offset 0) r where true");
        push_after(query, &format!("listed.{key}"), page.after);
        query.push(format!(" order by listed.{key} desc limit ")).push_bind(page_rows(page.limit));
    }
}

fn push_after(query: &mut QueryBuilder<Postgres>, key: &str, after: Option<Uuid>) {
    if let Some(after) = after {
        query.push(" and ").push(key).push(" < ").push_bind(after);
    }
}
