//! Restarts a task of the engine after a panic.

use std::{future::Future, panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt;
use tokio_util::sync::CancellationToken;

use crate::support::metrics::PANICKED;

/// Runs a task to its end; restarts it after a panic.
pub(crate) async fn supervised<F: Future<Output = ()>>(
    name: &str,
    stop: &CancellationToken,
    task: impl Fn() -> F,
) {
    let panicked = metrics::counter!(PANICKED, "task" => name.to_owned());
    // A counter that first appears with the value one shows no increase, so it starts at zero.
    panicked.absolute(0);
    while AssertUnwindSafe(task()).catch_unwind().await.is_err() {
        panicked.increment(1);
        tracing::error!(task = name, "a task of the engine panicked; restarting it");
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(COOLDOWN) => {}
        }
    }
}

/// The pause before a task is restarted after a panic.
const COOLDOWN: Duration = Duration::from_secs(1);
