//! `sagaline demo`: kills the worker and breaks the mail server of a busy shop, and checks that nothing is lost.
//!
//! It runs real processes of this binary, a real PostgreSQL and a real mail server, all of them private to the run and
//! removed after it. The demo only sends HTTP requests, reads mails and kills processes, and derives the expected
//! results from that.

mod client;
mod expectations;
mod mailbox;
mod order;
mod process;
mod rush;
mod system;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Args;
use shop::invariants::Extent;
use tokio::sync::watch;

use self::{
    client::Client,
    expectations::Expectations,
    order::{OrderEnd, PlacedOrder},
    system::DemoSystem,
};
use crate::{
    config::Config,
    exit_error::ExitError,
    invariant_checks,
    shutdown::{self, Interrupted},
    terminal::{self, Progress},
};

/// How many orders are placed while the mail server is broken.
const OUTAGE_ORDERS: u64 = 20;
/// How long the sagas may take to end once there are no more faults.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the shop runs without a worker after the kill.
const WORKER_PAUSE: Duration = Duration::from_millis(800);

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How many orders to place in the rush
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(30..=5000))]
    orders: u64,
    /// Leave the database, the mails and the logs where they are, and say where
    #[arg(long)]
    keep: bool,
}

/// What happened during the demo, apart from how each order ended.
struct DemoRecord {
    /// The orders of the rush and of the outage.
    placed: Vec<PlacedOrder>,
    /// Sagas that the new worker took over from the dead one.
    taken_over: u64,
    /// Deliveries that became dead jobs while the mail server was broken.
    dead: u64,
    /// Dead deliveries that were retried.
    retried: u64,
}

/// Runs the demo.
///
/// # Errors
/// When an expectation is not met, an invariant is violated, or the system can't be started.
pub(crate) async fn run(config: Config, arguments: Arguments) -> Result<(), ExitError> {
    let started = Instant::now();
    let quit = shutdown::on_signal_before_cleanup()?;
    terminal::print("Starting a private PostgreSQL, a mail server, one API process and one worker process.");
    let mut system = DemoSystem::start(&config, &quit).await.context("the system can't be started")?;
    // Ctrl-C ends the demo early; the system is stopped nevertheless.
    let record = tokio::select! {
        record = play(&mut system, arguments.orders) => record,
        () = quit.cancelled() => Err(Interrupted.into()),
    };
    let checked = match &record {
        Ok(record) => check(&config, &system, record).await,
        Err(_) => Ok(false),
    };
    // What failed can be looked into; what was interrupted leaves nothing.
    let has_failed = !quit.is_cancelled() && !matches!(checked, Ok(true));
    let stopped = system.stop(arguments.keep || has_failed).await;
    record.context("the demo ended early")?;
    let held = checked?;
    stopped?;
    if !held {
        return Err(ExitError::NegativeResult("some expectations are not met; the logs are kept".into()));
    }
    terminal::print_success(format_args!("Everything held, in {:.0} s.", started.elapsed().as_secs_f64()));
    Ok(())
}

/// Places orders and injects the faults, in order.
async fn play(system: &mut DemoSystem, orders: u64) -> anyhow::Result<DemoRecord> {
    let client = system.client().clone();
    client.stock_the_shop().await?;

    // With a slow mail server some deliveries are always in progress, so the kill hits some of them.
    system.mailbox().slow_down();
    let progress = Arc::new(Progress::start("orders placed by a crowd", orders));
    let (count, watch_count) = watch::channel(0);
    let rush = tokio::spawn(rush::place_all(client.clone(), orders, progress.clone(), count));
    kill_midway(system, &progress, watch_count, orders / 3).await?;
    let mut placed = rush.await.context("the rush ended in a panic")??;
    progress.finish(format_args!("{orders}, none refused"));
    settle(&client).await?;
    let taken_over = system.takeovers().await?;

    let (more, dead, retried) = outage(system, &client, orders).await?;
    placed.extend(more);
    settle(&client).await?;
    Ok(DemoRecord { placed, taken_over, dead, retried })
}

