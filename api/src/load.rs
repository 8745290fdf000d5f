//! What protects a process from more work than it can carry: bounds, the gate before the connection pool, and the
//! stages of a shutdown.

mod limits;
mod pool_gate;
mod shutdown;

pub use limits::Limits;

pub(crate) use pool_gate::PoolGate;
pub(crate) use shutdown::Shutdown;
