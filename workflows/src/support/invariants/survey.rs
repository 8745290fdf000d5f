//! Checks a large database in ranges of ids: everything, or what is unfinished, what is new, and a random sample.
//!
//! Ids of sagas, orders and notifications are UUIDs of version 7, so a range of them is a range of time. Each statement
//! has a snapshot of its own, and every query compares only what is written in one commit.

use std::time::Instant;

use engine::{Engine, SagaId};
use sqlx::{PgConnection, PgPool, Postgres, pool::PoolConnection};
use uuid::Uuid;

use super::{
    coverage::{Coverage, Progress},
    file::{Over, Query, SECTIONS},
    read::{self, IdRange, SkuRange},
    result::{Findings, InvariantResult},
};

/// What to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Everything that is unfinished, the newest, and a random sample of the rest. If that is everything, then everything.
    Sample,
    /// Everything.
    Whole,
}

/// How much a survey reads. The defaults fit a live database.
#[derive(Clone, Copy, Debug)]
pub struct SurveyOptions {
    /// What to read.
    pub extent: Extent,
    /// How many of the newest sagas and orders a sample includes.
    pub newest: u32,
    /// How many random times a sample begins to read at.
    pub times: u32,
    /// How many sagas and orders are read from each.
    pub per_time: u32,
    /// How many products' stock a sample compares with its ledger.
    pub products: u32,
    /// How many sagas and orders one range has.
    pub range: u32,
}

impl SurveyOptions {
    /// The defaults.
    pub fn new(extent: Extent) -> Self {
        Self { extent, newest: 50_000, times: 50, per_time: 200, products: 50, range: 5000 }
    }
}

/// A sample leaves out products whose ledger has more entries, because it reads a ledger in one statement.
const MAX_LEDGER: i64 = 100_000;
/// How many products one statement reads when everything is checked.
const PRODUCTS_AT_ONCE: i64 = 100;

/// Checks the invariants, including the histories of the sagas, and calls `progress` before each part.
///
/// # Errors
/// When the database refuses or can't be reached, or is not migrated.
pub async fn survey(
    engine: &Engine,
    options: SurveyOptions,
    mut progress: impl FnMut(Progress),
) -> Result<(Vec<InvariantResult>, Coverage), sqlx::Error> {
    let mut survey = Survey::new(engine, options);
    survey.check_unfinished(&mut progress).await?;
    let start = survey.check_newest(&mut progress).await?;
    if start != Uuid::nil() {
        survey.check_older(start, &mut progress).await?;
    }
    survey.check_products(&mut progress).await?;
    Ok(survey.finish())
}

struct Survey<'a> {
    engine: &'a Engine,
    options: SurveyOptions,
    started: Instant,
    /// One for each section of the file, in its order.
    findings: Vec<Findings>,
    histories: Findings,
    coverage: Coverage,
}

impl<'a> Survey<'a> {
    fn new(engine: &'a Engine, options: SurveyOptions) -> Self {
        Self {
            engine,
            options,
            started: Instant::now(),
            findings: SECTIONS.iter().map(Findings::of).collect(),
            histories: Findings::new(8, "histories fold to the stored state"),
            coverage: Coverage::default(),
        }
    }

    fn finish(self) -> (Vec<InvariantResult>, Coverage) {
        let findings = self.findings.into_iter().chain([self.histories]);
        (findings.map(Findings::into_result).collect(), self.coverage)
    }

    fn report(&self, what: &'static str, done: u64, of: u64) -> Progress {
        Progress { what, done, of, elapsed: self.started.elapsed() }
    }

    fn pool(&self) -> &PgPool {
        self.engine.pool()
    }

    async fn connection(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        self.pool().acquire().await
    }

    /// Runs the queries over these rows with `run`, and collects what they find.
    async fn run_queries(
        &mut self,
        over: &[Over],
        run: impl AsyncFn(&mut PgConnection, &Query) -> Result<Vec<String>, sqlx::Error>,
    ) -> Result<(), sqlx::Error> {
        let mut conn = self.connection().await?;
        for (section, findings) in SECTIONS.iter().zip(&mut self.findings) {
            for query in section.queries.iter().filter(|query| over.contains(&query.over)) {
                findings.add(run(&mut conn, query).await?);
            }
        }
        Ok(())
    }

    async fn check_unfinished(&mut self, progress: &mut impl FnMut(Progress)) -> Result<(), sqlx::Error> {
        progress(self.report("unfinished and dead sagas", 0, 1));
        self.run_queries(&[Over::Unfinished], async |conn, query| read::plain(conn, query).await).await?;
        let verified = self.engine.verify_unfinished_histories().await?;
        self.coverage.unfinished_sagas = verified.sagas;
        self.note_histories(verified.violations);
        Ok(())
    }

    fn note_histories(&mut self, violations: Vec<engine::HistoryViolation>) {
        self.histories
            .add(violations.into_iter().map(|found| format!("saga {}: {}", found.saga_id, found.violation)));
    }

