//! Orders over HTTP before, during and after an outage of the mail server, and a count of the mails that arrived.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use breakers::{BreakerState, Dependency};
use devkit::mail_catcher::Behaviour;
use parking_lot::Mutex;
use serde_json::json;
use shop::{
    Shop, invariants,
    notifications::{self, NotificationStatus, QUEUE},
};

use super::{
    arguments::{Arguments, Outage},
    database::BenchDatabase,
    load::{self, Load, Phase},
    profile::PROFILE,
    report::milliseconds,
    running_shop::RunningShop,
};
use crate::{
    config::Config,
    exit_error::ExitError,
    shutdown::{self, Interrupted},
    terminal,
};

const PHASES: [&str; 3] = ["before", "during", "after"];
/// When no delivery has ended for this long, the run fails.
const STALL_TIMEOUT: Duration = Duration::from_mins(3);
/// The pause between two counts of the deliveries that have ended.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// What was measured.
struct Figures {
    loads: [Load; 3],
    /// The breaker's state at the end of the outage.
    breaker: BreakerState,
    mails: Mails,
}

/// Counts of the mails.
struct Mails {
    /// Mails to send: one for each order, those of the warm-up included.
    due: usize,
    /// Mails that did not arrive.
    missing: usize,
    /// Mails that arrived more than once.
    doubled: usize,
    /// Deliveries that became dead jobs.
    dead: usize,
    /// How long after the outage the last mail arrived.
    last_after: Duration,
}

/// Runs the measurement and prints the results.
///
/// # Errors
/// When the database can't be used, orders failed, or mails are missing, doubled or dead.
pub(super) async fn run(
    config: &Config,
    arguments: &Arguments,
    length: Duration,
    by: Outage,
) -> Result<(), ExitError> {
    let quit = shutdown::on_signal_before_cleanup()?;
    arguments.announce("orders with an outage of the mail server");
    let database = BenchDatabase::create(config, arguments.database_url.as_deref()).await?;
    // Ctrl-C ends the run early; the database is dropped nevertheless.
    let measured = tokio::select! {
        biased;
        () = quit.cancelled() => Err(Interrupted.into()),
        measured = measure(config, arguments, &database, length, by) => measured,
    };
    let dropped = database.drop_database().await;
    let figures = measured?;
    dropped?;
    if arguments.json {
        terminal::print(as_json(arguments, by, &figures));
    } else {
        as_tables(arguments, by, &figures);
    }
    check(&figures)
}

fn check(figures: &Figures) -> Result<(), ExitError> {
    let Mails { missing, doubled, dead, .. } = figures.mails;
    if let Some(failed) = figures.loads.iter().find(|load| load.failures > 0) {
        let (count, first) = (failed.failures, failed.first_failure());
        return Err(ExitError::NegativeResult(format!(
            "{count} orders of a phase failed; the first: {first}"
        )));
    }
    if missing + doubled + dead > 0 {
        return Err(ExitError::NegativeResult(format!(
            "{missing} mails are missing, {doubled} doubled, {dead} dead"
        )));
    }
    Ok(())
}

async fn measure(
    config: &Config,
    arguments: &Arguments,
    database: &BenchDatabase,
    length: Duration,
    by: Outage,
) -> anyhow::Result<Figures> {
    database.migrate().await?;
    let measured = RunningShop::run_while(config, database, async |running| {
        in_phases(running, arguments, length, by).await
    });
    Box::pin(measured).await
}

async fn in_phases(
    running: &RunningShop,
    arguments: &Arguments,
    length: Duration,
    by: Outage,
) -> anyhow::Result<Figures> {
    let (failing, repaired) = (Arc::clone(&running.catcher), Arc::clone(&running.catcher));
    let breakers = running.breakers.clone();
    let end = Arc::new(Mutex::new(None));
    let noted = Arc::clone(&end);
    let fault = match by {
        Outage::Refuse => Behaviour::Refuse,
        Outage::Hang => Behaviour::NeverGreet,
    };
    let phases = [
        Phase::of(arguments.measured(), || ()),
        Phase::of(length, move || failing.behave(fault)),
        Phase::of(arguments.measured(), move || {
            let breaker = breakers.of(Dependency::Smtp).state();
            *noted.lock() = Some((breaker, Instant::now()));
            repaired.behave(Behaviour::Accept);
        }),
    ];
    let client = running.client.clone();
    let loads = load::run_phases(arguments, phases, move || {
        let client = client.clone();
        async move { client.place().await }
    })
    .await?;
    let end = *end.lock();
    let (breaker, ended_at) = end.context("the outage did not end")?;
    until_delivered(&running.shop).await?;
    let violated = invariants::check(running.shop.pool()).await?.into_iter().find(|result| !result.holds());
    if let Some(result) = violated {
        bail!("invariant {} ({}) does not hold: {:?}", result.number, result.name, result.violations);
    }
    Ok(Figures { loads, breaker, mails: count(running, ended_at).await? })
}

