//! What whoever runs it sees: metrics, logs, traces, health, and that the papers beside the code are true.

mod coverage;
mod deploy;
mod fleet;
mod logs;
mod metrics;
mod papers;
mod restarts;
mod traces;
