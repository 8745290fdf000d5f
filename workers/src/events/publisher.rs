//! Publishes the event log to one sink: reads after the consumer's position, publishes, and advances the position when
//! the sink has confirmed.
//!
//! One process at a time publishes to a sink, by a lease in the event log; no transaction is open while the sink works.
//! A process that was stopped for longer than its lease can't move the position any more; events that it still sends
//! are repetitions.

use std::time::Duration;

use breakers::{Breaker, BreakerOpen};
use metrics::{counter, gauge};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    event_log::{ConsumerLease, EventLog, EventLogError, LogRange, PageSize},
    removal::Removal,
};
use crate::{
    metrics::{EVENTS_PUBLISHED, SINK_FAILURES, SINK_FOREIGN, SINK_REWINDS, SINK_UP},
    sinks::{BATCH_TIMEOUT, EventBatch, EventSink, NewestEntry, SinkError, SinkReply},
};

/// The duration of the lease: well above what one round can take, [`BATCH_TIMEOUT`] and a few statements.
const LEASE: Duration = BATCH_TIMEOUT.saturating_mul(3);
/// The most events published at a time.
const MAX_BATCH: PageSize = PageSize { events: 500, bytes: 1024 * 1024 };
/// The pause after a round without new events.
const IDLE_PAUSE: Duration = Duration::from_millis(100);
/// The pause between attempts to acquire the lease from another process.
const ACQUIRE_INTERVAL: Duration = Duration::from_secs(1);
/// How often the publisher to a consumer that was removed looks whether it is registered again.
const REMOVED_INTERVAL: Duration = Duration::from_secs(5);
/// After this many consecutive failures another process gets the chance to publish.
const FAILURES_BEFORE_YIELD: u32 = 3;
/// How often an idle sink is asked for its newest event.
const VERIFY_INTERVAL: Duration = Duration::from_secs(2);
/// The bounds of the pause after an error.
const MIN_RETRY_PAUSE: Duration = Duration::from_millis(100);
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(5);

/// Publishes the events of a log to one sink.
pub(super) struct Publisher<L> {
    log: L,
    sink: EventSink,
    breaker: Breaker,
    holder: Uuid,
    lease: Option<ConsumerLease>,
    renewed_at: Instant,
    verified_at: Instant,
    /// How much is read at a time now: less than [`MAX_BATCH`] after the sink timed out.
    size: PageSize,
}

/// The result of a round.
enum Round {
    /// There may be more events.
    More,
    /// Every event was published before.
    Idle,
    /// Every event was published before, and the sink has confirmed that.
    Verified,
    /// Another process publishes to this sink.
    NotHolder,
    /// Its consumer was removed.
    Removed,
}

