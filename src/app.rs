//! Wires the parts of one process: engine and shop, workers, API.

mod access;
mod events;
mod housekeeping;
mod listen;
mod mail;
mod parts;
mod pool_watch;
mod process;

pub(crate) use access::require_a_key;
pub(crate) use listen::{Bound, Listening, bind, listen_for_worker};
pub(crate) use mail::MailTarget;
pub(crate) use parts::{QUEUES, serve, shop, shop_with_fail_point, work};
pub(crate) use process::ThisProcess;
