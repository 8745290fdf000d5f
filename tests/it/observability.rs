//! What an operator sees: metrics, logs, traces, health, and that the documents beside the code match it.

mod coverage;
mod deploy;
mod deployment;
mod docs_match_metrics;
mod logs;
mod metrics;
mod restarts;
mod traces;
