//! Reports the state of this process's circuit breakers to the database, so that every API process can show it.

use std::time::Duration;

use shop::{Shop, breaker_reports};
use tokio_util::sync::CancellationToken;

use super::context::ProcessContext;

/// How often a process reports its breakers when none changes.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// How long one report may take.
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// The shortest time between two reports, however often breakers change.
const COOLDOWN: Duration = Duration::from_millis(200);
/// The time between a failed report and the next one.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Reports the breakers at every change and at intervals until `quit`, then withdraws the report.
pub(crate) async fn report_breakers(process: &ProcessContext, shop: &Shop, quit: CancellationToken) {
    let reporter = breaker_reports::Process { id: shop.engine().worker().0, name: process.name };
    loop {
        let views = process.breakers.views();
        let report = breaker_reports::report(shop.pool(), reporter, &views);
        let (cooldown, interval) = match tokio::time::timeout(REPORT_TIMEOUT, report).await {
            Ok(Ok(())) => (COOLDOWN, REPORT_INTERVAL),
            Ok(Err(error)) => {
                tracing::debug!(error = %engine::ErrorChain(&error), "the circuit breakers can't be reported now; trying again");
                (RETRY_DELAY, Duration::ZERO)
            }
            Err(_) => (RETRY_DELAY, Duration::ZERO),
        };
        // A change during the cooldown is reported after it.
        let next = async {
            tokio::time::sleep(cooldown).await;
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = process.breakers.changed() => {}
            }
        };
        tokio::select! {
            () = quit.cancelled() => break,
            () = next => {}
        }
    }
    let withdrawn =
        tokio::time::timeout(REPORT_TIMEOUT, breaker_reports::withdraw(shop.pool(), reporter)).await;
    if !matches!(withdrawn, Ok(Ok(()))) {
        tracing::debug!("the report of the circuit breakers could not be withdrawn; it expires");
    }
}
