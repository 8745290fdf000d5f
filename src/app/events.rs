//! Sets up the tasks that move the shop's events from the outbox to the event log and to the sinks.

mod event_log;

use breakers::{Breakers, Dependency};
use shop::Shop;
use workers::{
    EventTasks,
    sinks::{AmqpExchange, EventSink, RedisStream},
};

use self::event_log::ShopEventLog;
use crate::{config::Config, exit_error::ExitError};

/// The name of both the stream and the exchange.
const EVENTS_NAME: &str = "e-commerce.events";
/// The error for a wrong URL; the parser's error could contain the password.
const NO_REDIS_URL: &str = "it is not a URL such as redis://:password@host:6379";

/// Creates the event tasks, with the sinks that the configuration names. Connects to nothing yet.
///
/// # Errors
/// [`ExitError::Unusable`] when a URL can't be used; the message names the variable and leaves its value out.
pub(crate) fn event_tasks(
    config: &Config,
    breakers: &Breakers,
    shop: &Shop,
) -> Result<EventTasks<ShopEventLog>, ExitError> {
    let events = &config.events;
    let mut tasks = EventTasks::new(ShopEventLog::new(shop), events.retention);
    if let Some(url) = &config.redis.url {
        let stream =
            RedisStream::new(url.expose(), config.redis.stream(EVENTS_NAME), events.stream_max_len.into())
                .map_err(|_| ExitError::Unusable(format!("REDIS_URL can't be used: {NO_REDIS_URL}")))?;
        tasks = tasks.sink(EventSink::Redis(Box::new(stream)), breakers.of(Dependency::Redis));
    }
    if let Some(url) = &events.amqp_url {
        let exchange = AmqpExchange::new(url.expose(), EVENTS_NAME)
            .map_err(|error| ExitError::Unusable(format!("AMQP_URL can't be used: {error}")))?;
        tasks = tasks.sink(EventSink::Amqp(Box::new(exchange)), breakers.of(Dependency::Amqp));
    }
    Ok(tasks)
}
