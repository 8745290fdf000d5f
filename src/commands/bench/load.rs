//! Callers that repeat one call as fast as it is answered.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;

use super::Arguments;
use crate::processor_time;

const WARMING_UP: u8 = 0;
const MEASURING: u8 = 1;
const STOPPED: u8 = 2;

/// What the callers saw.
pub(super) struct Load {
    /// The latencies of the calls that began and ended while it was measured, ascending.
    pub(super) latencies: Vec<Duration>,
    /// How long that was.
    pub(super) elapsed: Duration,
    /// All calls that ended well, those of the warm-up included.
    pub(super) all: u64,
    /// Calls that did not end well.
    pub(super) failures: u64,
    /// Processor time of this process while it was measured, in seconds.
    pub(super) cpu_seconds: Option<f64>,
    first_failure: Option<String>,
}

impl Load {
    pub(super) fn per_second(&self) -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            reason = "there are far fewer calls than an f64 counts exactly"
        )]
        let calls = self.latencies.len() as f64;
        calls / self.elapsed.as_secs_f64()
    }

    /// The latency that this share (0 to 1) of the calls did not exceed; nearest rank.
    pub(super) fn quantile(&self, share: f64) -> Duration {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank within the list"
        )]
        let rank = (self.latencies.len() as f64 * share).ceil() as usize;
        self.latencies.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    pub(super) fn first_failure(&self) -> &str {
        self.first_failure.as_deref().unwrap_or("none")
    }
}

#[derive(Default)]
struct Seen {
    latencies: Vec<Duration>,
    all: u64,
    failures: u64,
    first_failure: Option<String>,
}

/// Has `call` repeated by every caller, first to warm up, then measured.
///
/// # Errors
/// When a caller panics.
pub(super) async fn run<C, F>(arguments: &Arguments, call: C) -> anyhow::Result<Load>
where
    C: Fn() -> F + Clone + Send + 'static,
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let phase = Arc::new(AtomicU8::new(WARMING_UP));
    let callers: Vec<_> =
        (0..arguments.callers).map(|_| tokio::spawn(repeat(phase.clone(), call.clone()))).collect();

    tokio::time::sleep(arguments.warm_up()).await;
    let cpu_before = processor_time::own();
    phase.store(MEASURING, Ordering::Release);
    let begun = Instant::now();
    tokio::time::sleep(arguments.measured()).await;
    phase.store(STOPPED, Ordering::Release);
    let elapsed = begun.elapsed();
    let cpu_after = processor_time::own();

    let mut seen = Seen::default();
    for caller in callers {
        let one = caller.await.context("a caller ended in a panic")?;
        seen.latencies.extend(one.latencies);
        seen.all += one.all;
        seen.failures += one.failures;
        seen.first_failure = seen.first_failure.or(one.first_failure);
    }
    seen.latencies.sort_unstable();
    Ok(Load {
        latencies: seen.latencies,
        elapsed,
        all: seen.all,
        failures: seen.failures,
        cpu_seconds: cpu_before.zip(cpu_after).map(|(before, after)| after - before),
        first_failure: seen.first_failure,
    })
}

async fn repeat<C, F>(phase: Arc<AtomicU8>, call: C) -> Seen
where
    C: Fn() -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    let mut seen = Seen::default();
    loop {
        let before = phase.load(Ordering::Acquire);
        if before == STOPPED {
            return seen;
        }
        let begun = Instant::now();
        let answer = call().await;
        let latency = begun.elapsed();
        match answer {
            Ok(()) => {
                seen.all += 1;
                if before == MEASURING && phase.load(Ordering::Acquire) == MEASURING {
                    seen.latencies.push(latency);
                }
            }
            Err(error) => {
                seen.failures += 1;
                seen.first_failure.get_or_insert_with(|| format!("{error:#}"));
                // A server that refuses at once must not turn the callers into a busy loop.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_take_the_nearest_rank() {
        let load = Load {
            latencies: (1..=100).map(Duration::from_millis).collect(),
            elapsed: Duration::from_secs(10),
            all: 100,
            failures: 0,
            cpu_seconds: None,
            first_failure: None,
        };
        assert_eq!(load.quantile(0.5), Duration::from_millis(50));
        assert_eq!(load.quantile(0.99), Duration::from_millis(99));
        assert!((load.per_second() - 10.0).abs() < f64::EPSILON);
    }
}
