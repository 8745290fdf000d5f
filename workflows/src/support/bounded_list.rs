//! Lists with a time limit.

mod read;

pub use read::ListError;
pub(crate) use read::read;
