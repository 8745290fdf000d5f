//! Servers, mail and databases for development, demonstrations and tests.
//!
//! The product uses this crate for `sagaline dev`, `demo` and `bench`; the tests of every crate may use it as well. It
//! depends on none of the other crates, so that each of them can use it in its tests.

pub mod cpu_time;
pub mod mail_catcher;
pub mod pgbouncer;
pub mod postgres;
pub mod rabbitmq;
pub mod redis;
pub mod temp_database;
pub mod test_databases;

mod child;
mod port;