/// Waits until every delivery has ended; fails when none ends for a long time.
async fn until_delivered(shop: &Shop) -> anyhow::Result<()> {
    let (mut least, mut progressed) = (i64::MAX, Instant::now());
    loop {
        let depths = shop.engine().queue_depths().await?;
        let left = depths.iter().filter(|depth| depth.queue == QUEUE);
        let left: i64 = left.map(|depth| depth.due + depth.waiting + depth.leased).sum();
        if left == 0 {
            return Ok(());
        }
        if left < least {
            (least, progressed) = (left, Instant::now());
        } else if progressed.elapsed() > STALL_TIMEOUT {
            bail!("{left} deliveries have not ended, and none ended within {} s", STALL_TIMEOUT.as_secs());
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

async fn count(running: &RunningShop, ended_at: Instant) -> anyhow::Result<Mails> {
    let due = notifications::statuses(running.shop.pool()).await?;
    let arrivals = running.catcher.arrivals();
    let has_arrived = |id: &Option<String>| id.as_ref().is_some_and(|id| arrivals.counts.contains_key(id));
    let missing = due.iter().filter(|(_, message_id)| !has_arrived(message_id)).count();
    let last_after = arrivals.last.map(|last| last.saturating_duration_since(ended_at));
    Ok(Mails {
        due: due.len(),
        missing,
        doubled: arrivals.counts.values().filter(|count| **count > 1).count(),
        dead: due.iter().filter(|(status, _)| *status == NotificationStatus::Failed).count(),
        last_after: last_after.unwrap_or_default(),
    })
}

fn as_json(arguments: &Arguments, by: Outage, figures: &Figures) -> serde_json::Value {
    let Figures { loads, breaker, mails } = figures;
    let phases = PHASES.iter().zip(loads).map(|(name, load)| {
        json!({
            "phase": name,
            "seconds": load.elapsed.as_secs_f64(),
            "orders": load.latencies.len(),
            "orders_per_second": load.per_second(),
            "p50_ms": milliseconds(load.quantile(0.5)),
            "p99_ms": milliseconds(load.quantile(0.99)),
            "max_ms": milliseconds(load.quantile(1.0)),
            "failures": load.failures,
        })
    });
    json!({
        "bench": "orders",
        "mail_outage_by": by.name(),
        "callers": arguments.callers,
        "phases": phases.collect::<Vec<_>>(),
        "breaker_at_the_end_of_the_outage": breaker.name(),
        "mails": {
            "due": mails.due,
            "missing": mails.missing,
            "doubled": mails.doubled,
            "dead": mails.dead,
            "last_seconds_after_the_outage": mails.last_after.as_secs_f64(),
        },
        "profile": PROFILE,
        "version": env!("CARGO_PKG_VERSION"),
    })
}

fn as_tables(arguments: &Arguments, by: Outage, figures: &Figures) {
    let Figures { loads, breaker, mails } = figures;
    let row = |name: &str, value: &dyn Fn(&Load) -> String| {
        std::iter::once(name.to_owned()).chain(loads.iter().map(value)).collect::<Vec<_>>()
    };
    let latency = |share: f64| move |load: &Load| format!("{:.2} ms", milliseconds(load.quantile(share)));
    let title = format!("{} callers, mail server: {}, profile {PROFILE}", arguments.callers, by.name());
    terminal::table(
        &[&title, PHASES[0], PHASES[1], PHASES[2]],
        [
            row("measured", &|load| format!("{:.1} s", load.elapsed.as_secs_f64())),
            row("orders", &|load| load.latencies.len().to_string()),
            row("orders a second", &|load| format!("{:.0}", load.per_second())),
            row("p50", &latency(0.5)),
            row("p99", &latency(0.99)),
            row("slowest", &latency(1.0)),
            row("failures", &|load| load.failures.to_string()),
        ],
    );
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    terminal::table(
        &["mails", ""],
        [
            row("due (the warm-up's too)", mails.due.to_string()),
            row("missing", mails.missing.to_string()),
            row("doubled", mails.doubled.to_string()),
            row("dead", mails.dead.to_string()),
            row("the last came after the outage by", format!("{:.1} s", mails.last_after.as_secs_f64())),
            row("circuit breaker at its end", breaker.name().to_owned()),
        ],
    );
}
