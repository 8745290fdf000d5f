//! Fixtures of the tests: real servers, real processes, and a database for each test.

mod database;
mod mail;
mod process;
mod state;
mod wait;

pub(crate) use database::{Database, as_owner};
pub(crate) use devkit::{rabbitmq::RabbitServer, redis::RedisServer};
pub(crate) use mail::a_mail;
pub(crate) use process::Process;
pub(crate) use state::TempState;
pub(crate) use wait::WAIT_TIMEOUT;
