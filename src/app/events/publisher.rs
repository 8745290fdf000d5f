//! Publishes the log to one sink: reads behind its position, publishes, and advances the position when the sink has
//! confirmed.
//!
//! One process at a time does so for a sink, by a lease in the database; no transaction is open while the sink is
//! waited for. A process that was away for longer than its lease can't move the position any more, and what it still
//! sends is what the sink was given before.

use std::{error::Error, sync::Arc, time::Duration};

use breakers::{Breaker, BreakerOpen};
use metrics::{counter, gauge};
use shop::events::{self, Claim, Event, PageSize};
use sqlx::PgPool;
use tokio::{sync::Mutex, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use workers::sinks::{BATCH_TIMEOUT, EventBatch, EventMessage, EventSink, NewestEntry, SinkError, SinkReply};

use super::{FAILURES, PUBLISHED, REWINDS, UP};

/// Well above what one round can take, [`BATCH_TIMEOUT`] and a few statements.
const LEASE: Duration = BATCH_TIMEOUT.saturating_mul(3);
/// So much is published at a time.
const MAX_BATCH: PageSize = PageSize { events: 500, bytes: 1024 * 1024 };
/// Between two looks at a log that had nothing new.
const IDLE_PAUSE: Duration = Duration::from_millis(100);
/// Between two attempts to take the sink over from another process.
const TAKEOVER_INTERVAL: Duration = Duration::from_secs(1);
/// A process that has failed so often in a row lets another one try.
const FAILURES_BEFORE_YIELD: u32 = 3;
/// A sink that is given nothing is asked so often what it has.
const VERIFY_INTERVAL: Duration = Duration::from_secs(2);
/// The bounds of the waits after trouble.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const MAX_WAIT: Duration = Duration::from_secs(5);

/// Publishes to one sink.
pub(super) struct Publisher {
    pool: PgPool,
    sink: EventSink,
    breaker: Breaker,
    stream_max_len: i64,
    holder: Uuid,
    claim: Option<Claim>,
    renewed: Instant,
    verified_at: Instant,
    /// So much is read at a time now: less while the sink has no answer in time.
    size: PageSize,
}

/// What a round came to.
enum Round {
    /// There may be more.
    More,
    /// Everything was published before.
    Idle,
    /// Everything was published before, and the sink says so too.
    Verified,
    /// Another process publishes to this sink, or it was removed.
    NotHolder,
}

/// Why a round came to nothing.
#[derive(Debug, thiserror::Error)]
enum PublishError {
    #[error("the database can't be used")]
    Database(#[from] sqlx::Error),
    #[error("the sink can't be used")]
    Sink(#[from] SinkError),
    /// It has failed lately; nothing was attempted.
    #[error("the sink is left alone for a while")]
    BreakerOpen(#[from] BreakerOpen),
}

impl Publisher {
    /// Shared, because a supervisor that begins it anew needs it again.
    pub(super) fn new(
        pool: PgPool,
        sink: EventSink,
        breaker: Breaker,
        stream_max_len: i64,
    ) -> Arc<Mutex<Self>> {
        let now = Instant::now();
        let holder = Uuid::now_v7();
        Arc::new(Mutex::new(Self {
            pool,
            sink,
            breaker,
            stream_max_len,
            holder,
            claim: None,
            renewed: now,
            verified_at: now,
            size: MAX_BATCH,
        }))
    }

    /// Publishes until `quit`.
    pub(super) async fn run(&mut self, quit: CancellationToken) {
        let name = self.sink.name();
        let up = gauge!(UP, "consumer" => name);
        let mut registered = false;
        let mut wait = FIRST_WAIT;
        let mut failures = 0;
        while !quit.is_cancelled() {
            let round = if registered { self.round().await } else { self.register().await };
            let pause = match round {
                // Nothing was asked of the sink, so nothing is known that was not known before.
                Ok(Round::Idle) => IDLE_PAUSE,
                Ok(round @ (Round::More | Round::Verified | Round::NotHolder)) => {
                    if failures > 0 && !matches!(round, Round::NotHolder) {
                        tracing::info!(consumer = name, "events can be published again");
                    }
                    (registered, failures, wait) = (true, 0, FIRST_WAIT);
                    up.set(1.0);
                    match round {
                        Round::More => continue,
                        Round::Verified | Round::Idle => IDLE_PAUSE,
                        Round::NotHolder => TAKEOVER_INTERVAL,
                    }
                }
                // Another process takes its turn and finds out for itself.
                Err(PublishError::BreakerOpen(open)) => self.yield_turn(open.retry_delay()).await,
                Err(error) => {
                    counter!(FAILURES, "consumer" => name).increment(1);
                    up.set(0.0);
                    if failures == 0 {
                        let error = &error as &(dyn Error + 'static);
                        tracing::warn!(error, consumer = name, "events can't be published now; they wait");
                    }
                    failures += 1;
                    let pause = wait.mul_f64(rand::random_range(0.5..=1.0));
                    wait = (wait * 2).min(MAX_WAIT);
                    match error {
                        // What this process can't reach, another may.
                        PublishError::Sink(_) if failures >= FAILURES_BEFORE_YIELD => {
                            self.yield_turn(pause).await
                        }
                        PublishError::Sink(_) | PublishError::Database(_) | PublishError::BreakerOpen(_) => {
                            pause
                        }
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

    /// Lets another process publish, and says how long to wait until it is sure to have had the chance.
    async fn yield_turn(&mut self, pause: Duration) -> Duration {
        self.release().await;
        pause.max(TAKEOVER_INTERVAL * 2)
    }

    async fn release(&mut self) {
        if let Some(claim) = self.claim.take()
            && let Err(error) = events::release(&self.pool, &claim).await
        {
            let consumer = self.sink.name();
            tracing::debug!(%error, consumer, "the lease on a sink lapses instead of being given back");
        }
    }

    async fn register(&mut self) -> Result<Round, PublishError> {
        events::register(&self.pool, self.sink.name()).await?;
        Ok(Round::More)
    }

    async fn round(&mut self) -> Result<Round, PublishError> {
        let Some(claim) = self.claimed().await? else { return Ok(Round::NotHolder) };
        let events = events::read(&self.pool, claim.last_event_id, self.size).await?.events;
        if events.is_empty() && self.verified_at.elapsed() < VERIFY_INTERVAL {
            return Ok(Round::Idle);
        }
        self.verified_at = Instant::now();
        let messages: Vec<EventMessage> = events.iter().map(message).collect();
        let extent = events::extent(&self.pool).await?;
        let oldest_kept = extent.last_event_id.saturating_sub(self.stream_max_len).max(extent.pruned_through);
        let batch = EventBatch {
            series: claim.series,
            after: claim.last_event_id,
            begun_after: claim.begun_after,
            previous: claim.previous_series.zip(claim.previous_event_id),
            floor: oldest_kept,
            messages: &messages,
        };
        match self.deliver(batch).await? {
            SinkReply::Confirmed(last) => {
                let confirmed = last.saturating_sub(claim.last_event_id);
                if confirmed <= 0 {
                    return Ok(Round::Verified);
                }
                counter!(PUBLISHED, "consumer" => self.sink.name()).increment(confirmed.unsigned_abs());
                self.advance(&claim, last).await?;
            }
            SinkReply::Ahead(newest) => {
                if is_of_this_log(&self.pool, &newest).await? {
                    self.advance(&claim, newest.event_id).await?;
                } else {
                    self.start_series(&claim, claim.series).await?;
                }
            }
            SinkReply::Lacks(last) => self.rewind(&claim, last).await?,
            SinkReply::Foreign(series) => self.start_series(&claim, series).await?,
        }
        Ok(Round::More)
    }

    /// The one call that leaves the process.
    async fn deliver(&mut self, batch: EventBatch<'_>) -> Result<SinkReply, PublishError> {
        let permit = self.breaker.try_acquire()?;
        let published = self.sink.publish(batch).await;
        if published.is_ok() {
            permit.succeeded();
        } else {
            permit.failed();
        }
        self.size.events = match published {
            // It may be too much for a slow sink to take in time, and would be for ever.
            Err(SinkError::Timeout) => (self.size.events / 2).max(1),
            _ => self.size.events.saturating_mul(2).min(MAX_BATCH.events),
        };
        Ok(published?)
    }

    /// Gives the claim, taken or renewed when it is time.
    async fn claimed(&mut self) -> Result<Option<Claim>, sqlx::Error> {
        if self.claim.is_none() || self.renewed.elapsed() > LEASE / 3 {
            let asked = Instant::now();
            self.claim = events::claim(&self.pool, self.sink.name(), self.holder, LEASE).await?;
            self.renewed = asked;
        }
        Ok(self.claim.clone())
    }

    async fn advance(&mut self, claim: &Claim, last_event_id: i64) -> Result<(), sqlx::Error> {
        let asked = Instant::now();
        let held = events::advance(&self.pool, claim, last_event_id, LEASE).await?;
        self.renewed = asked;
        self.claim = held.then(|| Claim { last_event_id, ..claim.clone() });
        Ok(())
    }

    async fn rewind(&mut self, claim: &Claim, last_event_id: i64) -> Result<(), sqlx::Error> {
        let name = self.sink.name();
        tracing::warn!(
            consumer = name,
            lost = claim.last_event_id - last_event_id,
            "a sink has lost events; it gets them again"
        );
        counter!(REWINDS, "consumer" => name).increment(1);
        self.claim = None;
        events::rewind(&self.pool, claim, last_event_id).await.map(drop)
    }

    async fn start_series(&mut self, claim: &Claim, beyond: i64) -> Result<(), sqlx::Error> {
        tracing::warn!(
            consumer = self.sink.name(),
            after = claim.last_event_id,
            "a sink has entries that are not of this log; what follows goes behind them"
        );
        self.claim = None;
        events::begin_series(&self.pool, claim, beyond).await.map(drop)
    }
}

/// Whether the log has just this event under this number. If not, the database was put back to an earlier state, and
/// numbers are given a second time.
async fn is_of_this_log(pool: &PgPool, newest: &NewestEntry) -> Result<bool, sqlx::Error> {
    let one = PageSize { events: 1, ..MAX_BATCH };
    let page = events::read(pool, newest.event_id.saturating_sub(1), one).await?;
    Ok(page.events.first().is_some_and(|event| {
        event.event_id == newest.event_id
            && event.at_rfc3339() == newest.at
            && event.routing_key == newest.routing_key
            && event.key == newest.key
    }))
}

fn message(event: &Event) -> EventMessage {
    EventMessage {
        event_id: event.event_id,
        at: event.at_rfc3339(),
        at_s: event.at.timestamp().try_into().unwrap_or_default(),
        routing_key: event.routing_key.clone(),
        key: event.key.clone(),
        payload: event.payload().to_owned(),
    }
}
