//! The API's access settings, with rate limits that all replicas share if there is a Redis.

use std::sync::Arc;

use api::{Access, Auth, Rate, RateDecision, SharedLimiter};
use breakers::{Breakers, Dependency};
use futures::future::BoxFuture;
use shop::keys;
use sqlx::PgPool;
use workers::RedisRateLimiter;

use crate::{config::Config, exit_error::ExitError};

/// Refuses to serve when there is no usable API key, unless `AUTH` is off.
///
/// # Errors
/// [`ExitError::Unusable`] that says how to create a key.
pub(crate) async fn require_api_key(config: &Config, pool: &PgPool) -> Result<(), ExitError> {
    match config.access.auth {
        Auth::Off => {
            tracing::warn!("AUTH is off: every caller who can reach this port may do everything");
            Ok(())
        }
        Auth::Keys if keys::is_any_usable(pool).await.map_err(anyhow::Error::from)? => Ok(()),
        Auth::Keys => Err(ExitError::Unusable(
            "there is no API key, so no call would be accepted: make one with `sagaline keys create --name admin --role operate`, \
             or serve without keys with `AUTH=off sagaline serve`"
                .into(),
        )),
    }
}

/// The access settings of this process.
///
/// # Errors
/// [`ExitError::Unusable`] when `REDIS_URL` can't be read.
pub(super) fn access(config: &Config, breakers: &Breakers) -> Result<Access, ExitError> {
    let mut access = config.access.to_api();
    let is_counted = access.rate_per_key.is_some() || access.rate_per_address.is_some();
    if let Some(url) = config.redis.url.as_ref().filter(|_| is_counted) {
        let rates = RedisRateLimiter::new(url.expose())
            .map_err(|error| ExitError::Unusable(format!("REDIS_URL can't be used: {error}")))?;
        let rates = rates.with_breaker(breakers.of(Dependency::Redis)).with_prefix(config.redis.key_prefix());
        access.shared_limiter = Some(Arc::new(InRedis(rates)));
    }
    Ok(access)
}

/// Adapts the workers' rate limiter to the API, which does not know Redis.
struct InRedis(RedisRateLimiter);

impl SharedLimiter for InRedis {
    fn take<'a>(&'a self, bucket: &'a str, rate: Rate) -> BoxFuture<'a, Option<RateDecision>> {
        Box::pin(async move {
            let decision = self.0.take(bucket, rate.calls(), rate.interval()).await?;
            Some(RateDecision { wait: decision.wait, remaining: decision.remaining })
        })
    }
}
