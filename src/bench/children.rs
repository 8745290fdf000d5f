//! Sagas with a child for each of many items: each call starts one and waits until all of its children have ended. The
//! children are the sagas of `bench steps`.

use std::time::Duration;

use anyhow::{bail, ensure};
use engine::{EachEnded, Engine, Saga, SagaName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use workers::{QueueOptions, Workers};

use super::{
    arguments::ChildrenArguments,
    database::BenchDatabase,
    load::{self, Load},
    steps::{Nothing, THREE_STEPS, three_steps},
};
use crate::{
    config::Config,
    pool::{self, PoolUse},
};

/// Longer than any saga takes with any number of callers.
const SAGA_TIMEOUT: Duration = Duration::from_mins(10);
const EACH: SagaName<Items, EachEnded> = SagaName::new("bench-children");

#[derive(Serialize, Deserialize, JsonSchema)]
struct Items {
    count: u32,
}

/// Runs parents and children through the same workers, in this process.
///
/// # Errors
/// When the engine or its workers can't be started or stopped.
pub(super) async fn run(
    config: &Config,
    arguments: &ChildrenArguments,
    database: &BenchDatabase,
) -> anyhow::Result<Load> {
    let options = pool::connect_options(database.url(), PoolUse::Workers)?;
    let pool = pool::open(options, PoolUse::Workers, config.database.pool_size);
    let items = |items: &Items| (0..items.count).map(|_| Nothing {}).collect();
    let parent = Saga::named(EACH)
        .for_each("each", THREE_STEPS.each(items).at_most(arguments.at_most))
        .returns_output()
        .build()?;
    let engine = Engine::builder(pool.clone()).register(parent).register(three_steps()?);
    let engine = engine.lease(config.workers.lease).build()?;
    let stop = CancellationToken::new();
    let workers = Workers::builder(engine.clone())
        .queue(QueueOptions {
            concurrency: config.workers.default_concurrency,
            ..QueueOptions::named("default")
        })
        .shutdown_deadline(config.workers.shutdown_deadline)
        .build()?;
    let working = tokio::spawn(workers.run(stop.clone()));

    let (caller, count) = (engine.clone(), arguments.children);
    let load = load::run(&arguments.arguments, move || {
        let engine = caller.clone();
        async move { one(&engine, count).await }
    })
    .await;

    stop.cancel();
    working.await??;
    engine.shutdown().await;
    pool.close().await;
    let mut load = load?;
    load.sagas_per_call = arguments.children;
    Ok(load)
}

async fn one(engine: &Engine, count: u32) -> anyhow::Result<()> {
    let (started, ending) = engine.start_and_wait(EACH.with(&Items { count }), SAGA_TIMEOUT).await?;
    let Some(ending) = ending else {
        bail!("saga {} has not ended within {} s", started.saga_id, SAGA_TIMEOUT.as_secs());
    };
    let ended = EACH.result(&ending)?;
    ensure!(
        ended == Some(EachEnded { total: count, completed: count, failed: 0 }),
        "saga {} ended as {}: {ended:?}",
        started.saga_id,
        ending.status
    );
    Ok(())
}
