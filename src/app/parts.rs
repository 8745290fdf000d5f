//! Engine, shop, workers and API of one process.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use api::{ApiState, Limits, MailState};
use breakers::{BreakerState, Dependency};
use engine::{Engine, EngineBuilder, Throttle, TraceLink, testing::with_faults};
use shop::{DeadJobEvents, Shop, mail::Mailer, notifications, sagas};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use workers::{QueueOptions, RedisOptions, Workers};

use super::{
    access::access,
    events::event_tasks,
    housekeeping::housekeep,
    listen::Listening,
    pool_watch::watch_pool,
    process::{ThisProcess, report_breakers},
};
use crate::{config::Config, exit_error::ExitError, telemetry::Telemetry};

/// The queues that there are.
pub(crate) const QUEUES: [&str; 2] = ["default", notifications::QUEUE];

/// Makes the engine with the shop's sagas.
///
/// # Errors
/// When a saga's graph is wrong, or settings are for a step or a saga that there is not.
pub(crate) fn shop(
    config: &Config,
    pool: PgPool,
    mailer: Mailer,
    link: Option<Arc<dyn TraceLink>>,
) -> Result<Shop, ExitError> {
    let throttle = mailer.throttle();
    let engine = engine(config, pool, mailer, link)?.build().map_err(anyhow::Error::from)?;
    Ok(opened(config, engine, throttle))
}

fn opened(config: &Config, engine: Engine, throttle: Throttle) -> Shop {
    engine.throttle(notifications::QUEUE, throttle);
    Shop::new(engine).alerting(config.mail.admin_emails.clone())
}

/// As [`shop`], for a process that may have been told to die at a fail point.
///
/// # Errors
/// As [`shop`], and when no saga ever comes to the fail point.
pub(crate) fn shop_with_fail_point(
    config: &Config,
    pool: PgPool,
    mailer: Mailer,
    link: Option<Arc<dyn TraceLink>>,
) -> Result<Shop, ExitError> {
    let throttle = mailer.throttle();
    let built = |builder: EngineBuilder| builder.build().map_err(anyhow::Error::from);
    let builder = engine(config, pool, mailer, link)?;
    let Some(switch) = config.fail_point.clone() else {
        return Ok(opened(config, built(builder)?, throttle));
    };
    tracing::warn!(fail_point = ?switch, "SAGALINE_FAILPOINT is set: this process is going to kill itself");
    let engine = built(with_faults(builder, switch.clone()))?;
    switch
        .check(engine.definitions())
        .map_err(|reason| ExitError::Unusable(format!("SAGALINE_FAILPOINT: {reason}")))?;
    Ok(opened(config, engine, throttle))
}

fn engine(
    config: &Config,
    pool: PgPool,
    mailer: Mailer,
    link: Option<Arc<dyn TraceLink>>,
) -> Result<EngineBuilder, ExitError> {
    let settings = sagas::Settings {
        reservation_ttl: config.workers.reservation_ttl,
        admin_emails: config.mail.admin_emails.clone(),
        ..sagas::Settings::new(mailer)
    };
    let mut definitions = sagas::definitions(settings).map_err(anyhow::Error::from)?;
    config.retries.apply(&mut definitions).map_err(ExitError::Unusable)?;
    let builder = Engine::builder(pool).lease(config.workers.lease).on_dead_job(DeadJobEvents);
    let mut builder = config.dead_job_ttls.apply(builder, &definitions).map_err(ExitError::Unusable)?;
    for definition in definitions {
        builder = builder.register(definition);
    }
    if let Some(link) = link {
        builder = builder.trace_link(link);
    }
    Ok(builder)
}

