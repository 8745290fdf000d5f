//! The one integration test binary: one link, one server, and every test a module under `it/`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

mod it {
    mod api;
    mod architecture;
    mod cli;
    mod dev_cli;
    mod embedded;
    mod engine_package;
    mod events;
    mod faults;
    mod fixtures;
    mod keys_cli;
    mod mail_tls;
    mod mailcatcher;
    mod observability;
    mod redis_rate_limiter;
    mod shop;
    mod unusable_databases;
    mod workers;
}
