//! Infrastructure of the engine: connections, guarded user code, supervised tasks, metrics, jitter.

pub(crate) mod bounded_list;
pub(crate) mod connection;
#[cfg(feature = "testing")]
pub(crate) mod faults;
pub(crate) mod jitter;
pub(crate) mod metrics;
#[cfg(not(feature = "testing"))]
pub(crate) mod no_faults;
pub(crate) mod page;
pub(crate) mod parts;
pub(crate) mod supervise;
pub(crate) mod trace_propagator;
pub(crate) mod user_code;
pub(crate) mod writable_sessions;

#[cfg(not(feature = "testing"))]
pub(crate) use no_faults as faults;
