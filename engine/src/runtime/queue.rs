//! The state of queues in this process: feeds, pauses, throttles, and how far claims look back.

pub(crate) mod feeds;
pub(crate) mod pauses;
pub(crate) mod scan_window;
pub(crate) mod throttle;
