//! The state of queues in this process: feeds, pauses, throttles and orphans.

pub(crate) mod feeds;
pub(crate) mod orphans;
pub(crate) mod pauses;
pub(crate) mod throttle;
