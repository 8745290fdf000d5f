//! Callers that repeat one call as fast as they get answers.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use devkit::cpu_time;

use super::arguments::Arguments;

const WARMING_UP: u8 = 0;
/// The first measured phase; the others follow.
const FIRST: u8 = 1;
const STOPPED: u8 = u8::MAX;

/// The measurements of all callers.
pub(super) struct Load {
    /// The latencies of the calls that began and ended in the measured time, in ascending order.
    pub(super) latencies: Vec<Duration>,
    /// The length of the measured time.
    pub(super) elapsed: Duration,
    /// All calls that succeeded, those of the warm-up included.
    pub(super) all: u64,
    /// How many sagas each call is.
    pub(super) sagas_per_call: u32,
    /// Calls that failed.
    pub(super) failures: u64,
    /// Processor time of this process in the measured time, in seconds.
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
        calls * f64::from(self.sagas_per_call) / self.elapsed.as_secs_f64()
    }

    /// The sagas of the calls that began and ended in the measured time.
    pub(super) fn measured_sagas(&self) -> u64 {
        self.latencies.len() as u64 * u64::from(self.sagas_per_call)
    }

    /// The sagas of all calls that succeeded, those of the warm-up included.
    pub(super) fn all_sagas(&self) -> u64 {
        self.all * u64::from(self.sagas_per_call)
    }

    /// The latency that a share (0 to 1) of the calls did not exceed, by the nearest rank.
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

/// A part of the run that is measured separately.
pub(super) struct Phase {
    length: Duration,
    on_start: Box<dyn FnOnce() + Send>,
}

impl Phase {
    /// A phase of this length; `on_start` is called when it begins.
    pub(super) fn of(length: Duration, on_start: impl FnOnce() + Send + 'static) -> Self {
        Self { length, on_start: Box::new(on_start) }
    }
}

/// The measurements of one caller in one phase.
#[derive(Default)]
struct Tally {
    latencies: Vec<Duration>,
    all: u64,
    failures: u64,
    first_failure: Option<String>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.all += other.all;
        self.failures += other.failures;
        self.first_failure = self.first_failure.take().or(other.first_failure);
    }
}

/// Every caller repeats `call`, first to warm up, then measured.
///
/// # Errors
/// When a caller panics.
pub(super) async fn run<C, F>(arguments: &Arguments, call: C) -> anyhow::Result<Load>
where
    C: Fn() -> F + Clone + Send + 'static,
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let [load] = run_phases(arguments, [Phase::of(arguments.measured(), || ())], call).await?;
    Ok(load)
}

/// As [`run`], measured in several phases, one after the other without a pause. The first one also counts the successes and
/// failures of the warm-up.
///
/// # Errors
/// As [`run`].
pub(super) async fn run_phases<const N: usize, C, F>(
    arguments: &Arguments,
    phases: [Phase; N],
    call: C,
) -> anyhow::Result<[Load; N]>
where
    C: Fn() -> F + Clone + Send + 'static,
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let now = Arc::new(AtomicU8::new(WARMING_UP));
    let callers: Vec<_> =
        (0..arguments.callers).map(|_| tokio::spawn(repeat(now.clone(), call.clone()))).collect();

    tokio::time::sleep(arguments.warm_up()).await;
    let mut measured = Vec::with_capacity(N);
    for (phase, number) in phases.into_iter().zip(FIRST..) {
        let cpu_before = cpu_time::own();
        now.store(number, Ordering::Release);
        (phase.on_start)();
        let started = Instant::now();
        tokio::time::sleep(phase.length).await;
        let cpu_after = cpu_time::own();
        measured.push((started.elapsed(), cpu_before.zip(cpu_after).map(|(before, after)| after - before)));
    }
    now.store(STOPPED, Ordering::Release);

    let mut tally: [Tally; N] = std::array::from_fn(|_| Tally::default());
    for caller in callers {
        for (number, one) in caller.await.context("a caller ended in a panic")? {
            let index = usize::from(number.saturating_sub(FIRST));
            tally[index.min(N - 1)].add(one);
        }
    }
    let mut measured = measured.into_iter();
    Ok(tally.map(|mut tally| {
        tally.latencies.sort_unstable();
        let (elapsed, cpu_seconds) = measured.next().unwrap_or_default();
        let Tally { latencies, all, failures, first_failure } = tally;
        Load { latencies, elapsed, all, sagas_per_call: 1, failures, cpu_seconds, first_failure }
    }))
}

async fn repeat<C, F>(now: Arc<AtomicU8>, call: C) -> BTreeMap<u8, Tally>
where
    C: Fn() -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    let mut phases: BTreeMap<u8, Tally> = BTreeMap::new();
    loop {
        let before = now.load(Ordering::Acquire);
        if before == STOPPED {
            return phases;
        }
        let started = Instant::now();
        let answer = call().await;
        let latency = started.elapsed();
        let tally = phases.entry(before).or_default();
        match answer {
            Ok(()) => {
                tally.all += 1;
                if before != WARMING_UP && now.load(Ordering::Acquire) == before {
                    tally.latencies.push(latency);
                }
            }
            Err(error) => {
                tally.failures += 1;
                tally.first_failure.get_or_insert_with(|| format!("{error:#}"));
                // The pause keeps callers of a server that refuses at once out of a busy loop.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[tokio::test(start_paused = true)]
    async fn each_phase_counts_what_began_and_ended_in_it() {
        let Command { arguments } = Command::parse_from(["bench", "--callers", "2", "--warm-up", "1"]);
        let second = Duration::from_secs(1);
        let is_slow = Arc::new(AtomicU8::new(0));
        let (slow, quick) = (is_slow.clone(), is_slow.clone());
        let phases = [
            Phase::of(10 * second, || ()),
            Phase::of(20 * second, move || slow.store(1, Ordering::Release)),
            Phase::of(10 * second, move || quick.store(0, Ordering::Release)),
        ];
        let loads = run_phases(&arguments, phases, move || {
            let delay = if is_slow.load(Ordering::Acquire) == 0 { second / 10 } else { second };
            async move {
                tokio::time::sleep(delay).await;
                Ok(())
            }
        })
        .await
        .unwrap();
        let [before, during, after] = loads.each_ref().map(|load| load.latencies.len());
        assert!((190..=200).contains(&before) && (190..=200).contains(&after), "{before}, {after}");
        assert!((36..=40).contains(&during), "{during}");
        assert!(loads[0].all > 200, "the warm-up counts to the first: {}", loads[0].all);
    }

    #[test]
    fn quantiles_take_the_nearest_rank() {
        let load = Load {
            latencies: (1..=100).map(Duration::from_millis).collect(),
            elapsed: Duration::from_secs(10),
            all: 100,
            sagas_per_call: 1,
            failures: 0,
            cpu_seconds: None,
            first_failure: None,
        };
        assert_eq!(load.quantile(0.5), Duration::from_millis(50));
        assert_eq!(load.quantile(0.99), Duration::from_millis(99));
        assert!((load.per_second() - 10.0).abs() < f64::EPSILON);
    }
}
