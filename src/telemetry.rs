//! Logs, traces and metrics of one process.

mod logs;
mod metrics;
mod traces;

use std::{sync::Arc, time::Duration};

use metrics_exporter_prometheus::PrometheusHandle;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::TelemetryConfig;

/// How often the recorder is tidied.
const UPKEEP: Duration = Duration::from_secs(5);

/// What a process reports through; keep it until the process ends.
pub(crate) struct Telemetry {
    traces: Option<SdkTracerProvider>,
    metrics: PrometheusHandle,
}

impl Telemetry {
    /// Installs the log, the exporter of traces and the recorder of metrics; call it once in a process, inside the
    /// runtime.
    ///
    /// # Errors
    /// When one of them is installed already, or the exporter can't be made.
    pub(crate) fn install(config: &TelemetryConfig) -> anyhow::Result<Self> {
        let traces = config.otlp_endpoint.as_ref().map(traces::provider).transpose()?;
        let exported =
            traces.as_ref().map(|provider| traces::layer(provider).with_filter(logs::filter(config)));
        tracing_subscriber::registry().with(logs::layer(config)).with(exported).try_init()?;
        let metrics = metrics::install()?;
        Ok(Self { traces, metrics })
    }

    /// What `/metrics` renders.
    pub(crate) fn metrics(&self) -> PrometheusHandle {
        self.metrics.clone()
    }

    /// Carries traces through the engine's stored sagas; `None` when no traces are exported.
    pub(crate) fn trace_link(&self) -> Option<Arc<dyn engine::TraceLink>> {
        self.traces.is_some().then(|| Arc::new(traces::W3cLink) as Arc<dyn engine::TraceLink>)
    }

    /// Tidies the recorder until `stop`: histograms that nobody scrapes would grow without end.
    pub(crate) async fn upkeep(metrics: PrometheusHandle, stop: CancellationToken) {
        let mut tick = tokio::time::interval(UPKEEP);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            metrics.run_upkeep();
        }
    }

    /// Sends what is still held; the collector has a few seconds.
    pub(crate) async fn flush(self) {
        let Some(provider) = self.traces else { return };
        // The exporter's own shutdown blocks its thread while the runtime sends.
        let ended = tokio::task::spawn_blocking(move || provider.shutdown()).await;
        if let Ok(Err(error)) = ended {
            tracing::warn!(error = %error, "the last traces could not be sent");
        }
    }
}
