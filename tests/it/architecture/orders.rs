//! The order of every crate's folders, as ARCHITECTURE.md draws it.

use super::layers::{Crate, Order};

pub(super) const CRATES: [Crate; 7] = [
    Crate { source: "breakers/src", orders: &[] },
    Crate { source: "devkit/src", orders: &[] },
    Crate {
        source: "engine/src",
        orders: &[
            Order {
                within: "",
                floors: &[
                    &["model"],
                    &["store", "definition", "support"],
                    &["runtime"],
                    &["engine"],
                    &["operate"],
                    &["builder"],
                    &["testing"],
                ],
            },
            Order {
                within: "runtime",
                floors: &[
                    &[
                        "definition_trees",
                        "definitions",
                        "graphs",
                        "settings",
                        "slots",
                        "leases",
                        "quarantine",
                        "waiters",
                        "hints",
                        "nudges",
                        "remote_ends",
                        "savepoints",
                    ],
                    &["job"],
                    &["messages", "queue", "calls"],
                    &["core"],
                    &["lease_updates", "send_signal"],
                    &["effects"],
                    &["step_run"],
                    &["claim", "start", "commit"],
                    &["perform", "tasks"],
                ],
            },
        ],
    },
    Crate {
        source: "workflows/src",
        orders: &[Order {
            within: "",
            floors: &[
                &["support"],
                &["mail", "keys", "events", "inventory", "orders", "notifications", "returns"],
                &["mail_templates"],
                &["sagas"],
                &["commands"],
            ],
        }],
    },
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
    Crate {
        source: "src",
        orders: &[Order {
            within: "",
            floors: &[
                &["config", "terminal", "shutdown", "audit_actor", "http_client", "test_cluster"],
                &["exit_error"],
                &["sessions"],
                &["pool"],
                &["database", "telemetry"],
                &["database_source", "migrate"],
                &["app"],
                &["invariant_checks"],
                &["commands", "bench", "demo"],
                &["cli"],
            ],
        }],
    },
];
