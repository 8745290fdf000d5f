//! One queue of a process: an apalis worker over the engine's claimed jobs.

mod backend;
mod commit;
mod monitor;
mod options;
mod perform;
mod worked_queue;

pub use self::{
    backend::EngineBackend,
    commit::{CommitLayer, CommitService},
    options::QueueOptions,
};
pub(crate) use self::{
    monitor::run,
    worked_queue::{WorkedQueue, worker_name},
};
