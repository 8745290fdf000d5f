//! What this process knows of queues: throttles and orphans.

pub(crate) mod feeds;
pub(crate) mod orphans;
pub(crate) mod pauses;
pub(crate) mod throttle;
