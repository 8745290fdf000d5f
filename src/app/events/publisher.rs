//! Publishes the log to one target: reads behind its position, publishes, and advances the position when the target has
//! confirmed.
//!
//! One process at a time does so for a target, by a lease in the database; no transaction is open while the target is
//! waited for. A process that was away for longer than its lease can't move the position any more, and what it still
//! sends is what the target was given before.

use std::{error::Error, sync::Arc, time::Duration};

use breakers::{Breaker, Open};
use metrics::{counter, gauge};
use sqlx::PgPool;
use tokio::{sync::Mutex, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use workers::targets::{Batch, Message, Outcome, PATIENCE, Target, TargetError};
use workflows::events::{self, Claim, Event, PageSize};

use super::{FAILURES, PUBLISHED, REWINDS, UP};

/// Well above what one round can take, [`PATIENCE`] and a few statements.
const LEASE: Duration = PATIENCE.saturating_mul(3);
/// So much is published at a time.
const BATCH: PageSize = PageSize { events: 500, bytes: 1024 * 1024 };
/// Between two looks at a log that had nothing new.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two attempts to take the target over from another process.
const TURN: Duration = Duration::from_secs(1);
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
    HeldBack(#[from] Open),
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
        }))
    }

    /// Publishes until `quit`.
    pub(super) async fn run(&mut self, quit: CancellationToken) {
        let name = self.target.name();
        let up = gauge!(UP, "consumer" => name);
        let mut registered = false;
        let mut wait = FIRST_WAIT;
        let mut failing = false;
        while !quit.is_cancelled() {
            let round = if registered { self.round().await } else { self.register().await };
            let pause = match round {
                // Nothing was asked of the target, so nothing is known that was not known before.
                Ok(Round::Idle) => PAUSE,
                Ok(round @ (Round::More | Round::Asked | Round::Elsewhere)) => {
                    if failing {
                        tracing::info!(consumer = name, "events can be published again");
                    }
                    (registered, failing, wait) = (true, false, FIRST_WAIT);
                    up.set(1.0);
                    match round {
                        Round::More => continue,
                        Round::Asked | Round::Idle => PAUSE,
                        Round::Elsewhere => TURN,
                    }
                }
                // Should it take longer than the lease, another process takes its turn and finds out for itself.
                Err(PublishError::HeldBack(open)) => open.wait(),
                Err(error) => {
                    counter!(FAILURES, "consumer" => name).increment(1);
                    up.set(0.0);
                    if !failing {
                        let error = &error as &(dyn Error + 'static);
                        tracing::warn!(error, consumer = name, "events can't be published now; they wait");
                    }
                    failing = true;
                    let pause = wait.mul_f64(rand::random_range(0.5..=1.0));
                    wait = (wait * 2).min(LONGEST_WAIT);
                    pause
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = quit.cancelled() => {}
            }
        }
        if let Some(claim) = self.claim.take()
            && let Err(error) = events::release(&self.pool, &claim).await
        {
            tracing::debug!(%error, consumer = name, "the lease on a target lapses instead of being given back");
        }
    }

    async fn register(&mut self) -> Result<Round, PublishError> {
        events::register(&self.pool, self.target.name()).await?;
        Ok(Round::More)
    }

    async fn round(&mut self) -> Result<Round, PublishError> {
        let Some(claim) = self.claimed().await? else { return Ok(Round::Elsewhere) };
        let events = events::read(&self.pool, claim.last_event_id, BATCH).await?.events;
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
            floor: oldest_kept.max(claim.begun_after),
            messages: &messages,
        };
        match self.deliver(batch).await? {
            Outcome::Confirmed => {
                let Some(last) = messages.last() else { return Ok(Round::Asked) };
                counter!(PUBLISHED, "consumer" => self.target.name()).increment(messages.len() as u64);
                self.advance(&claim, last.event_id).await?;
            }
            // It is ahead of the whole log: the database was put back to an earlier state. Nothing that it has is ours.
            Outcome::Holds(last) if last > extent.last_event_id => {
                self.begin_anew(&claim, claim.series).await?;
            }
            Outcome::Holds(last) if last > claim.last_event_id => self.advance(&claim, last).await?,
            Outcome::Holds(last) => self.rewind(&claim, last).await?,
            Outcome::Foreign(series) => self.begin_anew(&claim, series).await?,
        }
        Ok(Round::More)
    }

    /// The one call that leaves the process.
    async fn deliver(&mut self, batch: Batch<'_>) -> Result<Outcome, PublishError> {
        let pass = self.breaker.admit()?;
        let published = self.target.publish(batch).await;
        if published.is_ok() {
            pass.succeeded();
        } else {
            pass.failed();
        }
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
