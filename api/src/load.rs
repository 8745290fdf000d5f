//! Protects a process from overload: limits, the semaphore before the connection pool, and the stages of a shutdown.

mod limits;
mod pool_gate;
mod shutdown;

pub use limits::Limits;

pub(crate) use pool_gate::PoolGate;
pub(crate) use shutdown::Shutdown;
