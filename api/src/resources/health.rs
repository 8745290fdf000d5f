//! Health checks, which answer soon and without the database too.

pub(crate) mod get;
pub(crate) mod get_live;
pub(crate) mod get_ready;
mod response;
