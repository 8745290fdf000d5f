//! Runs the workers of one process, and the background tasks beside them.

use anyhow::Context;
use breakers::Dependency;
use shop::{Shop, notifications, pruning::Pruner};
use tokio_util::sync::CancellationToken;
use workers::{QueueOptions, RedisOptions, Workers};

use super::{
    breaker_reports::report_breakers, context::ProcessContext, events::event_tasks, housekeeping::housekeep,
    pool_watch::watch_pool,
};
use crate::{config::WorkersConfig, exit_error::ExitError};

/// Works on these queues and publishes events until `quit`. Without queues, as in an API process, it only sends due
/// hints to Redis, if configured, about sagas that became due in this process.
///
/// # Errors
/// When the workers can't be set up, or end by themselves.
pub(crate) async fn work(
    process: &ProcessContext,
    shop: &Shop,
    queues: &[String],
    quit: CancellationToken,
) -> Result<(), ExitError> {
    let config = &process.config;
    let mut builder =
        Workers::builder(shop.engine().clone()).shutdown_deadline(config.workers.shutdown_deadline);
    for queue in queues {
        builder = builder.queue(queue_options(&config.workers, queue));
    }
    if let Some(url) = &config.redis.url {
        let options = RedisOptions::for_queues(url.expose(), [notifications::QUEUE]);
        builder = builder
            .redis(Some(options.prefix(config.redis.key_prefix())))
            .redis_breaker(process.breakers.of(Dependency::Redis));
    }
    let events = if queues.is_empty() { None } else { Some(event_tasks(config, &process.breakers, shop)?) };
    // The other tasks end after the workers, so that the events of the last steps still reach the event log.
    let done = CancellationToken::new();
    // Not awaited: it ends when the pool closes, and the connection that it waits for may be in use until then.
    tokio::spawn(watch_pool(shop.pool().clone(), done.clone()));
    let pruner = Pruner::new(shop.engine().clone(), config.retention.shop());
    let working = async {
        let worked = builder.run(quit).await;
        done.cancel();
        worked
    };
    let publishing = async {
        if let Some(events) = events {
            events.run(done.clone()).await;
        }
    };
    let (worked, (), (), ()) = tokio::join!(
        working,
        Box::pin(housekeep(&pruner, shop.pool(), done.clone())),
        report_breakers(process, shop, done.clone()),
        publishing
    );
    Ok(worked.context("the workers ended")?)
}

fn queue_options(config: &WorkersConfig, queue: &str) -> QueueOptions {
    let concurrency = if queue == notifications::QUEUE {
        config.notifications_concurrency
    } else {
        config.default_concurrency
    };
    QueueOptions {
        concurrency,
        call_concurrency: concurrency.min(QueueOptions::DEFAULT_CALL_CONCURRENCY),
        ..QueueOptions::named(queue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn each_queue_has_its_own_concurrency() {
        let given = |name: &str| match name {
            "QUEUE_CONCURRENCY_DEFAULT" => Some("700".to_owned()),
            "QUEUE_CONCURRENCY_NOTIFICATIONS" => Some("7".to_owned()),
            _ => None,
        };
        let config = Config::parse(given, &[]).unwrap().workers;
        let concurrency = |queue: &str| {
            let options = queue_options(&config, queue);
            (options.concurrency, options.call_concurrency)
        };
        assert_eq!(concurrency("default"), (700, QueueOptions::DEFAULT_CALL_CONCURRENCY.min(700)));
        assert_eq!(concurrency(notifications::QUEUE), (7, 7));
    }
}
