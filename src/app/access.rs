//! Who may call: the API's settings, with a count that replicas share where there is a Redis.

use std::sync::Arc;

use api::{Access, Auth, Rate, RateDecision, SharedLimiter};
use breakers::Dependency;
use futures::future::BoxFuture;
use shop::keys;
use sqlx::PgPool;
use workers::RedisRateLimiter;

use super::process::ThisProcess;
use crate::{config::Config, exit_error::ExitError};

/// Refuses to serve without any key that would be let in, unless somebody said that none is needed.
///
/// # Errors
/// [`ExitError::Unusable`], with what helps.
pub(crate) async fn require_a_key(config: &Config, pool: &PgPool) -> Result<(), ExitError> {
    match config.access.auth {
        Auth::Off => {
            tracing::warn!("AUTH is off: everybody who reaches this port may do everything");
            Ok(())
        }
        Auth::Keys if keys::is_any_usable(pool).await.map_err(anyhow::Error::from)? => Ok(()),
        Auth::Keys => Err(ExitError::Unusable(
            "there is no API key, so nobody could call: make one with `sagaline keys create --name admin --role operate`, \
             or serve without keys with `AUTH=off sagaline serve`"
                .into(),
        )),
    }
}

/// The API's settings of this process.
///
/// # Errors
/// [`ExitError::Unusable`] when `REDIS_URL` can't be read.
pub(super) fn access(config: &Config, process: &ThisProcess) -> Result<Access, ExitError> {
    let mut access = config.access.to_api();
    let is_counted = access.rate_per_key.is_some() || access.rate_per_address.is_some();
    if let Some(url) = config.redis_url.as_ref().filter(|_| is_counted) {
        let rates = RedisRateLimiter::new(url.expose())
            .map_err(|error| ExitError::Unusable(format!("REDIS_URL can't be used: {error}")))?;
        let rates = rates.with_breaker(process.breakers().of(Dependency::Redis));
        access.shared_limiter = Some(Arc::new(InRedis(rates)));
    }
    Ok(access)
}

/// The API does not know Redis, and the workers do not know the API.
struct InRedis(RedisRateLimiter);

impl SharedLimiter for InRedis {
    fn take<'a>(&'a self, bucket: &'a str, rate: Rate) -> BoxFuture<'a, Option<RateDecision>> {
        Box::pin(async move {
            let taken = self.0.take(bucket, rate.calls(), rate.interval()).await?;
            Some(RateDecision { wait: taken.wait, remaining: taken.remaining })
        })
    }
}
