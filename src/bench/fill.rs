//! `bench fill`: fills an empty database with orders that have ended, to see how a large one behaves.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, query::Query};

use super::arguments::FillArguments;
use crate::{
    app::{self, MailTarget},
    config::Config,
    database,
    exit_error::ExitError,
    migrate::{self, DatabaseLocation},
    pool::{self, PoolUse},
    terminal,
};

const SQL: &str = include_str!("fill.sql");

/// How many orders one transaction inserts, and how many transactions run at once.
const CHUNK: i64 = 20_000;
const WRITERS: u32 = 2;
const PRODUCTS: i64 = 1000;
/// Old events are pruned, so only the newest orders have them.
const ORDERS_WITH_EVENTS: i64 = 500_000;
/// The orders are spread over this time, up to now.
const SPAN: Duration = Duration::from_hours(24 * 30);

/// What each order leaves behind, in the order in which it is inserted.
const EVERY_ORDER: [&str; 5] = ["orders", "sagas", "start_batches", "business_keys", "notifications"];
const DETAILS: [&str; 5] = ["order_lines", "order_timeline", "reservations", "movements", "history"];

/// Fills the database that the arguments name.
///
/// # Errors
/// When the database can't be used, or has orders or sagas already.
pub(super) async fn run(config: &Config, arguments: &FillArguments) -> Result<(), ExitError> {
    let url = database::required_url(&config.database, arguments.database_url.clone())?;
    let pool = database::connect(&url, PoolUse::Command, WRITERS, config.database.startup_wait).await?;
    migrate::run(&pool, &DatabaseLocation::Url).await?;
    let started = Instant::now();
    store_graphs(config, &pool).await?;
    fill(&pool, arguments).await?;
    terminal::print(format_args!("{url}: filled in {} s", started.elapsed().as_secs()));
    pool::close(&pool).await;
    Ok(())
}

/// What is to be inserted.
#[derive(Clone, Copy)]
struct Plan {
    orders: i64,
    /// The first order that has its lines, ledger and history.
    first_detailed: i64,
    /// The first order that has events.
    first_with_events: i64,
    first_ms: i64,
    step_ms: i64,
}

impl Plan {
    fn new(arguments: &FillArguments, now_ms: i64) -> Self {
        // A placement and a delivery.
        let orders = (i64::from(arguments.sagas) / 2).max(1);
        let detailed = arguments.detailed.map_or(orders, i64::from);
        let first_detailed = (orders - detailed).max(0);
        let step_ms = (i64::try_from(SPAN.as_millis()).unwrap_or(i64::MAX) / orders).max(1);
        Self {
            orders,
            first_detailed,
            first_with_events: first_detailed.max(orders - ORDERS_WITH_EVENTS),
            first_ms: now_ms - orders * step_ms,
            step_ms,
        }
    }
}

/// Stores the graphs to which the sagas belong.
async fn store_graphs(config: &Config, pool: &PgPool) -> Result<(), ExitError> {
    // The definitions need a mailer; it sends nothing, because no worker runs.
    let mailer = MailTarget::Files(std::env::temp_dir()).mailer(config, &config.breakers.make())?;
    let shop = app::build_shop(config, pool.clone(), &mailer, None)?;
    let stored = shop.engine().store_graphs().await;
    shop.engine().shutdown().await;
    Ok(stored.context("the graphs can't be stored")?)
}

async fn fill(pool: &PgPool, arguments: &FillArguments) -> anyhow::Result<()> {
    let mut conn = pool.acquire().await?;
    let is_empty: bool =
        sqlx::query_scalar("select not exists (select from shop.orders)").fetch_one(&mut *conn).await?;
    ensure!(is_empty, "the database has orders already; `bench fill` needs an empty one");
    let now_ms: i64 =
        sqlx::query_scalar("select (extract(epoch from now()) * 1000)::bigint").fetch_one(&mut *conn).await?;
    let plan = Plan::new(arguments, now_ms);
    execute(&mut conn, "products", &[PRODUCTS]).await?;
    execute(&mut conn, "stock", &[PRODUCTS, plan.orders]).await?;
    execute(&mut conn, "initial_movements", &[PRODUCTS, plan.orders]).await?;
    drop(conn);

    let next = AtomicI64::new(0);
    let writers = (0..WRITERS).map(|_| fill_chunks(pool, plan, &next));
    futures::future::try_join_all(writers).await?;

    let mut conn = pool.acquire().await?;
    execute(&mut conn, "reserved_stock", &[]).await?;
    execute(&mut conn, "last_event", &[]).await?;
    sqlx::query("set statement_timeout = 0").execute(&mut *conn).await?;
    sqlx::query("vacuum (analyze)").execute(&mut *conn).await.context("the database can't be analysed")?;
    Ok(())
}

/// Inserts one chunk after the other until none is left.
async fn fill_chunks(pool: &PgPool, plan: Plan, next: &AtomicI64) -> anyhow::Result<()> {
    let mut conn = pool.acquire().await?;
    loop {
        let first = next.fetch_add(CHUNK, Ordering::Relaxed);
        if first >= plan.orders {
            return Ok(());
        }
        let last = (first + CHUNK).min(plan.orders) - 1;
        let mut tx = conn.begin().await?;
        sqlx::query("set local synchronous_commit = off").execute(&mut *tx).await?;
        insert(&mut tx, plan, &EVERY_ORDER, first, last).await?;
        insert(&mut tx, plan, &DETAILS, first.max(plan.first_detailed), last).await?;
        insert(&mut tx, plan, &["events"], first.max(plan.first_with_events), last).await?;
        tx.commit().await?;
    }
}

async fn insert(
    conn: &mut PgConnection,
    plan: Plan,
    sections: &[&str],
    first: i64,
    last: i64,
) -> anyhow::Result<()> {
    if first <= last {
        let parameters = [first, last, plan.first_ms, plan.step_ms, PRODUCTS, plan.first_with_events];
        for section in sections {
            execute(conn, section, &parameters).await?;
        }
    }
    Ok(())
}

/// Runs one section of the file.
async fn execute(conn: &mut PgConnection, section: &str, parameters: &[i64]) -> anyhow::Result<()> {
    let start = format!("-- section: {section}\n");
    let (_, rest) = SQL.split_once(&start).with_context(|| format!("there is no section {section}"))?;
    let sql = rest.split("-- section: ").next().unwrap_or(rest);
    let query = parameters.iter().fold(sqlx::query(AssertSqlSafe(sql)), Query::bind);
    query.execute(conn).await.with_context(|| format!("{section} can't be inserted"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_sagas_are_orders_and_the_newest_have_details() {
        let arguments = |sagas, detailed| FillArguments { sagas, detailed, database_url: None };
        let all = Plan::new(&arguments(1000, None), 2_600_000_000);
        assert_eq!((all.orders, all.first_detailed, all.first_with_events), (500, 0, 0));
        assert_eq!(all.first_ms, 2_600_000_000 - 500 * all.step_ms);
        let some = Plan::new(&arguments(1000, Some(100)), 2_600_000_000);
        assert_eq!((some.first_detailed, some.first_with_events), (400, 400));
    }
}
