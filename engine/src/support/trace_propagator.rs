//! The trait by which the engine links its spans to traces without depending on a tracing system.

/// Reads and sets the trace context of spans; implemented by the exporter's side.
pub trait TracePropagator: Send + Sync + 'static {
    /// The current span's W3C `traceparent`, if it is part of a recorded trace.
    fn current(&self) -> Option<String>;

    /// Makes `span` a child of the span that `traceparent` names.
    fn adopt(&self, span: &tracing::Span, traceparent: &str);
}
