//! The recorder behind `/metrics`.

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// From half a millisecond to half a minute: a fused saga takes about the first, a time-out the last.
const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// How many sagas share a commit.
const SIZES: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];

/// Installs the recorder and describes what this crate records.
pub(super) fn install() -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_size".into()), SIZES))
        .and_then(PrometheusBuilder::install_recorder)
        .context("can't install the recorder of metrics")?;
    metrics::describe_gauge!("sagaline_build_info", "Always 1; its labels tell which build this is.");
    metrics::gauge!("sagaline_build_info", "version" => env!("CARGO_PKG_VERSION"), "rust" => env!("CARGO_PKG_RUST_VERSION"))
        .set(1.0);
    api::describe_metrics();
    Ok(handle)
}
