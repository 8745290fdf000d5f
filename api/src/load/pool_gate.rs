//! Refuses requests while no database connection is available, instead of letting each wait to find out.
//!
//! While connections are idle the gate costs two atomic reads. When none is idle, one probe at a time asks the pool for
//! a connection. Requests wait for the first probe, for a short time; if it gets no connection in that time, later
//! requests are refused at once until a probe succeeds.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::PgPool;
use tokio::sync::watch;

use crate::http::Problem;

/// How long one acquired connection counts as proof that others are available.
const PROOF_TTL: Duration = Duration::from_millis(250);

/// The gate before everything that needs a database connection. Clones share their state.
#[derive(Clone, Debug)]
pub(crate) struct PoolGate {
    shared: Arc<Shared>,
    timeout: Duration,
}

#[derive(Debug)]
struct Shared {
    pool: PgPool,
    began: Instant,
    /// When a connection was last known to be available, in milliseconds since `began`, plus one; zero for never.
    last_good_ms: AtomicU64,
    probing: AtomicBool,
    exhausted: AtomicBool,
    good: watch::Sender<u64>,
}

impl PoolGate {
    pub(crate) fn new(pool: PgPool, timeout: Duration) -> Self {
        let shared = Shared {
            pool,
            began: Instant::now(),
            last_good_ms: AtomicU64::new(0),
            probing: AtomicBool::new(false),
            exhausted: AtomicBool::new(false),
            good: watch::Sender::new(0),
        };
        Self { shared: Arc::new(shared), timeout }
    }

    /// Lets a request through if a connection is available soon.
    ///
    /// # Errors
    /// A 503 when none is.
    pub(crate) async fn pass(&self) -> Result<(), Problem> {
        if self.shared.pool.num_idle() > 0 {
            self.shared.note_good();
            return Ok(());
        }
        if self.shared.is_fresh() {
            return Ok(());
        }
        let mut good = self.shared.good.subscribe();
        self.probe();
        if self.shared.exhausted.load(Ordering::Relaxed) {
            return Err(exhausted());
        }
        if let Ok(Ok(())) = tokio::time::timeout(self.timeout, good.changed()).await {
            return Ok(());
        }
        self.shared.exhausted.store(true, Ordering::Relaxed);
        Err(exhausted())
    }

    /// Whether requests are being refused now.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.shared.exhausted.load(Ordering::Relaxed)
    }

    /// Starts a probe unless one is running. A probe is never dropped half-way, because sqlx would lose the
    /// connection's permit; the pool's own time-out ends it.
    fn probe(&self) {
        if self.shared.probing.swap(true, Ordering::AcqRel) {
            return;
        }
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let answer = shared.pool.acquire().await;
            let succeeded = answer.is_ok();
            drop(answer);
            if succeeded {
                shared.note_good();
            }
            shared.probing.store(false, Ordering::Release);
        });
    }
}

impl Shared {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    fn note_good(&self) {
        let now = self.now_ms();
        if self.last_good_ms.swap(now, Ordering::Relaxed) != now || self.exhausted.load(Ordering::Relaxed) {
            self.exhausted.store(false, Ordering::Relaxed);
            self.good.send_replace(now);
        }
    }

    fn is_fresh(&self) -> bool {
        let last = self.last_good_ms.load(Ordering::Relaxed);
        last != 0 && u128::from(self.now_ms() - last.min(self.now_ms())) < PROOF_TTL.as_millis()
    }
}

fn exhausted() -> Problem {
    Problem::unavailable(
        "no database connection is available: the pool is exhausted or the database can't be reached",
    )
}
