//! Sagas that wait for a signal: each call sends one and waits until its saga has ended.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use engine::{
    Batch, Definition, Engine, NothingToUndo, Outcome, Outcomes, Saga, SagaId, SagaName, SignalName,
    Signalled, Status, StepError, TransactionStep, Tx,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use workers::{QueueOptions, Workers};

use super::{
    arguments::{Sender, SignalsArguments},
    database::BenchDatabase,
    load::{self, Load},
};
use crate::{
    config::Config,
    pool::{self, PoolUse},
    terminal,
};

/// Longer than any saga takes with any number of callers.
const SAGA_TIMEOUT: Duration = Duration::from_mins(1);
/// Longer than the measurement.
const WAIT: Duration = Duration::from_hours(72);
/// How many sagas one transaction starts.
const STARTED_AT_ONCE: usize = 1000;
/// More than what the fastest machine signals in a second.
const PER_SECOND: u64 = 6000;
const WAITS: SagaName<Nothing> = SagaName::new("bench-waits");
const GO: SignalName<Nothing> = SignalName::new("go");

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
struct Nothing {}

/// A step that is recorded like any other and does nothing.
struct Go;

impl TransactionStep for Go {
    const NAME: &'static str = "go";
    type Input = Signalled<Nothing>;
    type Output = bool;
    type Undo = NothingToUndo;

    async fn run(
        &self,
        _: &mut Tx<'_>,
        batch: &Batch<Signalled<Nothing>>,
    ) -> Result<Outcomes<bool>, StepError> {
        Ok(batch.decide(|item| Outcome::Done(matches!(item.input, Signalled::Received(_)))))
    }
}

fn waits() -> Result<Definition, engine::GraphError> {
    Saga::named(WAITS).signal("await-go", GO.within(WAIT)).then(Go).build()
}

/// Starts enough sagas, waits until all of them wait, and then measures the signals.
///
/// # Errors
/// When the engine or its workers can't be started or stopped.
pub(super) async fn run(
    config: &Config,
    arguments: &SignalsArguments,
    database: &BenchDatabase,
) -> anyhow::Result<Load> {
    let open = || -> anyhow::Result<PgPool> {
        let options = pool::connect_options(database.url(), PoolUse::Workers)?;
        Ok(pool::open(options, PoolUse::Workers, config.database.pool_size))
    };
    let build = |pool: &PgPool| -> anyhow::Result<Engine> {
        Ok(Engine::builder(pool.clone()).register(waits()?).lease(config.workers.lease).build()?)
    };
    let pool = open()?;
    let engine = build(&pool)?;
    let stop = CancellationToken::new();
    let workers = Workers::builder(engine.clone())
        .queue(QueueOptions {
            concurrency: config.workers.default_concurrency,
            ..QueueOptions::named("default")
        })
        .shutdown_deadline(config.workers.shutdown_deadline)
        .build()?;
    let working = tokio::spawn(workers.run(stop.clone()));

    let measured = &arguments.arguments;
    let count = usize::try_from(PER_SECOND * (measured.seconds + measured.warm_up))?;
    let sagas = Arc::new(prepare(&engine, &pool, count).await?);
    // A process that does not work on the queue has a pool and a connection for hints of its own.
    let other_pool = open()?;
    let sender = match arguments.sender {
        Sender::Worker => engine.clone(),
        Sender::Other => build(&other_pool)?,
    };
    let next = Arc::new(AtomicUsize::new(0));
    let caller = sender.clone();
    let load = load::run(measured, move || {
        let (engine, sagas, next) = (caller.clone(), sagas.clone(), next.clone());
        async move {
            let saga_id =
                sagas.get(next.fetch_add(1, Ordering::Relaxed)).context("all sagas are signalled")?;
            one(&engine, *saga_id).await
        }
    })
    .await;

    if arguments.sender == Sender::Other {
        sender.shutdown().await;
    }
    stop.cancel();
    working.await??;
    engine.shutdown().await;
    other_pool.close().await;
    pool.close().await;
    load
}

/// Starts sagas, and waits until all of them wait for their signal.
async fn prepare(engine: &Engine, pool: &PgPool, count: usize) -> anyhow::Result<Vec<SagaId>> {
    terminal::eprint(format_args!("starting {count} sagas that wait for a signal"));
    let mut sagas = Vec::with_capacity(count);
    while sagas.len() < count {
        let new = (sagas.len()..count).take(STARTED_AT_ONCE).map(|_| WAITS.with(&Nothing {})).collect();
        let mut transaction = pool.begin().await?;
        for started in engine.start_in(&mut transaction, new).await? {
            sagas.push(started?.saga_id);
        }
        transaction.commit().await?;
    }
    loop {
        let counts = engine.waiting_counts().await?;
        let waiting = counts.iter().find(|count| count.waits_for == "signal").map_or(0, |count| count.sagas);
        if usize::try_from(waiting)? >= count {
            return Ok(sagas);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn one(engine: &Engine, saga_id: SagaId) -> anyhow::Result<()> {
    engine.signal(saga_id, GO.with(&Nothing {})).await?;
    let Some(ending) = engine.wait(saga_id, SAGA_TIMEOUT).await? else {
        bail!("saga {saga_id} has not ended within {} s", SAGA_TIMEOUT.as_secs());
    };
    ensure!(ending.status == Status::Completed, "saga {saga_id} ended as {}", ending.status);
    Ok(())
}
