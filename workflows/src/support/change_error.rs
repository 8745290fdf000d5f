//! Why a change of an order, a product or a queue was not made.

use super::violation::Violation;

/// A change was not made; `E` is the reason that only this kind of change has.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError<E: std::error::Error + 'static> {
    /// The order, the product or the queue does not exist.
    #[error("it does not exist")]
    NotFound,
    /// It does not have the version that the caller expected.
    #[error("its version is {current} by now")]
    VersionMismatch {
        /// The version that the resource has now.
        current: i64,
    },
    /// The request is invalid.
    #[error("the request is invalid")]
    Invalid(Vec<Violation>),
    /// It can't be changed in this way.
    #[error(transparent)]
    Refused(E),
    /// The database refused the change or can't be reached.
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
}
