//! Sends hints to other processes after the commits of this one.

use std::sync::Arc;

use crate::runtime::core::Core;

/// Sends hints until the engine shuts down. At most one statement is in flight, and no clock is involved: what arrives
/// during one is sent by the next.
pub(crate) async fn run(core: Arc<Core>) {
    loop {
        // First, because a run that panicked may have left some.
        if !core.faults.is_crashed() {
            core.hints.flush(&core.pool, core.settings.db_timeout()).await;
        }
        tokio::select! {
            () = core.stop.cancelled() => return,
            () = core.hints.wakeup.notified() => {}
        }
    }
}
