//! Logs, traces and metrics of one process.

mod files;
mod logs;
mod metrics;
mod traces;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use metrics_exporter_prometheus::PrometheusHandle;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio_util::sync::CancellationToken;
use tracing_appender::non_blocking::{ErrorCounter, WorkerGuard};
use tracing_subscriber::{Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{config::TelemetryConfig, exit_error::ExitError};

pub use metrics::describe_metrics;
pub(crate) use metrics::{POOL_FAILURES, POOL_WAIT};

/// How often the recorder's upkeep runs.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The telemetry of a process; keep it until the process ends.
pub(crate) struct Telemetry {
    traces: Option<SdkTracerProvider>,
    metrics: PrometheusHandle,
    files: Option<LogFiles>,
}

/// The count of lines that the log files lost, and the guard that writes the last lines when it is dropped.
struct LogFiles {
    lost: ErrorCounter,
    _guard: WorkerGuard,
}

impl Telemetry {
    /// Installs the log, the exporter of traces and the recorder of metrics; call it once in a process, inside the
    /// runtime. `name` identifies this kind of process in the names of log files and in traces.
    ///
    /// # Errors
    /// When one of them is already installed, the exporter can't be built, or `LOG_DIR` can't be written to.
    pub(crate) fn install(config: &TelemetryConfig, name: &str) -> Result<Self, ExitError> {
        let files =
            config.log_dir.as_deref().map(|dir| files::open(dir, config.log_keep_days, name)).transpose()?;
        let (writer, files) =
            files.map(|open| (open.writer, LogFiles { lost: open.lost, _guard: open.guard })).unzip();
        let traces =
            config.otlp_endpoint.as_ref().map(|endpoint| traces::provider(endpoint, name)).transpose()?;
        let exported =
            traces.as_ref().map(|provider| traces::layer(provider).with_filter(logs::filter(config)));
        let json = writer.map(|writer| logs::file_layer(config, writer));
        tracing_subscriber::registry()
            .with(logs::layer(config))
            .with(json)
            .with(exported)
            .try_init()
            .context("can't install the log")?;
        let metrics = metrics::install()?;
        Ok(Self { traces, metrics, files })
    }

    /// The handle from which `/metrics` is rendered.
    pub(crate) fn metrics(&self) -> PrometheusHandle {
        self.metrics.clone()
    }

    /// Links the engine's stored sagas to traces; `None` when no traces are exported.
    pub(crate) fn trace_propagator(&self) -> Option<Arc<dyn engine::TracePropagator>> {
        self.traces.is_some().then(|| Arc::new(traces::W3cPropagator) as Arc<dyn engine::TracePropagator>)
    }

    /// Runs the recorder's upkeep until `stop`, because histograms that are not scraped would grow without end, and
    /// counts the lines that log files lost.
    pub(crate) fn upkeep(&self, stop: CancellationToken) -> impl Future<Output = ()> + Send + 'static {
        let (metrics, lost) = (self.metrics.clone(), self.files.as_ref().map(|files| files.lost.clone()));
        async move {
            let mut tick = tokio::time::interval(UPKEEP_INTERVAL);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while stop.run_until_cancelled(tick.tick()).await.is_some() {
                metrics.run_upkeep();
                if let Some(lost) = &lost {
                    metrics::count_lost(lost);
                }
            }
        }
    }

    /// Sends the last traces and writes the last log lines; the collector may take a few seconds.
    pub(crate) async fn flush(self) {
        let Some(provider) = self.traces else { return };
        // The exporter's own shutdown blocks its thread while the runtime sends.
        let ended = tokio::task::spawn_blocking(move || provider.shutdown()).await;
        if let Ok(Err(error)) = ended {
            tracing::warn!(error = %engine::ErrorChain(&error), "the last traces could not be sent");
        }
    }
}
