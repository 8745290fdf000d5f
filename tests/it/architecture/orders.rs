//! The order of every crate's folders, as ARCHITECTURE.md draws it.

use super::layers::{Crate, Order};

pub(super) const CRATES: [Crate; 3] = [
    Crate { source: "breakers/src", orders: &[] },
    Crate { source: "workers/src", orders: &[] },
    Crate {
        source: "api/src",
        orders: &[Order {
            within: "",
            floors: &[
                &["http"],
                &["load"],
                &["metrics", "idempotency", "health", "event_stream", "auth"],
                &["state", "serve"],
                &["extract", "middleware"],
                &["resources"],
                &["routes"],
            ],
        }],
    },
];
