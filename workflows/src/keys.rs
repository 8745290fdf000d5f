//! API keys: who may call, as what.

mod role;

pub use role::KeyRole;
