//! Wires the engine, the shop, the workers and the API in one process.
//!
//! A command starts a [`ProcessContext`], builds the shop with it, and then runs [`serve`], [`work`] or both.

mod access;
mod breaker_reports;
mod context;
mod engine;
mod events;
#[cfg(feature = "testing")]
mod fail_point;
mod housekeeping;
mod listen;
mod mail;
mod pool_watch;
mod serve;
mod work;

pub(crate) use access::require_api_key;
pub(crate) use context::ProcessContext;
pub(crate) use engine::build_shop;
pub(crate) use listen::{Bound, Listening, bind, listen_for_worker};
pub(crate) use mail::MailTarget;
pub(crate) use serve::serve;
pub(crate) use work::work;
