//! Who may do what: every route declares the role that it needs, and what has declared nothing is not served.

mod need;
mod table;

pub(crate) use need::Need;
pub(crate) use table::{Needs, RouteTable};
