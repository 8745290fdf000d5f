//! The shop's sagas, one a file.

pub mod cancel_order;
pub mod deliver_notification;
pub mod place_order;
pub mod return_order;

mod business_keys;
mod dead_job_events;
mod low_stock_alert;
mod settings;
mod start_request;

pub(crate) use business_keys::{ORDER_SHIPPED, RETURN_APPROVED, SENT};
pub use business_keys::{RESERVED_PREFIXES, reserved_key};
pub use dead_job_events::DeadJobEvents;
pub(crate) use low_stock_alert::low_stock_alerts;
pub use settings::{QUEUES, Settings, definitions, earlier_definitions};
pub(crate) use start_request::{Subject, set_actor};
