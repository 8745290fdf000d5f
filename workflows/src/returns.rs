//! Returns: what customers send back of orders that were shipped, and the rules for it.

mod order_return;
mod read;
mod request;
mod signals;
mod status;
mod status_change;
mod units;
mod write;

pub use order_return::{OrderReturn, ReturnFilter, ReturnLine, ReturnTimelineEntry};
pub(crate) use read::{LockedReturn, completed_units, lock_returns, read, units_of_orders};
pub use read::{get, list};
pub use request::{RETURN_ORDER, ReturnItem, ReturnOrder};
pub use signals::{PARCEL_ARRIVED, Parcel, RETURN_DECIDED, Reason, ReceivedItem, ReturnDecision};
pub use status::ReturnStatus;
pub(crate) use status_change::{ChangedReturn, NewReturnRow, ReturnStatusChange};
pub(crate) use units::{OrderUnits, received_lines, returned_lines};
pub(crate) use write::{change_statuses, insert_returns, set_received};
