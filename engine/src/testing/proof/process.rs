//! One engine with its workers, as one run of a process.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, future::join_all};
use tokio::{
    sync::{Mutex, MutexGuard},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    builder::EngineBuilder,
    engine::Engine,
    model::error::BuildError,
    runtime::{claim::feed::Feed, job::Job},
    testing::{hooks::with_faults, proof::case_faults::CaseFaults},
};

/// How long a worker waits for the next job of a batch that is not whole.
const GATHERING: Duration = Duration::from_millis(15);
const CAPACITY: usize = 256;

/// One engine with a worker for each queue. The workers do the sagas of a case together, so that they are in one batch.
pub(super) struct Process {
    pub(super) engine: Engine,
    workers: Vec<JoinHandle<()>>,
    stop: CancellationToken,
    together: Arc<Together>,
}

/// How many sagas are to be done together, and whether they may.
#[derive(Debug, Default)]
struct Together {
    sagas: AtomicUsize,
    may_work: Mutex<()>,
}

impl Process {
    pub(super) fn open(builder: EngineBuilder, case_faults: &Arc<CaseFaults>) -> Result<Self, BuildError> {
        let engine = with_faults(builder, case_faults.clone()).build()?;
        let queues: BTreeSet<String> =
            engine.definitions().map(|definition| definition.graph().queue.clone()).collect();
        let (stop, together) = (CancellationToken::new(), Arc::new(Together::default()));
        together.sagas.store(case_faults.sagas.len(), Ordering::Release);
        let workers = queues.iter().map(|queue| {
            let (engine, feed) = (engine.clone(), engine.feed(queue, CAPACITY));
            tokio::spawn(work(engine, feed, together.clone(), stop.clone()))
        });
        Ok(Self { workers: workers.collect(), engine: engine.clone(), stop, together })
    }

    /// Says how many sagas are still in progress.
    pub(super) fn expect(&self, sagas: usize) {
        self.together.sagas.store(sagas, Ordering::Release);
    }

    /// Keeps the workers from beginning a batch, so that all that is done to sagas meanwhile is in the next one.
    pub(super) async fn pause(&self) -> MutexGuard<'_, ()> {
        self.together.may_work.lock().await
    }

    pub(super) fn has_crashed(&self) -> bool {
        self.engine.core.faults.is_crashed()
    }

    pub(super) async fn close(self) {
        self.stop.cancel();
        if self.has_crashed() {
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

/// Works on a feed until the process stops: gathers a batch, performs all of it, commits all of it.
async fn work(engine: Engine, mut feed: Feed, together: Arc<Together>, stop: CancellationToken) {
    loop {
        let first = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            job = feed.recv() => job,
        };
        let Some(first) = first else { break };
        drop(together.may_work.lock().await);
        let jobs = gather(&mut feed, first, &together).await;
        let performed = join_all(jobs.iter().map(|job| engine.perform(job))).await;
        let commits = jobs.into_iter().zip(performed).map(|(job, performed)| engine.commit(job, performed));
        join_all(commits).await;
    }
    feed.close();
    feed.closed().await;
}

async fn gather(feed: &mut Feed, first: Job, together: &Together) -> Vec<Job> {
    let mut jobs = vec![first];
    while jobs.len() < together.sagas.load(Ordering::Acquire) {
        match tokio::time::timeout(GATHERING, feed.recv()).await {
            Ok(Some(job)) => jobs.push(job),
            Ok(None) | Err(_) => break,
        }
    }
    // Those that are there already, such as many children.
    while let Some(Some(job)) = feed.recv().now_or_never() {
        jobs.push(job);
    }
    jobs
}
