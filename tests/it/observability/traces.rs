//! The trace of an order, as a collector receives it.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use reqwest::Method;
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};

use super::deployment::{Deployment, HttpProcess, order, until};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// A received span.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    service: String,
    name: String,
    trace: String,
    id: String,
    parent: String,
}

/// An OTLP collector that keeps what it receives.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Seen>>>);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

impl Collector {
    async fn listen(&self) -> (String, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let collector = self.clone();
        let serving = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let collector = collector.clone();
                let service = service_fn(move |request| collector.clone().take(request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
            }
        });
        (url, serving)
    }

    async fn take(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
        assert_eq!((request.method(), request.uri().path()), (&Method::POST, "/v1/traces"));
        assert_eq!(request.headers()["content-type"], "application/x-protobuf");
        let body = request.into_body().collect().await?.to_bytes();
        self.keep(ExportTraceServiceRequest::decode(body).unwrap());
        let answer = ExportTraceServiceResponse::default().encode_to_vec();
        Ok(Response::new(Full::from(answer)))
    }

    fn keep(&self, request: ExportTraceServiceRequest) {
        let mut seen = self.0.lock().unwrap();
        for of_resource in request.resource_spans {
            let attributes = of_resource.resource.unwrap_or_default().attributes;
            let service = attributes.iter().find(|attribute| attribute.key == "service.name");
            let service = format!("{:?}", service.and_then(|attribute| attribute.value.clone()));
            for span in of_resource.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans) {
                seen.push(Seen {
                    service: service.clone(),
                    name: span.name,
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                });
            }
        }
    }

    fn of(&self, trace: &str) -> Vec<Seen> {
        self.0.lock().unwrap().iter().filter(|span| span.trace == trace).cloned().collect()
    }
}

/// Waits until every saga that an order started has ended.
/// Waits until all sagas have ended or are dead.
async fn wait_until_no_saga_is_active(deployment: &Deployment) {
    let pool = deployment.database.owner_pool().await;
    until("all sagas to have ended or be dead", || async {
        let active = "select count(*) from engine.saga where status in ('running', 'compensating')";
        let active: i64 = sqlx::query_scalar(active).fetch_one(&pool).await.unwrap();
        if active == 0 { Ok(()) } else { Err(active) }
    })
    .await;
}

async fn place(process: &HttpProcess) -> Value {
    let traceparent = format!("00-{TRACE}-{CALLER}-01");
    let placing = process.request(Method::POST, "/api/orders").header("traceparent", traceparent);
    let answer = placing.json(&order("TEA-1", 1)).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["x-request-id"].to_str().unwrap()), (201, TRACE));
    answer.json().await.unwrap()
}

