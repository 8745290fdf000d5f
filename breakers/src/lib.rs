//! Circuit breakers around what the system calls outside of itself: after some failures in a row nothing is tried for a
//! while, then single calls try whether it works again.
//!
//! A process has one [`Breakers`], which knows each dependency's settings and gives the [`Breaker`] of a dependency to
//! whoever calls it. The crate knows nothing of ours, so that every crate which calls out can use it.
//!
//! ```
//! use breakers::{Breakers, BreakerSettings, Dependency};
//!
//! let breakers = Breakers::new(|_| BreakerSettings { failures: 1, ..BreakerSettings::default() });
//! let smtp = breakers.of(Dependency::Smtp);
//! smtp.try_acquire()?.failed();
//! let held_back = smtp.try_acquire().unwrap_err();
//! assert!(held_back.retry_delay() <= held_back.open_duration * 2, "ask again then; no attempt was made");
//! # Ok::<(), breakers::BreakerOpen>(())
//! ```

mod breaker;
mod dependency;
mod machine;
mod registry;
mod settings;
mod view;

pub use breaker::{Breaker, BreakerOpen, CallPermit};
pub use dependency::Dependency;
pub use registry::Breakers;
pub use settings::BreakerSettings;
pub use view::{BreakerState, BreakerView, Permission};

use metrics::Unit;

/// Tells the recorder what the metrics mean; once, after it was installed.
pub fn describe_metrics() {
    metrics::describe_gauge!(
        "sagaline_breaker_state",
        "A dependency's circuit breaker in this process: 0 closed, 1 half open, 2 open"
    );
    metrics::describe_counter!(
        "sagaline_breaker_transitions_total",
        Unit::Count,
        "How often a dependency's circuit breaker went to a state"
    );
    metrics::describe_counter!(
        "sagaline_breaker_rejected_total",
        Unit::Count,
        "Calls that an open circuit breaker held back, by dependency"
    );
}