/// Why a round failed.
#[derive(Debug, thiserror::Error)]
enum PublishError {
    #[error(transparent)]
    Log(#[from] EventLogError),
    #[error("the sink can't be used")]
    Sink(#[from] SinkError),
    /// The sink has failed lately; nothing was attempted.
    #[error("the sink's circuit breaker is open")]
    BreakerOpen(#[from] BreakerOpen),
}

impl<L: EventLog> Publisher<L> {
    pub(super) fn new(log: L, sink: EventSink, breaker: Breaker) -> Self {
        let now = Instant::now();
        Self {
            log,
            sink,
            breaker,
            holder: Uuid::now_v7(),
            lease: None,
            renewed_at: now,
            verified_at: now,
            size: MAX_BATCH,
        }
    }

    /// Publishes until `quit`.
    pub(super) async fn run(&mut self, quit: CancellationToken) {
        let name = self.sink.name();
        let up = gauge!(SINK_UP, "consumer" => name);
        let mut removal = Removal::new(name);
        let mut registered = false;
        let mut retry_pause = MIN_RETRY_PAUSE;
        let mut failures = 0;
        while !quit.is_cancelled() {
            let round = if registered { self.round().await } else { self.register().await };
            if let Ok(round) = &round {
                removal.set(matches!(round, Round::Removed));
            }
            let pause = match round {
                Ok(Round::Removed) => REMOVED_INTERVAL,
                // The sink was not asked, so its state is unknown.
                Ok(Round::Idle) => IDLE_PAUSE,
                Ok(round @ (Round::More | Round::Verified | Round::NotHolder)) => {
                    if failures > 0 && !matches!(round, Round::NotHolder) {
                        tracing::info!(consumer = name, "events can be published again");
                    }
                    (registered, failures, retry_pause) = (true, 0, MIN_RETRY_PAUSE);
                    up.set(1.0);
                    match round {
                        Round::More => continue,
                        Round::Verified | Round::Idle | Round::Removed => IDLE_PAUSE,
                        Round::NotHolder => ACQUIRE_INTERVAL,
                    }
                }
                // Another process may try, with its own breaker.
                Err(PublishError::BreakerOpen(open)) => self.yield_lease(open.retry_delay()).await,
                Err(error) => {
                    counter!(SINK_FAILURES, "consumer" => name).increment(1);
                    up.set(0.0);
                    if failures == 0 {
                        tracing::warn!(error = %engine::ErrorChain(&error), consumer = name, "events can't be published now; they wait");
                    }
                    failures += 1;
                    let pause = retry_pause.mul_f64(rand::random_range(0.5..=1.0));
                    retry_pause = (retry_pause * 2).min(MAX_RETRY_PAUSE);
                    match error {
                        // Another process may reach the sink that this one can't.
                        PublishError::Sink(_) if failures >= FAILURES_BEFORE_YIELD => {
                            self.yield_lease(pause).await
                        }
                        PublishError::Sink(_) | PublishError::Log(_) | PublishError::BreakerOpen(_) => pause,
                    }
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = quit.cancelled() => {}
            }
        }
        self.release().await;
        self.sink.close().await;
    }

    /// Releases the lease, and returns how long to wait until another process surely had the chance to acquire it.
    async fn yield_lease(&mut self, pause: Duration) -> Duration {
        self.release().await;
        pause.max(ACQUIRE_INTERVAL * 2)
    }

    async fn release(&mut self) {
        if let Some(lease) = self.lease.take()
            && let Err(error) = self.log.release(&lease).await
        {
            let consumer = self.sink.name();
            tracing::debug!(error = %engine::ErrorChain(&error), consumer, "the lease of a consumer could not be released; it expires");
        }
    }

    async fn register(&mut self) -> Result<Round, PublishError> {
        self.log.register(self.sink.name()).await?;
        Ok(Round::More)
    }

    async fn round(&mut self) -> Result<Round, PublishError> {
        let Some(lease) = self.current_lease().await? else {
            let is_registered = self.log.is_registered(self.sink.name()).await?;
            return Ok(if is_registered { Round::NotHolder } else { Round::Removed });
        };
        let messages = self.log.read(lease.last_event_id, self.size).await?;
        if messages.is_empty() && self.verified_at.elapsed() < VERIFY_INTERVAL {
            return Ok(Round::Idle);
        }
        self.verified_at = Instant::now();
        let refill_after = refill_after(self.sink.max_len(), self.log.range().await?);
        let batch = EventBatch {
            series: lease.series,
            after: lease.last_event_id,
            started_after: lease.started_after,
            previous: lease.previous,
            refill_after,
            messages: &messages,
        };
        match self.deliver(batch).await? {
            SinkReply::Confirmed(last) => {
                let confirmed = last.saturating_sub(lease.last_event_id);
                if confirmed <= 0 {
                    return Ok(Round::Verified);
                }
                counter!(EVENTS_PUBLISHED, "consumer" => self.sink.name())
                    .increment(confirmed.unsigned_abs());
                self.confirm(&lease, last).await?;
            }
            SinkReply::Ahead(newest) => {
                if is_of_this_log(&self.log, &newest).await? {
                    self.confirm(&lease, newest.event_id).await?;
                } else {
                    self.start_series(&lease, lease.series).await?;
                }
            }
            SinkReply::Lacks(last) => self.rewind(&lease, last).await?,
            SinkReply::Foreign(series) => self.start_series(&lease, series).await?,
        }
        Ok(Round::More)
    }

    /// Makes the call to the sink, under its breaker.
    async fn deliver(&mut self, batch: EventBatch<'_>) -> Result<SinkReply, PublishError> {
        let permit = self.breaker.try_acquire()?;
        let published = self.sink.publish(batch).await;
        if published.is_ok() {
            permit.succeeded();
        } else {
            permit.failed();
        }
        self.size.events = match published {
            // The batch may be more than a slow sink can ever take in time.
            Err(SinkError::Timeout) => (self.size.events / 2).max(1),
            _ => self.size.events.saturating_mul(2).min(MAX_BATCH.events),
        };
        Ok(published?)
    }

    /// The lease, acquired or renewed if it is due.
    async fn current_lease(&mut self) -> Result<Option<ConsumerLease>, EventLogError> {
        if self.lease.is_none() || self.renewed_at.elapsed() > LEASE / 3 {
            let asked_at = Instant::now();
            self.lease = self.log.acquire(self.sink.name(), self.holder, LEASE).await?;
            self.renewed_at = asked_at;
        }
        Ok(self.lease.clone())
    }

    async fn confirm(&mut self, lease: &ConsumerLease, last_event_id: i64) -> Result<(), EventLogError> {
        let asked_at = Instant::now();
        let held = self.log.confirm(lease, last_event_id, LEASE).await?;
        self.renewed_at = asked_at;
        self.lease = held.then(|| ConsumerLease { last_event_id, ..lease.clone() });
        Ok(())
    }

    async fn rewind(&mut self, lease: &ConsumerLease, last_event_id: i64) -> Result<(), EventLogError> {
        let name = self.sink.name();
        tracing::warn!(
            consumer = name,
            lost = lease.last_event_id - last_event_id,
            "a sink has lost events; they are published again"
        );
        counter!(SINK_REWINDS, "consumer" => name).increment(1);
        self.lease = None;
        self.log.rewind(lease, last_event_id).await.map(drop)
    }

    async fn start_series(&mut self, lease: &ConsumerLease, beyond: i64) -> Result<(), EventLogError> {
        let name = self.sink.name();
        tracing::warn!(
            consumer = name,
            after = lease.last_event_id,
            "a sink has entries that are not of this log; new events are added behind them"
        );
        counter!(SINK_FOREIGN, "consumer" => name).increment(1);
        self.lease = None;
        self.log.start_series(lease, beyond).await.map(drop)
    }
}

/// The event after which an empty sink is refilled: it gets as many of the newest events as it can keep and the event
/// log still has.
fn refill_after(max_len: Option<u64>, range: LogRange) -> i64 {
    let max_len = max_len.map(|max_len| i64::try_from(max_len).unwrap_or(i64::MAX));
    let oldest_kept = max_len.map(|max_len| range.last_event_id.saturating_sub(max_len));
    oldest_kept.unwrap_or_default().max(range.pruned_through)
}

/// Whether the event log has exactly this event under this number. If not, the database was restored to an earlier
/// state, and numbers are assigned a second time.
async fn is_of_this_log(log: &impl EventLog, newest: &NewestEntry) -> Result<bool, EventLogError> {
    let one = PageSize { events: 1, ..MAX_BATCH };
    let page = log.read(newest.event_id.saturating_sub(1), one).await?;
    Ok(page.first().is_some_and(|event| {
        event.event_id == newest.event_id
            && event.at == newest.at
            && event.routing_key == newest.routing_key
            && event.key == newest.key
    }))
}
