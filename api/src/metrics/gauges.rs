//! Gauges that are read when `/metrics` is scraped, at most once a second however many scrape.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use engine::{Engine, KeptSignals, QueueView, Status, StatusCount, WaitingCount};
use metrics::{counter, gauge};
use shop::events::LowWaterMarks;
use sqlx::PgPool;
use tokio::sync::{Mutex, Semaphore};

use super::{
    names::{
        IN_FLIGHT, NOTED_CANCELS_OLDEST, POOL, POOL_LIMIT, QUEUE_DEPTH, QUEUE_OLDEST, QUEUE_PAUSED, SAGAS,
        SAGAS_WAITING, SAGAS_WAITING_OLDEST, SCRAPE_FAILURES, SIGNALS_KEPT, SIGNALS_KEPT_OLDEST,
    },
    outbox, snapshots,
};
use crate::load::Limits;

const CACHE_TTL: Duration = Duration::from_secs(1);

/// Where the gauges are read from.
pub(crate) struct GaugeSources {
    pub(crate) engine: Engine,
    pub(crate) pool: PgPool,
    pub(crate) low_water_marks: LowWaterMarks,
    /// One permit for each request that may run at a time.
    pub(crate) in_flight: Arc<Semaphore>,
    pub(crate) limits: Limits,
}

/// The gauges of this process, with the time at which they were last read.
pub(crate) struct Gauges {
    sources: GaugeSources,
    read_at: Mutex<Option<Instant>>,
}

impl Gauges {
    pub(crate) fn new(sources: GaugeSources) -> Self {
        Self { sources, read_at: Mutex::new(None) }
    }

    /// Brings all gauges up to date. Those that can't be read now keep their values, and the failure is counted.
    pub(crate) async fn refresh(&self) {
        let mut read_at = self.read_at.lock().await;
        if read_at.is_some_and(|at| at.elapsed() < CACHE_TTL) {
            return;
        }
        *read_at = Some(Instant::now());
        drop(read_at);
        self.sources.record_process();
        // In a task of its own, so that the time-out never drops a query half-way.
        let (engine, pool) = (self.sources.engine.clone(), self.sources.pool.clone());
        let marks = self.sources.low_water_marks.clone();
        let reading = tokio::spawn(async move {
            let views = engine.queues().await?;
            let counts = engine.status_counts().await?;
            let waiting = engine.waiting_counts().await?;
            let signals = engine.kept_signals().await?;
            let noted = engine.oldest_noted_cancel().await?;
            let lag = shop::events::lag(&pool, &marks).await?;
            let oldest = shop::snapshots::oldest(&pool).await?;
            Ok::<_, sqlx::Error>((views, counts, waiting, signals, noted, lag, oldest))
        });
        match tokio::time::timeout(self.sources.limits.health_timeout, reading).await {
            Ok(Ok(Ok((views, counts, waiting, signals, noted, lag, oldest)))) => {
                queues(views);
                sagas(&self.sources.engine, &counts);
                sagas_waiting(&waiting);
                signals_kept(&self.sources.engine, &signals);
                gauge!(NOTED_CANCELS_OLDEST).set(noted.as_secs_f64());
                outbox::record(&lag);
                snapshots::record(&oldest);
            }
            Ok(Ok(Err(error))) => stale(&engine::ErrorChain(&error).to_string()),
            Ok(Err(error)) => stale(&engine::ErrorChain(&error).to_string()),
            Err(_) => stale("no answer in time"),
        }
    }
}

fn stale(reason: &str) {
    counter!(SCRAPE_FAILURES).increment(1);
    tracing::warn!(reason, "the gauges of queues, sagas and events could not be read");
}

impl GaugeSources {
    /// Records what this process knows without asking the database.
    fn record_process(&self) {
        let pool = &self.pool;
        let (size, idle) = (f64::from(pool.size()), figure(pool.num_idle()));
        gauge!(POOL, "state" => "idle").set(idle);
        gauge!(POOL, "state" => "used").set((size - idle).max(0.0));
        gauge!(POOL_LIMIT).set(f64::from(pool.options().get_max_connections()));
        let permits = self.limits.in_flight;
        gauge!(IN_FLIGHT).set(figure(permits - self.in_flight.available_permits().min(permits)));
    }
}

/// Records empty queues too: a gauge that is not set keeps its last value.
fn queues(views: Vec<QueueView>) {
    for view in views {
        let QueueView { name, paused, due, waiting, leased, oldest_due_ms, .. } = view;
        for (state, count) in [("due", due), ("waiting", waiting), ("leased", leased)] {
            gauge!(QUEUE_DEPTH, "queue" => name.clone(), "state" => state).set(figure(count));
        }
        gauge!(QUEUE_OLDEST, "queue" => name.clone()).set(figure(oldest_due_ms) / 1000.0);
        gauge!(QUEUE_PAUSED, "queue" => name).set(if paused { 1.0 } else { 0.0 });
    }
}

fn sagas(engine: &Engine, counts: &[StatusCount]) {
    let mut by_kind = BTreeMap::new();
    for definition in engine.definitions() {
        // Sagas that ended well are counted as they end (`sagaline_sagas_ended_total`), not in the table.
        for status in [Status::Running, Status::Compensating, Status::Dead] {
            by_kind.insert((definition.graph().name.clone(), status.name()), 0);
        }
    }
    for count in counts {
        by_kind.insert((count.definition.clone(), count.status.name()), count.count);
    }
    for ((definition, status), count) in by_kind {
        gauge!(SAGAS, "definition" => definition, "status" => status).set(figure(count));
    }
}

fn sagas_waiting(counts: &[WaitingCount]) {
    for known in ["sleep", "signal", "children", "version", "lock", "child_version"] {
        let found = counts.iter().find(|count| count.waits_for == known);
        gauge!(SAGAS_WAITING, "for" => known).set(figure(found.map_or(0, |count| count.sagas)));
        if ["sleep", "signal", "children"].contains(&known) {
            let oldest = found.and_then(|count| count.oldest).unwrap_or_default();
            gauge!(SAGAS_WAITING_OLDEST, "for" => known).set(oldest.as_secs_f64());
        }
    }
}

/// Records the signals for which registered definitions wait. Others would keep their last values when there are none
/// left.
fn signals_kept(engine: &Engine, kept: &[KeptSignals]) {
    let names: BTreeSet<&str> =
        engine.definitions().flat_map(|definition| definition.graph().signals()).collect();
    for name in names {
        let found = kept.iter().find(|kept| kept.name == name);
        let counts = found.map_or((0, 0), |kept| (kept.buffered, kept.unreadable));
        for (state, count) in [("buffered", counts.0), ("unreadable", counts.1)] {
            gauge!(SIGNALS_KEPT, "signal" => name.to_owned(), "state" => state).set(figure(count));
        }
        let oldest = found.map_or(Duration::ZERO, |kept| kept.oldest);
        gauge!(SIGNALS_KEPT_OLDEST, "signal" => name.to_owned()).set(oldest.as_secs_f64());
    }
}

/// Prometheus keeps 53 bits, which is enough for counts.
fn figure(count: impl TryInto<u32>) -> f64 {
    count.try_into().map_or(f64::from(u32::MAX), f64::from)
}
