//! Exports traces over OTLP (protobuf over HTTP), and propagates trace context through stored sagas.

use std::{collections::HashMap, pin::Pin, time::Duration};

use anyhow::anyhow;
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry::{KeyValue, propagation::TextMapPropagator, trace::TracerProvider};
use opentelemetry_http::HttpError;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tokio::runtime::Handle;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt};
use tracing_subscriber::registry::LookupSpan;

use crate::{config::SecretUrl, http_client::HttpClient};

const HEADER: &str = "traceparent";
/// The path of a collector for spans, below its endpoint.
const PATH: &str = "/v1/traces";
/// The time-out of one batch, equal to the exporter's own.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Builds the provider, whose exporter sends spans in batches from a separate thread. Call it inside the runtime.
pub(super) fn provider(endpoint: &SecretUrl, name: &str) -> anyhow::Result<SdkTracerProvider> {
    let built = SpanExporter::builder()
        .with_http()
        .with_http_client(Transport { client: HttpClient::new(TIMEOUT), runtime: Handle::current() })
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{}{PATH}", endpoint.expose().trim_end_matches('/')))
        .build();
    // The exporter's message repeats the endpoint, which may contain a password.
    let exporter = built.map_err(|_| {
        anyhow!("can't export traces to {endpoint}: OTEL_EXPORTER_OTLP_ENDPOINT or another OTEL_ variable can't be used")
    })?;
    let resource = Resource::builder()
        .with_service_name(format!("{}-{name}", env!("CARGO_PKG_NAME")))
        .with_attribute(KeyValue::new("service.namespace", env!("CARGO_PKG_NAME")))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

/// The layer that turns tracing's spans into exported ones.
pub(super) fn layer<S>(
    provider: &SdkTracerProvider,
) -> OpenTelemetryLayer<S, opentelemetry_sdk::trace::SdkTracer>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    tracing_opentelemetry::layer().with_tracer(provider.tracer(env!("CARGO_PKG_NAME")))
}

/// The exporter's HTTP client. The exporter blocks its own thread, which has no tokio runtime, so each request runs as
/// a task of the runtime that created the client.
#[derive(Debug)]
struct Transport {
    client: HttpClient,
    runtime: Handle,
}

impl opentelemetry_http::HttpClient for Transport {
    fn send_bytes<'a, 'sent>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'sent>>
    where
        'a: 'sent,
        Self: 'sent,
    {
        let client = self.client.clone();
        let exchange = self.runtime.spawn(async move { client.send(request).await });
        Box::pin(async move { Ok(exchange.await??) })
    }
}

/// Propagates W3C trace context: returns the current span's `traceparent` to be stored, and makes a stored one the
/// parent of a span.
pub(super) struct W3cPropagator;

impl engine::TracePropagator for W3cPropagator {
    fn current(&self) -> Option<String> {
        let mut carrier = HashMap::new();
        TraceContextPropagator::new().inject_context(&Span::current().context(), &mut carrier);
        carrier.remove(HEADER)
    }

    fn adopt(&self, span: &Span, traceparent: &str) {
        let carrier = HashMap::from([(HEADER.to_owned(), traceparent.to_owned())]);
        let parent = TraceContextPropagator::new().extract(&carrier);
        if let Err(error) = span.set_parent(parent) {
            tracing::debug!(error = %engine::ErrorChain(&error), "a step's span could not join its saga's trace");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_error_for_an_invalid_endpoint_does_not_contain_its_password() {
        let endpoint = SecretUrl::new("http://me:hunter2@[bad");
        let error = provider(&endpoint, "test").expect_err("it is not a URL");
        let text = format!("{error:#} {error:?}");
        assert!(text.contains("OTEL_EXPORTER_OTLP_ENDPOINT") && !text.contains("hunter2"), "{text}");
    }
}