/// Kills the worker once `at` orders are placed and it is delivering mails; starts another one after a pause.
async fn kill_midway(
    system: &mut DemoSystem,
    progress: &Progress,
    mut count: watch::Receiver<u64>,
    at: u64,
) -> anyhow::Result<()> {
    count.wait_for(|count| *count >= at).await.context("the rush ended too early")?;
    system.mailbox().until_connected(SETTLE_TIMEOUT).await?;
    let pid = system.kill_worker().await?;
    progress.print(format_args!("  ⚡ kill -9 {pid}: the only worker is gone; orders keep coming in"));
    system.mailbox().repair();
    tokio::time::sleep(WORKER_PAUSE).await;
    let pid = system.start_worker()?;
    progress.print(format_args!("  ↻ a new worker (process {pid}) takes over the dead one's sagas"));
    Ok(())
}

/// Breaks the mail server until the deliveries are dead jobs, repairs it, and retries them through the API.
async fn outage(
    system: &DemoSystem,
    client: &Client,
    from: u64,
) -> anyhow::Result<(Vec<PlacedOrder>, u64, u64)> {
    system.mailbox().break_down();
    terminal::print("  ✉ the mail server is broken; a broken mail server never undoes an order");
    let mut placed = Vec::new();
    for number in from..from + OUTAGE_ORDERS {
        placed.push(rush::place_ordinary(client, number).await?);
    }
    let progress = Progress::start("deliveries that became dead jobs", OUTAGE_ORDERS);
    let started = Instant::now();
    let dead = loop {
        let dead = client.dead_jobs().await?;
        progress.set(dead.min(OUTAGE_ORDERS));
        if dead >= OUTAGE_ORDERS || started.elapsed() > SETTLE_TIMEOUT {
            break dead;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    progress.finish(format_args!("{dead}, each with all its errors"));
    system.mailbox().repair();
    let retried = client.retry_dead_jobs().await?;
    terminal::print(format_args!(
        "  ↻ the mail server is repaired; one request retries all {retried} of them"
    ));
    Ok((placed, dead, retried))
}

/// Waits until no saga is running or compensating.
async fn settle(client: &Client) -> anyhow::Result<()> {
    let started = Instant::now();
    while client.has_active_sagas().await? {
        anyhow::ensure!(
            started.elapsed() < SETTLE_TIMEOUT,
            "sagas are still active after {} s",
            SETTLE_TIMEOUT.as_secs()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Compares the record with the expected results, checks the invariants and prints both. Returns whether all of them
/// hold.
async fn check(config: &Config, system: &DemoSystem, record: &DemoRecord) -> Result<bool, ExitError> {
    let client = system.client();
    let orders = client.orders_of(&record.placed).await?;
    let levels = client.levels().await?;
    let mails = system.mailbox().mails();

    let mut expectations = Expectations::default();
    expectations.orders(&record.placed, &orders);
    expectations.stock(&orders, &levels);
    expectations.mails(&orders, &mails);
    expectations.at_least("sagas taken over from the killed worker", 1, record.taken_over);
    expectations.exactly("deliveries dead while the mail server was broken", OUTAGE_ORDERS, record.dead);
    expectations.exactly("dead deliveries retried", record.dead, record.retried);
    expectations.exactly("dead jobs left", 0, client.dead_jobs().await?);
    terminal::print("");
    let confirmed = orders.iter().filter(|order| order.end == OrderEnd::Confirmed).count();
    terminal::print(format_args!("What happened to {} orders ({confirmed} confirmed):", record.placed.len()));
    let met = expectations.print();

    let findings = invariant_checks::run_checks(config, system.pool(), Extent::Whole).await?;
    terminal::print("");
    terminal::print("The invariants, as `sagaline doctor` checks them:");
    invariant_checks::print(&findings);
    Ok(findings.holds && met)
}