/// Logs only the lines by which a test knows that a process is ready, and warnings.
const QUIET: &str = "warn,sagaline::commands=info";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_gets_one_trace_from_the_request_to_the_mail() {
    one_trace_arrives("info").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_gets_the_complete_trace_with_a_quiet_log_level() {
    one_trace_arrives(QUIET).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_line_of_a_failed_request_has_its_trace_id_with_a_quiet_log_level() {
    let mut deployment = Deployment::new().await;
    deployment.set("LOG_LEVEL", QUIET);
    let server = deployment.serve(&[]).await;
    let pool = deployment.database.owner_pool().await;
    sqlx::raw_sql("alter table shop.product rename to goods").execute(&pool).await.unwrap();
    let asking = server.request(Method::GET, "/api/products");
    let answer = asking.header("traceparent", format!("00-{TRACE}-{CALLER}-01")).send().await.unwrap();
    assert_eq!(answer.status(), 500);
    let line = server.process.wait_for_line("a request failed").await;
    assert!(line.contains(&format!("\"trace.id\":\"{TRACE}\"")), "{line}");
    server.stops_cleanly().await;
}

async fn one_trace_arrives(log_level: &str) {
    let collector = Collector::default();
    let (url, serving) = collector.listen().await;
    let mut deployment = Deployment::new().await;
    deployment.set("OTEL_EXPORTER_OTLP_ENDPOINT", &url);
    deployment.set("LOG_LEVEL", log_level);
    let (server, worker) = (deployment.serve(&[]).await, deployment.work().await);
    server.add_product("TEA-1", 5).await;
    place(&server).await;
    wait_until_no_saga_is_active(&deployment).await;
    // Spans that have not been exported yet are exported at the end.
    server.stops_cleanly().await;
    worker.stops_cleanly().await;

    let spans = collector.of(TRACE);
    let names: BTreeSet<_> =
        spans.iter().map(|span| (span.service.contains("sagaline-work"), span.name.as_str())).collect();
    let wanted = [
        (false, "POST /api/orders"),
        (true, "reserve-stock"),
        (true, "confirm-order"),
        (true, "queue-confirmation"),
        (true, "send-mail"),
    ];
    for wanted in wanted {
        assert!(names.contains(&wanted), "{wanted:?} in {names:?}");
    }
    let ids: BTreeSet<_> = spans.iter().map(|span| span.id.as_str()).chain([CALLER]).collect();
    assert_eq!(ids.len(), spans.len() + 1, "no span is exported twice");
    for span in &spans {
        assert!(ids.contains(span.parent.as_str()), "{span:?} hangs in the air");
    }
    serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_problem_has_a_trace_id_with_and_without_a_collector() {
    let collector = Collector::default();
    let (url, serving) = collector.listen().await;
    for endpoint in [url.as_str(), ""] {
        let mut deployment = Deployment::new().await;
        deployment.set("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
        let server = deployment.serve(&[]).await;
        let requests = [
            server.request(Method::GET, "/nowhere"),
            server.request(Method::DELETE, "/api/orders"),
            server.request(Method::GET, "/api/orders/no-id"),
            server.request(Method::GET, "/api/orders/0199f39f-0000-7000-8000-000000000001"),
            server.request(Method::POST, "/api/orders").body("{"),
            server.request(Method::GET, "/api/orders").header("x-long", "x".repeat(20_000)),
        ];
        let mut own = BTreeSet::new();
        for request in requests {
            let alone = request.try_clone().unwrap().send().await.unwrap();
            let joined =
                request.header("traceparent", format!("00-{TRACE}-{CALLER}-01")).send().await.unwrap();
            assert_eq!(trace_id(joined).await, TRACE);
            let id = trace_id(alone).await;
            assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
            assert!(own.insert(id), "two requests have the same id");
        }
        server.stops_cleanly().await;
    }
    serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_trace_id_of_a_problem_is_found_in_the_log_in_every_format() {
    for (format, field) in [("json", r#""trace.id":""#), ("pretty", "trace.id=")] {
        let dir = tempfile::tempdir().unwrap();
        let mut deployment = Deployment::new().await;
        deployment.set("LOG_FORMAT", format);
        deployment.set("LOG_DIR", dir.path().to_str().unwrap());
        let mut server = deployment.start(&["serve"]);
        let line = server.wait_for_line("serving").await;
        let address = line.split(['=', ' ', '"']).find(|word| word.parse::<SocketAddr>().is_ok()).unwrap();
        let pool = deployment.database.owner_pool().await;
        sqlx::raw_sql("alter table shop.product rename to goods").execute(&pool).await.unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut expected = Vec::new();
        for (path, status, code) in [
            ("/nowhere", 404, "no-such-route"),
            ("/api/orders/no-id", 400, "invalid-parameter"),
            ("/api/products", 500, "internal"),
        ] {
            let response = client.get(format!("http://{address}{path}")).send().await.unwrap();
            assert_eq!(response.status(), status);
            expected.push((trace_id(response).await, path, status, code));
        }
        server.sigterm();
        assert!(server.wait().await.success(), "{}", server.output());
        let file = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
        let file = fs::read_to_string(file).unwrap();
        for (id, path, status, code) in expected {
            for (log, field) in [(&server.output(), field), (&file, r#""trace.id":""#)] {
                let lines: Vec<_> =
                    log.lines().filter(|line| line.contains(&format!("{field}{id}"))).collect();
                let [line] = lines[..] else { panic!("{format}: {} lines for {path}: {log}", lines.len()) };
                let says = |what: &str| line.contains(what);
                assert!(says(path) && says(&status.to_string()) && says(code), "{format}: {line}");
            }
        }
    }
}

/// The trace id of a problem, which its header repeats.
async fn trace_id(answer: reqwest::Response) -> String {
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let header = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["trace_id"], header, "{problem}");
    header
}
