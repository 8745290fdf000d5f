//! Limits the rate of calls by key and by address: in a store that all processes share while it answers, else in this
//! process.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::StateInformationMiddleware,
    state::keyed::DashMapStateStore,
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use sha2::{Digest, Sha256};

use super::{network::network, rate::Rate};
use crate::http::{Problem, ProblemCode};

/// A rate limiter that all processes share. It has to answer soon and never fails a call: with `None` each process
/// counts for itself.
pub trait SharedLimiter: Send + Sync {
    /// Takes one call from a bucket with this rate.
    fn take<'a>(&'a self, bucket: &'a str, rate: Rate) -> BoxFuture<'a, Option<RateDecision>>;
}

/// Whether a call is within the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateDecision {
    /// How long to wait, if it is not.
    pub wait: Option<Duration>,
    /// How many calls are left.
    pub remaining: u32,
}

/// What is counted together: a key, or a group of addresses. All addresses share 65,536 buckets, so that many addresses
/// can't fill the memory; two of them seldom share one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Bucket {
    Key(String),
    Address(u16),
}

/// The state of a caller's bucket after a call, for the `RateLimit` headers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RateStatus {
    policy: &'static str,
    rate: Rate,
    decision: RateDecision,
}

/// Counts calls against their buckets.
pub(crate) struct Limiter {
    per_key: Option<Local>,
    per_address: Option<Local>,
    shared: Option<Arc<dyn SharedLimiter>>,
}

struct Local {
    rate: Rate,
    states: RateLimiter<Bucket, DashMapStateStore<Bucket>, DefaultClock, StateInformationMiddleware>,
    clock: DefaultClock,
}

impl Limiter {
    pub(crate) fn new(
        per_key: Option<Rate>,
        per_address: Option<Rate>,
        shared: Option<Arc<dyn SharedLimiter>>,
    ) -> Self {
        Self { per_key: per_key.and_then(Local::new), per_address: per_address.and_then(Local::new), shared }
    }

    /// Counts a call; `None` where calls are not limited.
    pub(crate) async fn count(&self, bucket: &Bucket) -> Option<RateStatus> {
        let local = match bucket {
            Bucket::Key(_) => &self.per_key,
            Bucket::Address(_) => &self.per_address,
        };
        let local = local.as_ref()?;
        let shared = match &self.shared {
            Some(shared) => shared.take(&bucket.to_string(), local.rate).await,
            None => None,
        };
        let decision = shared.unwrap_or_else(|| local.take(bucket));
        Some(RateStatus { policy: bucket.policy(), rate: local.rate, decision })
    }
}

impl Local {
    /// Never `None`: a rate has at least one call, in a time above zero.
    fn new(rate: Rate) -> Option<Self> {
        let quota = Quota::with_period(rate.interval())?.allow_burst(rate.calls());
        let states = RateLimiter::dashmap(quota).with_middleware::<StateInformationMiddleware>();
        Some(Self { rate, states, clock: DefaultClock::default() })
    }

    fn take(&self, bucket: &Bucket) -> RateDecision {
        match self.states.check_key(bucket) {
            Ok(state) => RateDecision { wait: None, remaining: state.remaining_burst_capacity() },
            Err(not_until) => {
                RateDecision { wait: Some(not_until.wait_time_from(self.clock.now())), remaining: 0 }
            }
        }
    }
}

impl Bucket {
    /// The bucket of an address.
    pub(crate) fn of_address(address: IpAddr) -> Self {
        let hash = match network(address) {
            IpAddr::V4(address) => Sha256::digest(address.octets()),
            IpAddr::V6(address) => Sha256::digest(&address.octets()[..8]),
        };
        Self::Address(u16::from_be_bytes([hash[0], hash[1]]))
    }

    fn policy(&self) -> &'static str {
        match self {
            Self::Key(_) => "key",
            Self::Address(_) => "address",
        }
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(id) => write!(f, "key:{id}"),
            Self::Address(number) => write!(f, "address:{number:04x}"),
        }
    }
}

impl RateStatus {
    /// The problem, if the bucket was empty.
    pub(crate) fn refusal(&self) -> Option<Problem> {
        self.decision.wait?;
        let detail = format!("{} are allowed for each {}", self.rate, self.policy);
        Some(Problem::new(ProblemCode::RateLimited, detail))
    }

    /// Writes the `RateLimit` headers (draft-ietf-httpapi-ratelimit-headers), the older forms that clients know, and
    /// `Retry-After`.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        let (limit, window_s) = (self.rate.calls().get(), self.rate.period().as_secs());
        let remaining = self.decision.remaining;
        let reset_s = seconds(
            self.decision.wait.unwrap_or_else(|| self.rate.interval() * (limit - remaining.min(limit))),
        );
        let mut set = |name: &'static str, value: String| {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        set("ratelimit-policy", format!("\"{}\";q={limit};w={window_s}", self.policy));
        set("ratelimit", format!("\"{}\";r={remaining};t={reset_s}", self.policy));
        set("ratelimit-limit", limit.to_string());
        set("ratelimit-remaining", remaining.to_string());
        set("ratelimit-reset", reset_s.to_string());
        if let Some(wait) = self.decision.wait {
            set(header::RETRY_AFTER.as_str(), seconds(wait).max(1).to_string());
        }
    }
}

/// Whole seconds, rounded up, so that no caller comes back too early.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(shared: Option<Arc<dyn SharedLimiter>>) -> Limiter {
        let rate = |text: &str| Some(text.parse().expect("a rate"));
        Limiter::new(rate("2/h"), rate("1/h"), shared)
    }

    #[tokio::test]
    async fn buckets_are_counted_separately() {
        let limiter = limiter(None);
        let (mine, yours) = (Bucket::Key("a".into()), Bucket::Key("b".into()));
        let mut left = Vec::new();
        for bucket in [&mine, &mine, &yours, &mine] {
            let rate_status = limiter.count(bucket).await.expect("it is limited");
            left.push((rate_status.decision.remaining, rate_status.refusal().is_some()));
        }
        assert_eq!(left, [(1, false), (0, false), (1, false), (0, true)]);
    }

    #[tokio::test]
    async fn a_refusal_says_when_to_try_again() {
        let limiter = limiter(None);
        let bucket = Bucket::of_address([127, 0, 0, 1].into());
        assert!(limiter.count(&bucket).await.expect("it is limited").refusal().is_none());
        let rate_status = limiter.count(&bucket).await.expect("it is limited");
        let mut headers = HeaderMap::new();
        rate_status.write(&mut headers);
        let wait: u64 = headers["retry-after"].to_str().expect("text").parse().expect("a number");
        assert!((3500..=3600).contains(&wait), "{wait}");
        assert_eq!(headers["ratelimit-policy"], "\"address\";q=1;w=3600");
        assert_eq!(headers["ratelimit-remaining"], "0");
    }

    #[tokio::test]
    async fn without_the_shared_store_the_process_counts_for_itself() {
        struct Away;
        impl SharedLimiter for Away {
            fn take<'a>(&'a self, _: &'a str, _: Rate) -> BoxFuture<'a, Option<RateDecision>> {
                Box::pin(async { None })
            }
        }
        let limiter = limiter(Some(Arc::new(Away)));
        let bucket = Bucket::Address(7);
        assert!(limiter.count(&bucket).await.expect("it is limited").refusal().is_none());
        assert!(limiter.count(&bucket).await.expect("it is limited").refusal().is_some());
    }

    #[test]
    fn a_network_of_64_bits_is_one_customer() {
        let of = |text: &str| Bucket::of_address(text.parse().expect("an address"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
