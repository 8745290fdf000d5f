//! What this process knows of queues: throttles and orphans.

pub(crate) mod orphans;
pub(crate) mod throttle;