/// Works on these queues until `quit`, and gets events out. With no queues it only tells Redis, if there is one, what
/// this process made due.
///
/// # Errors
/// When the workers can't be set up or die.
pub(crate) async fn work(
    config: &Config,
    process: &ThisProcess,
    shop: &Shop,
    queues: &[String],
    quit: CancellationToken,
) -> Result<(), ExitError> {
    let mut builder =
        Workers::builder(shop.engine().clone()).shutdown_deadline(config.workers.shutdown_deadline);
    for queue in queues {
        builder = builder.queue(options(config, queue));
    }
    if let Some(url) = &config.redis_url {
        builder = builder
            .redis(Some(RedisOptions::for_queues(url.expose(), [notifications::QUEUE])))
            .redis_breaker(process.breakers().of(Dependency::Redis));
    }
    let events =
        if queues.is_empty() { None } else { Some(event_tasks(config, process, shop.pool().clone())?) };
    // What the last steps told is still moved into the log.
    let done = CancellationToken::new();
    // Not waited for: it ends with the pool, whose connections may all be in use.
    tokio::spawn(watch_pool(shop.pool().clone(), done.clone()));
    let working = async {
        let worked = builder.run(quit).await;
        done.cancel();
        worked
    };
    let telling = async {
        if let Some(events) = events {
            events.run(done.clone()).await;
        }
    };
    let (worked, (), (), ()) = tokio::join!(
        working,
        Box::pin(housekeep(shop.pool(), done.clone())),
        report_breakers(process, shop, done.clone()),
        telling
    );
    Ok(worked.context("the workers ended")?)
}

fn options(config: &Config, queue: &str) -> QueueOptions {
    let concurrency = if queue == notifications::QUEUE {
        config.workers.notifications_concurrency
    } else {
        config.workers.default_concurrency
    };
    QueueOptions {
        concurrency,
        call_concurrency: concurrency.min(QueueOptions::DEFAULT_CALL_CONCURRENCY),
        ..QueueOptions::named(queue)
    }
}

/// Serves this socket until `quit`. Then it is not ready any more, and serves on for the configured delay while load
/// balancers notice; after that nothing is accepted, waits end early, and requests under way may finish.
///
/// # Errors
/// When the settings can't be used, or accepting fails for good.
pub(crate) async fn serve(
    config: &Config,
    process: &ThisProcess,
    shop: &Shop,
    mailer: &Mailer,
    telemetry: &Telemetry,
    socket: Listening,
    quit: CancellationToken,
) -> Result<(), ExitError> {
    let limits = Limits {
        connections_per_address: config.access.connections_per_address,
        event_streams: config.events.streams,
        ..Limits::default()
    };
    let mailer = mailer.clone();
    let mut state = ApiState::builder(shop.clone(), telemetry.metrics())
        .mail(Arc::new(move || mail_state(&mailer)))
        .limits(limits)
        .access(access(config, process)?);
    if let Some(link) = telemetry.trace_link() {
        state = state.trace(link);
    }
    let state = state.build().map_err(anyhow::Error::from)?;
    let router = api::router(state.clone(), &socket.services);
    // Nobody balances load over a worker's health and metrics.
    let delay = if socket.services.is_empty() { Duration::ZERO } else { config.http.drain_delay };
    let closing = CancellationToken::new();
    let leaving = async {
        quit.cancelled().await;
        state.drain();
        if !delay.is_zero() {
            tracing::info!(address = %socket.address, delay_ms = delay.as_millis(), "not ready any more; serving on");
            tokio::time::sleep(delay).await;
        }
        state.close_streams();
        shop.engine().close_waits();
        closing.cancel();
    };
    let proxies = config.access.trusted_proxies.clone();
    let (drained, ()) =
        tokio::join!(api::serve(socket.listener, router, limits, proxies, closing.clone()), leaving);
    state.close().await;
    tracing::info!(address = %socket.address, finished = drained.finished, cut = drained.cut, "serves no more");
    Ok(())
}

fn mail_state(mailer: &Mailer) -> MailState {
    match mailer.state() {
        BreakerState::Closed => MailState::Up,
        BreakerState::HalfOpen => MailState::Probing,
        BreakerState::Open => MailState::Down,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_queue_has_its_own_concurrency() {
        let given = |name: &str| match name {
            "QUEUE_CONCURRENCY_DEFAULT" => Some("700".to_owned()),
            "QUEUE_CONCURRENCY_NOTIFICATIONS" => Some("7".to_owned()),
            _ => None,
        };
        let config = Config::parse(given, &[]).unwrap();
        let figures =
            |queue: &str| (options(&config, queue).concurrency, options(&config, queue).call_concurrency);
        assert_eq!(figures("default"), (700, QueueOptions::DEFAULT_CALL_CONCURRENCY.min(700)));
        assert_eq!(figures(notifications::QUEUE), (7, 7));
    }
}
