//! Publishes the log to one target: reads behind its position, publishes, and advances the position when the target has
//! confirmed.
//!
//! One process at a time does so for a target, by a lease in the database; no transaction is open while the target is
//! waited for. A process that was away for longer than its lease can't move the position any more, and what it still
//! sends is what the target was given before.

use std::{error::Error, sync::Arc, time::Duration};

use breakers::{Breaker, BreakerOpen};
use metrics::{counter, gauge};
use shop::events::{self, Claim, Event, PageSize};
use sqlx::PgPool;
use tokio::{sync::Mutex, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use workers::targets::{Batch, Message, Newest, Outcome, PATIENCE, Target, TargetError};

use super::{FAILURES, PUBLISHED, REWINDS, UP};

/// Well above what one round can take, [`PATIENCE`] and a few statements.
const LEASE: Duration = PATIENCE.saturating_mul(3);
/// So much is published at a time.
const BATCH: PageSize = PageSize { events: 500, bytes: 1024 * 1024 };
/// Between two looks at a log that had nothing new.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two attempts to take the target over from another process.
const TURN: Duration = Duration::from_secs(1);
/// A process that has failed so often in a row lets another one try.
const OWN_FAILURES: u32 = 3;
/// A target that is given nothing is asked so often what it has.
const ASK: Duration = Duration::from_secs(2);
/// The bounds of the waits after trouble.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Publishes to one target.
pub(super) struct Publisher {
    pool: PgPool,
    target: Target,
    breaker: Breaker,
    stream_longest: i64,
    holder: Uuid,
    claim: Option<Claim>,
    renewed: Instant,
    asked: Instant,
    /// So much is read at a time now: less while the target has no answer in time.
    size: PageSize,
}

/// What a round came to.
enum Round {
    /// There may be more.
    More,
    /// Everything was published before.
    Idle,
    /// Everything was published before, and the target says so too.
    Asked,
    /// Another process publishes to this target, or it was removed.
    Elsewhere,
}

/// Why a round came to nothing.
#[derive(Debug, thiserror::Error)]
enum PublishError {
    #[error("the database can't be used")]
    Database(#[from] sqlx::Error),
    #[error("the target can't be used")]
    Target(#[from] TargetError),
    /// It has failed lately; nothing was attempted.
    #[error("the target is left alone for a while")]
    HeldBack(#[from] BreakerOpen),
}

impl Publisher {
    /// Shared, because a supervisor that begins it anew needs it again.
    pub(super) fn new(
        pool: PgPool,
        target: Target,
        breaker: Breaker,
        stream_longest: i64,
    ) -> Arc<Mutex<Self>> {
        let now = Instant::now();
        let holder = Uuid::now_v7();
        Arc::new(Mutex::new(Self {
            pool,
            target,
            breaker,
            stream_longest,
            holder,
            claim: None,
            renewed: now,
            asked: now,
            size: BATCH,
        }))
    }

    /// Publishes until `quit`.
    pub(super) async fn run(&mut self, quit: CancellationToken) {
        let name = self.target.name();
        let up = gauge!(UP, "consumer" => name);
        let mut registered = false;
        let mut wait = FIRST_WAIT;
        let mut failures = 0;
        while !quit.is_cancelled() {
            let round = if registered { self.round().await } else { self.register().await };
            let pause = match round {
                // Nothing was asked of the target, so nothing is known that was not known before.
                Ok(Round::Idle) => PAUSE,
                Ok(round @ (Round::More | Round::Asked | Round::Elsewhere)) => {
                    if failures > 0 && !matches!(round, Round::Elsewhere) {
                        tracing::info!(consumer = name, "events can be published again");
                    }
                    (registered, failures, wait) = (true, 0, FIRST_WAIT);
                    up.set(1.0);
                    match round {
                        Round::More => continue,
                        Round::Asked | Round::Idle => PAUSE,
                        Round::Elsewhere => TURN,
                    }
                }
                // Another process takes its turn and finds out for itself.
                Err(PublishError::HeldBack(open)) => self.yield_turn(open.retry_delay()).await,
                Err(error) => {
                    counter!(FAILURES, "consumer" => name).increment(1);
                    up.set(0.0);
                    if failures == 0 {
                        let error = &error as &(dyn Error + 'static);
                        tracing::warn!(error, consumer = name, "events can't be published now; they wait");
                    }
                    failures += 1;
                    let pause = wait.mul_f64(rand::random_range(0.5..=1.0));
                    wait = (wait * 2).min(LONGEST_WAIT);
                    match error {
                        // What this process can't reach, another may.
                        PublishError::Target(_) if failures >= OWN_FAILURES => self.yield_turn(pause).await,
                        PublishError::Target(_) | PublishError::Database(_) | PublishError::HeldBack(_) => {
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
        self.give_back().await;
        self.target.close().await;
    }

    /// Lets another process publish, and says how long to wait until it is sure to have had the chance.
    async fn yield_turn(&mut self, pause: Duration) -> Duration {
        self.give_back().await;
        pause.max(TURN * 2)
    }

    async fn give_back(&mut self) {
        if let Some(claim) = self.claim.take()
            && let Err(error) = events::release(&self.pool, &claim).await
        {
            let consumer = self.target.name();
            tracing::debug!(%error, consumer, "the lease on a target lapses instead of being given back");
        }
    }

    async fn register(&mut self) -> Result<Round, PublishError> {
        events::register(&self.pool, self.target.name()).await?;
        Ok(Round::More)
    }

    async fn round(&mut self) -> Result<Round, PublishError> {
        let Some(claim) = self.claimed().await? else { return Ok(Round::Elsewhere) };
        let events = events::read(&self.pool, claim.last_event_id, self.size).await?.events;
        if events.is_empty() && self.asked.elapsed() < ASK {
            return Ok(Round::Idle);
        }
        self.asked = Instant::now();
        let messages: Vec<Message> = events.iter().map(message).collect();
        let extent = events::extent(&self.pool).await?;
        let oldest_kept = extent.last_event_id.saturating_sub(self.stream_longest).max(extent.pruned_through);
        let batch = Batch {
            series: claim.series,
            after: claim.last_event_id,
            begun_after: claim.begun_after,
            previous: claim.previous_series.zip(claim.previous_event_id),
            floor: oldest_kept,
            messages: &messages,
        };
        match self.deliver(batch).await? {
            Outcome::Confirmed(last) => {
                let confirmed = last.saturating_sub(claim.last_event_id);
                if confirmed <= 0 {
                    return Ok(Round::Asked);
                }
                counter!(PUBLISHED, "consumer" => self.target.name()).increment(confirmed.unsigned_abs());
                self.advance(&claim, last).await?;
            }
            Outcome::Ahead(newest) => {
                if is_of_this_log(&self.pool, &newest).await? {
                    self.advance(&claim, newest.event_id).await?;
                } else {
                    self.begin_anew(&claim, claim.series).await?;
                }
            }
            Outcome::Lacks(last) => self.rewind(&claim, last).await?,
            Outcome::Foreign(series) => self.begin_anew(&claim, series).await?,
        }
        Ok(Round::More)
    }

    /// The one call that leaves the process.
    async fn deliver(&mut self, batch: Batch<'_>) -> Result<Outcome, PublishError> {
        let permit = self.breaker.try_acquire()?;
        let published = self.target.publish(batch).await;
        if published.is_ok() {
            permit.succeeded();
        } else {
            permit.failed();
        }
        self.size.events = match published {
            // It may be too much for a slow target to take in time, and would be for ever.
            Err(TargetError::Silent) => (self.size.events / 2).max(1),
            _ => self.size.events.saturating_mul(2).min(BATCH.events),
        };
        Ok(published?)
    }

    /// Gives the claim, taken or renewed when it is time.
    async fn claimed(&mut self) -> Result<Option<Claim>, sqlx::Error> {
        if self.claim.is_none() || self.renewed.elapsed() > LEASE / 3 {
            let asked = Instant::now();
            self.claim = events::claim(&self.pool, self.target.name(), self.holder, LEASE).await?;
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
        let name = self.target.name();
        tracing::warn!(
            consumer = name,
            lost = claim.last_event_id - last_event_id,
            "a target has lost events; it gets them again"
        );
        counter!(REWINDS, "consumer" => name).increment(1);
        self.claim = None;
        events::rewind(&self.pool, claim, last_event_id).await.map(drop)
    }

    async fn begin_anew(&mut self, claim: &Claim, beyond: i64) -> Result<(), sqlx::Error> {
        tracing::warn!(
            consumer = self.target.name(),
            after = claim.last_event_id,
            "a target has entries that are not of this log; what follows goes behind them"
        );
        self.claim = None;
        events::begin_series(&self.pool, claim, beyond).await.map(drop)
    }
}

/// Whether the log has just this event under this number. If not, the database was put back to an earlier state, and
/// numbers are given a second time.
async fn is_of_this_log(pool: &PgPool, newest: &Newest) -> Result<bool, sqlx::Error> {
    let one = PageSize { events: 1, ..BATCH };
    let page = events::read(pool, newest.event_id.saturating_sub(1), one).await?;
    Ok(page.events.first().is_some_and(|event| {
        event.event_id == newest.event_id
            && event.at_rfc3339() == newest.at
            && event.routing_key == newest.routing_key
            && event.key == newest.key
    }))
}

fn message(event: &Event) -> Message {
    Message {
        event_id: event.event_id,
        at: event.at_rfc3339(),
        at_s: event.at.timestamp().try_into().unwrap_or_default(),
        routing_key: event.routing_key.clone(),
        key: event.key.clone(),
        payload: event.payload().to_owned(),
    }
}
