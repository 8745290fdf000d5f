//! GET `/health/live`, `/health/ready`, `/health`: they answer also when the database does not, and soon.

pub(crate) mod get;
pub(crate) mod get_live;
pub(crate) mod get_ready;
mod response;
