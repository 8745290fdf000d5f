//! Runs user code under a time-out and catches its panics.

use std::{any::Any, fmt, future::Future, panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt;

/// Why user code returned no result.
#[derive(Debug)]
pub(crate) enum UserCodeFailure {
    TimedOut(Duration),
    Panicked(String),
}

impl fmt::Display for UserCodeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut(limit) => write!(f, "gave no answer within {} ms", limit.as_millis()),
            Self::Panicked(message) => write!(f, "panicked: {message}"),
        }
    }
}

/// Awaits `future` for at most `limit`, and catches its panics.
pub(crate) async fn run_user_code<T>(
    limit: Duration,
    future: impl Future<Output = T>,
) -> Result<T, UserCodeFailure> {
    // A panic may leave only the transaction half-changed, and that is rolled back.
    match tokio::time::timeout(limit, AssertUnwindSafe(future).catch_unwind()).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(panic)) => Err(UserCodeFailure::Panicked(message(panic.as_ref()))),
        Err(_) => Err(UserCodeFailure::TimedOut(limit)),
    }
}

/// Runs code that awaits nothing, and catches its panics.
pub(crate) fn catch_panic<T>(code: impl FnOnce() -> T) -> Result<T, UserCodeFailure> {
    std::panic::catch_unwind(AssertUnwindSafe(code))
        .map_err(|panic| UserCodeFailure::Panicked(message(panic.as_ref())))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".into())
}
