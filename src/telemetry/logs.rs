//! The log: for people on a terminal, one JSON object a line otherwise; always to standard error, and to files too when
//! a directory for them is named.

use std::io::IsTerminal;

use tracing::{Level, Subscriber};
use tracing_appender::non_blocking::NonBlocking;
use tracing_subscriber::{
    Layer,
    filter::{FilterExt, LevelFilter, Targets, filter_fn},
    fmt,
    layer::Filter,
    registry::LookupSpan,
};

use crate::config::{LogFormat, TelemetryConfig};

/// The log's layer, with its filter.
pub(super) fn layer<S>(config: &TelemetryConfig) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let filter = filter(config);
    if is_pretty(config.log_format) {
        let colours = std::io::stderr().is_terminal();
        fmt::layer().with_writer(std::io::stderr).with_ansi(colours).compact().with_filter(filter).boxed()
    } else {
        fmt::layer()
            .with_writer(std::io::stderr)
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_filter(filter)
            .boxed()
    }
}

/// The layer of the log files: JSON, whatever standard error gets.
pub(super) fn file_layer<S>(config: &TelemetryConfig, writer: NonBlocking) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fmt::layer()
        .with_writer(writer)
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_filter(filter(config))
        .boxed()
}

/// The events that `LOG_LEVEL` lets through, and the spans of requests and steps whatever it says: traces are made of
/// them, and an error takes the id of its trace from them.
pub(super) fn filter<S>(config: &TelemetryConfig) -> impl Filter<S> + Send + Sync + 'static
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    // The configuration has checked it; anything else would be `info`.
    let events: Targets =
        config.log_level.parse().unwrap_or_else(|_| Targets::new().with_default(LevelFilter::INFO));
    let spans = filter_fn(|metadata| metadata.is_span() && *metadata.level() <= Level::INFO);
    events.or(spans.with_max_level_hint(LevelFilter::INFO))
}

fn is_pretty(format: LogFormat) -> bool {
    match format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    }
}
