//! What this process is, and the circuit breakers before what it calls.

use std::time::Duration;

use breakers::Breakers;
use shop::{Shop, breaker_reports};
use tokio_util::sync::CancellationToken;

use crate::config::Config;

/// How often a process tells of its breakers when none changes.
const PERIOD: Duration = Duration::from_secs(5);
/// How long one telling may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long after a telling the next one comes at the soonest, however often breakers change.
const REST: Duration = Duration::from_millis(200);
/// How long after a failed one.
const REST_FAILED: Duration = Duration::from_secs(1);

/// This process.
#[derive(Clone, Debug)]
pub(crate) struct ThisProcess {
    name: &'static str,
    breakers: Breakers,
}

impl ThisProcess {
    /// Names it, and makes its circuit breakers as the configuration sets them.
    pub(crate) fn new(config: &Config, name: &'static str) -> Self {
        Self { name, breakers: config.make_breakers() }
    }

    /// Its circuit breakers.
    pub(crate) fn breakers(&self) -> &Breakers {
        &self.breakers
    }
}

/// Tells the database how the breakers are, whenever one changes and now and then, until `quit`; then takes it back.
pub(crate) async fn report_breakers(process: &ThisProcess, shop: &Shop, quit: CancellationToken) {
    let told = breaker_reports::Process { id: shop.engine().worker().0, name: process.name };
    loop {
        let views = process.breakers.views();
        let report = breaker_reports::report(shop.pool(), told, &views);
        let (rest, then) = match tokio::time::timeout(PATIENCE, report).await {
            Ok(Ok(())) => (REST, PERIOD),
            Ok(Err(error)) => {
                tracing::debug!(error = %error, "the circuit breakers can't be told now; trying again");
                (REST_FAILED, Duration::ZERO)
            }
            Err(_) => (REST_FAILED, Duration::ZERO),
        };
        // A change meanwhile is told after the rest.
        let rested = async {
            tokio::time::sleep(rest).await;
            tokio::select! {
                () = tokio::time::sleep(then) => {}
                () = process.breakers.changed() => {}
            }
        };
        tokio::select! {
            () = quit.cancelled() => break,
            () = rested => {}
        }
    }
    let withdrawn = tokio::time::timeout(PATIENCE, breaker_reports::withdraw(shop.pool(), told)).await;
    if !matches!(withdrawn, Ok(Ok(()))) {
        tracing::debug!("the circuit breakers' report could not be taken back; it lapses");
    }
}
