//! One engine with its workers, as one run of a process.

use std::{collections::BTreeSet, sync::Arc};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    builder::EngineBuilder,
    engine::Engine,
    model::error::BuildError,
    testing::{cases::CaseFaults, hooks::with_faults},
};

/// One engine with its workers, as one run of a process.
pub(super) struct EngineRun {
    pub(super) engine: Engine,
    workers: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

impl EngineRun {
    pub(super) fn open(builder: EngineBuilder, case_faults: &Arc<CaseFaults>) -> Result<Self, BuildError> {
        let engine = with_faults(builder, case_faults.clone()).build()?;
        let queues: BTreeSet<String> =
            engine.definitions().map(|definition| definition.graph().queue.clone()).collect();
        let stop = CancellationToken::new();
        let workers = queues.iter().map(|queue| {
            let (engine, mut feed, stop) = (engine.clone(), engine.feed(queue, 64), stop.clone());
            tokio::spawn(async move { engine.run(&mut feed, stop).await })
        });
        Ok(Self { workers: workers.collect(), engine: engine.clone(), stop })
    }

    pub(super) async fn close(self) {
        self.stop.cancel();
        if self.engine.core.faults.is_crashed() {
            // A crashed process does not finish its jobs.
            self.workers.iter().for_each(JoinHandle::abort);
        }
        for worker in self.workers {
            // Aborted or done: in both cases the worker has ended.
            let _ = worker.await;
        }
        self.engine.shutdown().await;
    }
}
