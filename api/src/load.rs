//! Protects a process from overload: limits, the bytes of bodies in memory, the gate before the connection pool, and the
//! stages of a shutdown.

mod byte_budget;
mod limits;
mod pool_gate;
mod shutdown;

pub use limits::Limits;

pub(crate) use byte_budget::{ByteBudget, HeldBytes};
pub(crate) use pool_gate::PoolGate;
pub(crate) use shutdown::Shutdown;
