//! The engine's integration tests: one binary, a real database for each test.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

mod it {
    mod batches;
    mod blocked_starts;
    mod call_errors;
    mod children;
    mod choices;
    mod claims;
    mod dead_job_requests;
    mod dead_jobs;
    mod discards;
    mod expiry;
    mod fixtures;
    mod graphs;
    mod group_commit;
    mod hints;
    mod history_runs;
    mod locked_rows;
    mod long_calls;
    mod migrations;
    mod newer_versions;
    mod noes;
    mod noted_cancels;
    mod oracle;
    mod outages;
    mod payloads;
    mod pinned_runs;
    mod postponements;
    mod proofs;
    mod quarantine;
    mod queues;
    mod results;
    mod retention;
    mod retention_of_audits;
    mod retention_of_keys;
    mod scans;
    mod shared_crates;
    mod sqlstates;
    mod start_batches;
    mod starts;
    mod step_failures;
    mod throttles;
    mod unstorable_outcomes;
    mod waits;
}
