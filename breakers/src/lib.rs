//! Circuit breakers for calls to external services.
//!
//! After some consecutive failures a breaker opens: for a while no call is made. Then it is half open and admits one
//! probe at a time, until enough of them have succeeded to close it again.
//!
//! A process has one [`Breakers`], which holds the settings of each dependency and hands out its [`Breaker`]. The crate
//! depends on no other crate of this project, so that each of them can use it.
//!
//! ```
//! use breakers::{Breakers, BreakerSettings, Dependency};
//!
//! let breakers = Breakers::new(|_| BreakerSettings { failures: 1, ..BreakerSettings::default() });
//! let smtp = breakers.of(Dependency::Smtp);
//! smtp.try_acquire()?.failed();
//! let open = smtp.try_acquire().unwrap_err();
//! assert!(open.retry_delay() <= open.open_duration * 2, "ask again then; no attempt was made");
//! # Ok::<(), breakers::BreakerOpen>(())
//! ```

mod breaker;
mod dependency;
mod machine;
mod metrics;
mod registry;
mod settings;
mod view;

pub use self::{
    breaker::{Breaker, BreakerOpen, CallPermit},
    dependency::Dependency,
    metrics::describe_metrics,
    registry::Breakers,
    settings::BreakerSettings,
    view::{BreakerState, BreakerView, Permission},
};