    /// Checks one range of ids, and returns how many sagas it has.
    async fn check_range(&mut self, range: IdRange) -> Result<u64, sqlx::Error> {
        self.run_queries(&[Over::Ids], async |conn, query| read::over_ids(conn, query, range).await).await?;
        self.run_queries(&[Over::Times], async |conn, query| read::over_times(conn, query, range).await)
            .await?;
        let verified = self.engine.verify_histories_between(SagaId(range.from), SagaId(range.to)).await?;
        self.note_histories(verified.violations);
        Ok(verified.sagas)
    }

    /// The lowest id so that at most so many sagas, and at most so many orders, are newer; nil if there are no more.
    async fn newest(&self, conn: &mut PgConnection) -> Result<Uuid, sqlx::Error> {
        let saga = self.engine.newest_saga_id(self.options.newest).await?.map(|saga| saga.0);
        let order = read::newest_order(conn, self.options.newest.into()).await?;
        Ok(saga.max(order).unwrap_or(Uuid::nil()))
    }

    /// The end of a range that begins at `from` and holds at most `count` sagas and at most `count` orders.
    async fn end_of_range(
        &self,
        conn: &mut PgConnection,
        from: Uuid,
        count: u32,
    ) -> Result<Uuid, sqlx::Error> {
        let saga = self.engine.saga_id_from(SagaId(from), count).await?.map(|saga| saga.0);
        let order = read::order_from(conn, from, count.into()).await?;
        Ok([saga, order].into_iter().flatten().min().unwrap_or(Uuid::max()))
    }

    /// Checks the newest ids, or all; returns the lowest of them, which is nil if that is all.
    async fn check_newest(&mut self, progress: &mut impl FnMut(Progress)) -> Result<Uuid, sqlx::Error> {
        let mut conn = self.connection().await?;
        let (start, about) = match self.options.extent {
            Extent::Whole => (Uuid::nil(), read::estimated_sagas(&mut conn).await?),
            Extent::Sample => (self.newest(&mut conn).await?, self.options.newest.into()),
        };
        let mut from = start;
        while from != Uuid::max() {
            progress(self.report("sagas and orders, oldest first", self.coverage.newest_sagas, about));
            let to = self.end_of_range(&mut conn, from, self.options.range).await?;
            self.coverage.newest_sagas += self.check_range(IdRange { from, to }).await?;
            from = to;
        }
        self.coverage.everything = start == Uuid::nil();
        self.coverage.complete_since = (!self.coverage.everything).then(|| read::time_of(start));
        Ok(start)
    }

    /// Checks ids below `start` from random times on.
    async fn check_older(
        &mut self,
        start: Uuid,
        progress: &mut impl FnMut(Progress),
    ) -> Result<(), sqlx::Error> {
        let mut conn = self.connection().await?;
        let oldest = self.end_of_range(&mut conn, Uuid::nil(), 0).await?.as_u128();
        for time in 0..self.options.times {
            progress(self.report("older sagas, at random times", time.into(), self.options.times.into()));
            let from = Uuid::from_u128(rand::random_range(oldest..start.as_u128().max(oldest + 1)));
            let to = self.end_of_range(&mut conn, from, self.options.per_time).await?.min(start);
            self.coverage.older_sagas += self.check_range(IdRange { from, to }).await?;
            self.coverage.older_times += 1;
        }
        Ok(())
    }

    async fn check_products(&mut self, progress: &mut impl FnMut(Progress)) -> Result<(), sqlx::Error> {
        let mut conn = self.connection().await?;
        self.coverage.all_products = read::product_count(&mut conn).await?;
        let ranges = if self.coverage.everything {
            self.coverage.products = self.coverage.all_products;
            progress(self.report("reservations of all products", 0, 1));
            self.run_queries(&[Over::All], async |conn, query| read::plain(conn, query).await).await?;
            all_products(&mut conn).await?
        } else {
            let ranges = read::random_skus(&mut conn, self.options.products.into(), MAX_LEDGER).await?;
            self.coverage.products = ranges.len() as u64;
            ranges
        };
        drop(conn);
        let count = ranges.len() as u64;
        for (done, range) in (0..).zip(&ranges) {
            progress(self.report("products and their ledgers", done, count));
            self.run_queries(&[Over::Skus], async |conn, query| read::over_skus(conn, query, range).await)
                .await?;
        }
        Ok(())
    }
}

/// Splits all SKUs into ranges.
async fn all_products(conn: &mut PgConnection) -> Result<Vec<SkuRange>, sqlx::Error> {
    let mut ranges = Vec::new();
    let mut rest = SkuRange::all();
    while let Some(through) = read::sku_after(conn, &rest.after, PRODUCTS_AT_ONCE).await? {
        ranges.push(SkuRange { after: rest.after, through: through.clone() });
        rest.after = through;
    }
    ranges.push(rest);
    Ok(ranges)
}
