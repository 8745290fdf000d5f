//! Servers, mail and databases for development, demonstrations and tests.
//!
//! The product uses it for `sagaline dev`, `demo` and `bench`; the tests of every crate may use it as well. It knows none of
//! the other crates, so that each of them can depend on it in its tests.

pub mod cpu_time;
pub mod mail_catcher;
pub mod postgres;
pub mod rabbitmq;
pub mod redis;
pub mod temp_database;
pub mod test_databases;

mod port;
