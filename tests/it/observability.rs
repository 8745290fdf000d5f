//! Metrics, logs, traces and health, and the documents that must match the code.

mod coverage;
mod deploy;
mod deployment;
mod docs_match_metrics;
mod logs;
mod metrics;
mod restarts;
mod traces;
