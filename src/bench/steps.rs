//! The engine alone: start, three recorded steps that do nothing, end.

use std::time::Duration;

use anyhow::{bail, ensure};
use engine::{
    Batch, Definition, Engine, GraphError, NothingToUndo, Outcome, Outcomes, Saga, SagaName, Status,
    StepError, TransactionStep, Tx,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use workers::{QueueOptions, Workers};

use super::{
    arguments::StepsArguments,
    database::BenchDatabase,
    load::{self, Load},
};
use crate::{
    config::Config,
    pool::{self, PoolUse},
};

/// Longer than any saga takes with any number of callers.
const SAGA_TIMEOUT: Duration = Duration::from_mins(1);
/// Revisions below it are of earlier graphs.
const NEWEST: u32 = 100;
pub(super) const THREE_STEPS: SagaName<Nothing> = SagaName::new("bench-three-steps");
const NAMES: [&str; 3] = ["first", "second", "third"];

#[derive(Serialize, Deserialize, JsonSchema)]
pub(super) struct Nothing {}

/// A step that is recorded like any other and does nothing.
struct Noop<const NUMBER: usize>;

impl<const NUMBER: usize> TransactionStep for Noop<NUMBER> {
    const NAME: &'static str = NAMES[NUMBER];
    type Input = Nothing;
    type Output = usize;
    type Undo = NothingToUndo;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Nothing>) -> Result<Outcomes<usize>, StepError> {
        Ok(batch.decide(|_| Outcome::Done(NUMBER)))
    }
}

pub(super) fn three_steps() -> Result<Definition, GraphError> {
    three_steps_of(NEWEST)
}

/// The graph of one revision: its hash differs, and nothing else.
fn three_steps_of(revision: u32) -> Result<Definition, GraphError> {
    Saga::named(THREE_STEPS).revision(revision).then(Noop::<0>).then(Noop::<1>).then(Noop::<2>).build()
}

/// Runs sagas through the same workers as `sagaline work`, in this process.
///
/// # Errors
/// When the engine or its workers can't be started or stopped.
pub(super) async fn run(
    config: &Config,
    StepsArguments { arguments, graphs }: &StepsArguments,
    database: &BenchDatabase,
) -> anyhow::Result<Load> {
    let options = pool::connect_options(database.url(), PoolUse::Workers)?;
    let pool = pool::open(options, PoolUse::Workers, config.database.pool_size);
    let mut builder = Engine::builder(pool.clone()).register(three_steps()?).lease(config.workers.lease);
    for earlier in 1..*graphs {
        builder = builder.also(three_steps_of(NEWEST - earlier)?);
    }
    let engine = builder.build()?;

    let stop = CancellationToken::new();
    let workers = Workers::builder(engine.clone())
        .queue(QueueOptions {
            concurrency: config.workers.default_concurrency,
            ..QueueOptions::named("default")
        })
        .shutdown_deadline(config.workers.shutdown_deadline)
        .build()?;
    let working = tokio::spawn(workers.run(stop.clone()));

    let caller = engine.clone();
    let load = load::run(arguments, move || {
        let engine = caller.clone();
        async move { one(&engine).await }
    })
    .await;

    stop.cancel();
    working.await??;
    engine.shutdown().await;
    pool.close().await;
    load
}

async fn one(engine: &Engine) -> anyhow::Result<()> {
    let (started, ending) = engine.start_and_wait(THREE_STEPS.with(&Nothing {}), SAGA_TIMEOUT).await?;
    let Some(ending) = ending else {
        bail!("saga {} has not ended within {} s", started.saga_id, SAGA_TIMEOUT.as_secs());
    };
    ensure!(ending.status == Status::Completed, "saga {} ended as {}", started.saga_id, ending.status);
    Ok(())
}
