//! Lists that are bounded in time.

mod read;

pub use read::ListError;
pub(crate) use read::read;
