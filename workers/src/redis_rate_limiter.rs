//! A rate limiter that all processes share through Redis.
//!
//! It is the generic cell rate algorithm: a bucket is one number, the time at which it will be full again. A bucket
//! that Redis has lost counts as full, so the loss of all data lets one burst through and nothing else.

use std::{num::NonZeroU32, time::Duration};

use breakers::{Breaker, BreakerSettings, CallPermit, Dependency};
use redis::{
    Client, RedisError, RedisResult,
    aio::{ConnectionManager, ConnectionManagerConfig},
};

/// How long Redis may take for an answer. Counting a call must not delay it.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(100);
/// The default breaker: after one failure, Redis is not asked for a second.
const DEFAULT_BREAKER: BreakerSettings =
    BreakerSettings { failures: 1, open_duration: Duration::from_secs(1), successes_to_close: 1 };

/// Takes one token out of a bucket, by Redis' own clock. `KEYS[1]` is the bucket, `ARGV[1]` the interval in
/// microseconds at which it gets a token back, `ARGV[2]` its size. Returns the tokens left and the microseconds to
/// wait, 0 if one was taken.
const TAKE_SCRIPT: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, size = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now) + interval
local spare = now + interval * size - full
if spare < 0 then
  return {0, -spare}
end
redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000))
return {math.floor(spare / interval), 0}
";

/// A rate limiter with its buckets in Redis.
pub struct RedisRateLimiter {
    redis: ConnectionManager,
    breaker: Breaker,
    prefix: String,
}

/// The result of taking a token out of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateDecision {
    /// How long to wait if the bucket was empty; `None` if a token was taken.
    pub wait: Option<Duration>,
    /// How many calls the bucket still allows.
    pub remaining: u32,
}

impl RedisRateLimiter {
    /// Creates the limiter for the Redis at `url`, which need not be reachable yet.
    ///
    /// # Errors
    /// When the URL is invalid.
    pub fn new(url: &str) -> Result<Self, RedisError> {
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(1)
            .set_connection_timeout(Some(RESPONSE_TIMEOUT * 5))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        let redis = ConnectionManager::new_lazy_with_config(Client::open(url)?, config)?;
        let breaker = Breaker::new(Dependency::Redis, DEFAULT_BREAKER);
        Ok(Self { redis, breaker, prefix: "sagaline".into() })
    }

    /// Sets the prefix of every key, `sagaline` by default. Two systems on one Redis need two prefixes.
    pub fn with_prefix(self, prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), ..self }
    }

    /// Sets the breaker of the calls to Redis.
    pub fn with_breaker(self, breaker: Breaker) -> Self {
        Self { breaker, ..self }
    }

    /// Takes a token out of the bucket of this size that gets one back at this interval; `None` when Redis gives no
    /// answer in time, and while the breaker is open.
    pub async fn take(&self, bucket: &str, size: NonZeroU32, interval: Duration) -> Option<RateDecision> {
        let permit = self.breaker.try_acquire().ok()?;
        match tokio::time::timeout(RESPONSE_TIMEOUT, self.eval(bucket, size, interval)).await {
            Ok(Ok((remaining, wait_us))) => {
                permit.succeeded();
                Some(RateDecision { wait: (wait_us > 0).then(|| Duration::from_micros(wait_us)), remaining })
            }
            Ok(Err(error)) => unavailable(permit, &engine::ErrorChain(&error).to_string()),
            Err(_) => unavailable(permit, "no answer in time"),
        }
    }

    async fn eval(&self, bucket: &str, size: NonZeroU32, interval: Duration) -> RedisResult<(u32, u64)> {
        let interval_us = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX).max(1);
        redis::cmd("EVAL")
            .arg(TAKE_SCRIPT)
            .arg(1)
            .arg(format!("{}:rate:{bucket}", self.prefix))
            .arg(interval_us)
            .arg(size.get())
            .query_async(&mut self.redis.clone())
            .await
    }
}

fn unavailable<T>(permit: CallPermit, error: &str) -> Option<T> {
    permit.failed();
    tracing::debug!(error, "Redis counts no calls now; this process counts its own calls");
    None
}

/// Leaves the URL out, which can hold a password.
impl std::fmt::Debug for RedisRateLimiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisRateLimiter").finish_non_exhaustive()
    }
}
