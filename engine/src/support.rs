//! What the engine needs around sagas: connections, guarded user code, metrics, jitter.

pub(crate) mod connection;
pub(crate) mod faults;
pub(crate) mod jitter;
pub(crate) mod metrics;
pub(crate) mod supervise;
pub(crate) mod trace_link;
pub(crate) mod user_code;
