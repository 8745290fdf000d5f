//! The one integration binary: one link, one server, every test a module under `it/`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

mod it {
    mod api;
    mod architecture;
    mod cli;
    mod embedded;
    mod engine;
    mod faults;
    mod fixtures;
    mod mailcatcher;
    mod shop;
    mod workers;
}
