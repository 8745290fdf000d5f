//! `sagaline demo`: a shop's bad day in less than a minute.
//!
//! Real processes of this binary, a real PostgreSQL and a real mail server, all private to the run and gone after it.
//! The demo only talks HTTP, reads the mail and kills; what it expects it computes from what it did.

mod client;
mod expectations;
mod mailbox;
mod orders;
mod process;
mod stage;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Args;
use tokio::sync::watch;

use crate::{config::Config, exit_error::ExitError, invariant_checks, terminal, terminal::Progress};

use client::Client;
use expectations::Expectations;
use orders::{Fate, Placed};
use stage::Stage;

/// How many orders are placed while the mail server is broken.
const DURING_OUTAGE: u64 = 20;
/// How long the sagas have to settle once nothing disturbs them.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the shop runs without any worker after the kill.
const WITHOUT_WORKER: Duration = Duration::from_millis(800);

/// What `demo` can be told.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How many orders to place in the rush
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(30..=5000))]
    orders: u64,
    /// Leave the database, the mails and the logs where they are, and say where
    #[arg(long)]
    keep: bool,
}

/// What happened, beside the orders' own fates.
struct Story {
    /// The orders of the rush and of the outage.
    placed: Vec<Placed>,
    /// Sagas that the new worker took over from the dead one.
    taken_over: u64,
    /// Deliveries that died while the mail server was broken.
    dead: u64,
    /// Dead deliveries that were retried.
    retried: u64,
}

/// Runs the demo.
///
/// # Errors
/// When anything expected did not happen, an invariant is violated, or the stage can't be set.
pub(crate) async fn run(config: Config, arguments: Arguments) -> Result<(), ExitError> {
    let begun = Instant::now();
    terminal::print(
        "Setting the stage: a private PostgreSQL, a mail server, one API process, one worker process.",
    );
    let mut stage = Stage::set(&config).await.context("the stage can't be set")?;
    // Ctrl-C ends the play early; the stage is cleared all the same.
    let story = tokio::select! {
        story = play(&mut stage, arguments.orders) => story,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    let told = match &story {
        Ok(story) => conclude(&config, &stage, story).await,
        Err(_) => Ok(false),
    };
    let ended = stage.clear(arguments.keep || story.is_err() || !matches!(told, Ok(true))).await;
    story.context("the demo was cut short")?;
    let held = told?;
    ended?;
    if !held {
        return Err(ExitError::Negative("not everything went as it must; the logs are kept".into()));
    }
    terminal::print(format_args!("Everything held, in {:.0} s.", begun.elapsed().as_secs_f64()));
    Ok(())
}

/// The disturbances, in order.
async fn play(stage: &mut Stage, orders: u64) -> anyhow::Result<Story> {
    let client = stage.client().clone();
    client.stock_the_shop().await?;

    // With a slow mail server there are always deliveries under way, so the kill hits some.
    stage.mailbox().slow_down();
    let progress = Arc::new(Progress::start("orders placed by a crowd", orders));
    let (count, watch_count) = watch::channel(0);
    let rush = tokio::spawn(orders::rush(client.clone(), orders, progress.clone(), count));
    kill_midway(stage, &progress, watch_count, orders / 3).await?;
    let mut placed = rush.await.context("the rush ended in a panic")??;
    progress.finish(format_args!("{orders}, none refused"));
    settle(&client).await?;
    let taken_over = stage.takeovers().await?;

    let (more, dead, retried) = outage(stage, &client, orders).await?;
    placed.extend(more);
    settle(&client).await?;
    Ok(Story { placed, taken_over, dead, retried })
}

/// Kills the worker once this many orders are in and it is delivering mail; starts another after a while.
async fn kill_midway(
    stage: &mut Stage,
    progress: &Progress,
    mut count: watch::Receiver<u64>,
    at: u64,
) -> anyhow::Result<()> {
    count.wait_for(|count| *count >= at).await.context("the rush ended too early")?;
    stage.mailbox().busy(PATIENCE).await?;
    let pid = stage.kill_worker().await?;
    progress.print(format_args!("  ⚡ kill -9 {pid}: the only worker is gone; orders keep coming in"));
    stage.mailbox().repair();
    tokio::time::sleep(WITHOUT_WORKER).await;
    let pid = stage.start_worker()?;
    progress.print(format_args!("  ↻ a new worker (process {pid}) takes over what the dead one held"));
    Ok(())
}

/// Breaks the mail server until its deliveries are dead, repairs it, and retries them through the API.
async fn outage(stage: &Stage, client: &Client, from: u64) -> anyhow::Result<(Vec<Placed>, u64, u64)> {
    stage.mailbox().break_down();
    terminal::print("  ✉ the mail server is broken; a broken mail server never undoes an order");
    let mut placed = Vec::new();
    for number in from..from + DURING_OUTAGE {
        placed.push(orders::place_ordinary(client, number).await?);
    }
    let progress = Progress::start("deliveries given up for dead", DURING_OUTAGE);
    let begun = Instant::now();
    let dead = loop {
        let dead = client.dead_jobs().await?;
        progress.set(dead.min(DURING_OUTAGE));
        if dead >= DURING_OUTAGE || begun.elapsed() > PATIENCE {
            break dead;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    progress.finish(format_args!("{dead}, each with every error it met"));
    stage.mailbox().repair();
    let retried = client.retry_dead_jobs().await?;
    terminal::print(format_args!(
        "  ↻ the mail server is repaired; one request retries all {retried} of them"
    ));
    Ok((placed, dead, retried))
}

/// Waits until no saga moves any more.
async fn settle(client: &Client) -> anyhow::Result<()> {
    let begun = Instant::now();
    while client.moving_workflows().await? {
        anyhow::ensure!(begun.elapsed() < PATIENCE, "sagas still move after {} s", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Compares, examines and prints; whether all is well.
async fn conclude(config: &Config, stage: &Stage, story: &Story) -> Result<bool, ExitError> {
    let client = stage.client();
    let orders = client.orders_of(&story.placed).await?;
    let levels = client.levels().await?;
    let mails = stage.mailbox().inventory();

    let mut expectations = Expectations::default();
    expectations.orders(&story.placed, &orders);
    expectations.stock(&orders, &levels);
    expectations.mails(&orders, &mails);
    expectations.at_least("sagas taken over from the killed worker", 1, story.taken_over);
    expectations.exactly("deliveries dead while the mail server was broken", DURING_OUTAGE, story.dead);
    expectations.exactly("dead deliveries retried", story.dead, story.retried);
    expectations.exactly("dead jobs left", 0, client.dead_jobs().await?);
    terminal::print("");
    let confirmed = orders.iter().filter(|order| order.fate == Fate::Confirmed).count();
    terminal::print(format_args!("What happened to {} orders ({confirmed} confirmed):", story.placed.len()));
    let met = expectations.print();

    let verdicts = invariant_checks::run_checks(config, stage.pool()).await?;
    terminal::print("");
    terminal::print("What the doctor says:");
    Ok(invariant_checks::print(&verdicts) && met)
}
