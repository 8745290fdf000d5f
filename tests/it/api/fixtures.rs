//! A shop that is served over HTTP, with or without workers.

use std::net::SocketAddr;

use api::{Access, ApiState, Auth, Drained, Limits, Service, TrustedProxies};
use engine::Engine;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use shop::{
    Shop,
    mail::Mailer,
    sagas::{self, Settings},
};
use sqlx::PgPool;
use tokio::{net::TcpListener, sync::OnceCell, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::support::{Database, WAIT_TIMEOUT};

use super::contract;

/// A process has one recorder; the first test installs it.
static METRICS: OnceCell<PrometheusHandle> = OnceCell::const_new();

/// A shop with its server.
pub(crate) struct TestApi {
    pub(crate) base: String,
    pub(crate) address: SocketAddr,
    pub(crate) client: reqwest::Client,
    pub(crate) engine: Engine,
    state: ApiState,
    closing: CancellationToken,
    served: Option<JoinHandle<Drained>>,
    work: Vec<JoinHandle<()>>,
    _mails: tempfile::TempDir,
    database: Option<Database>,
}

/// Whether workers run sagas in the test.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workers {
    Running,
    None,
}

impl TestApi {
    /// A shop with workers, without authentication.
    pub(crate) async fn with_workers() -> Self {
        Self::with(generous_limits(), Workers::Running, Vec::new()).await
    }

    /// A shop with these limits, without workers and without authentication.
    pub(crate) async fn without_workers(limits: Limits) -> Self {
        Self::with(limits, Workers::None, Vec::new()).await
    }

    /// A shop with these limits, with or without workers, and with further definitions.
    pub(crate) async fn with(limits: Limits, workers: Workers, more: Vec<engine::Definition>) -> Self {
        let database = Database::fresh().await;
        let pool = database.pool().await;
        Self::over(pool, Some(database), limits, workers, more).await
    }

    /// A shop with these access settings and without workers.
    pub(crate) async fn with_access(access: Access) -> Self {
        Self::with_access_and_limits(access, generous_limits()).await
    }

    /// As [`TestApi::with_access`], with workers.
    pub(crate) async fn with_access_and_workers(access: Access) -> Self {
        let database = Database::fresh().await;
        let pool = database.pool().await;
        let workers = Workers::Running;
        Self::opened(pool, Some(database), generous_limits(), workers, Vec::new(), access).await
    }

    /// As [`TestApi::with_access`], with these limits.
    pub(crate) async fn with_access_and_limits(access: Access, limits: Limits) -> Self {
        let database = Database::fresh().await;
        let pool = database.pool().await;
        Self::opened(pool, Some(database), limits, Workers::None, Vec::new(), access).await
    }

    /// As [`TestApi::with_access`], with further definitions.
    pub(crate) async fn with_access_and_sagas(access: Access, more: Vec<engine::Definition>) -> Self {
        let database = Database::fresh().await;
        let pool = database.pool().await;
        Self::opened(pool, Some(database), generous_limits(), Workers::None, more, access).await
    }

    /// As [`TestApi::with`], over an existing database.
    pub(crate) async fn over(
        pool: PgPool,
        database: Option<Database>,
        limits: Limits,
        workers: Workers,
        more: Vec<engine::Definition>,
    ) -> Self {
        let access = Access { auth: Auth::Off, ..Access::default() };
        Self::opened(pool, database, limits, workers, more, access).await
    }

    async fn opened(
        pool: PgPool,
        database: Option<Database>,
        limits: Limits,
        workers: Workers,
        more: Vec<engine::Definition>,
        access: Access,
    ) -> Self {
        let mails = tempfile::tempdir().unwrap();
        let mailer = Mailer::files(mails.path(), "shop@example.com").unwrap();
        let mut builder = Engine::builder(pool);
        let settings = Settings::new(mailer);
        for definition in sagas::definitions(settings.clone()).unwrap().into_iter().chain(more) {
            builder = builder.register(definition);
        }
        for earlier in sagas::earlier_definitions(settings).unwrap() {
            builder = builder.also(earlier);
        }
        let engine = builder.build().unwrap();
        let closing = CancellationToken::new();
        let work = match workers {
            Workers::Running => sagas::QUEUES.map(|queue| work(&engine, queue, &closing)).into(),
            Workers::None => Vec::new(),
        };
        let metrics = METRICS
            .get_or_init(|| async {
                let recorder = PrometheusBuilder::new().build_recorder();
                let handle = recorder.handle();
                // Another test may have installed a recorder: then this shop records nothing, but works.
                let _ = metrics::set_global_recorder(recorder);
                handle
            })
            .await;
        let proxies = access.trusted_proxies.clone();
        let state = ApiState::builder(Shop::new(engine.clone()), metrics.clone())
            .limits(limits)
            .access(access)
            .build()
            .unwrap();
        let router = api::router(state.clone(), Service::ALL);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(api::serve(listener, router, limits, proxies, closing.clone()));
        Self {
            base: format!("http://{address}"),
            address,
            client: reqwest::Client::new(),
            engine,
            state,
            closing,
            served: Some(served),
            work,
            _mails: mails,
            database,
        }
    }

    /// Starts workers on the shop's queues.
    pub(crate) fn start_workers(&mut self) {
        self.work.extend(sagas::QUEUES.map(|queue| work(&self.engine, queue, &self.closing)));
    }

    /// Also serves only these services of the same shop, and returns the URL.
    pub(crate) async fn of_services(&self, services: &[Service]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let router = api::router(self.state.clone(), services);
        let proxies = TrustedProxies::default();
        tokio::spawn(api::serve(listener, router, generous_limits(), proxies, self.closing.clone()));
        base
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    /// A pool of the owner of the database.
    pub(crate) async fn owner_pool(&self) -> PgPool {
        self.database.as_ref().expect("the shop has a database of its own").owner_pool().await
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Response {
        self.request(Method::POST, path).json(body).send().await.unwrap()
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Response {
        self.request(Method::PUT, path).json(body).send().await.unwrap()
    }

    /// Creates a product.
    pub(crate) async fn stock(&self, sku: &str, initial_stock: i64) -> Value {
        let response = self.post("/api/products", &product(sku, initial_stock)).await;
        body(response, 201).await
    }

    /// Places an order and waits until its saga has ended.
    pub(crate) async fn order(&self, sku: &str, quantity: i64) -> Value {
        let request = self.request(Method::POST, "/api/orders").header("Prefer", "wait=300");
        body(request.json(&order(sku, quantity)).send().await.unwrap(), 201).await
    }

    /// Stops the server and returns what became of its connections.
    pub(crate) async fn close(&mut self) -> Drained {
        self.state.close_streams();
        self.closing.cancel();
        let drained = self.served.take().unwrap().await.unwrap();
        self.state.close().await;
        drained
    }
}

impl Drop for TestApi {
    fn drop(&mut self) {
        self.state.close_streams();
        self.closing.cancel();
        for task in &self.work {
            task.abort();
        }
    }
}

fn work(engine: &Engine, queue: &str, closing: &CancellationToken) -> JoinHandle<()> {
    let (engine, closing) = (engine.clone(), closing.clone());
    let mut feed = engine.feed(queue, 64);
    tokio::spawn(async move { engine.run(&mut feed, closing).await })
}

pub(crate) fn product(sku: &str, initial_stock: i64) -> Value {
    json!({
        "sku": sku, "name": format!("{sku} of the best"), "category": "tea", "price": 1290, "currency": "EUR",
        "initial_stock": initial_stock, "low_stock_threshold": 2
    })
}

pub(crate) fn order(sku: &str, quantity: i64) -> Value {
    json!({
        "customer_id": "0199f39f-0000-7000-8000-000000000001",
        "customer_email": "a@example.com",
        "items": [{"sku": sku, "quantity": quantity}]
    })
}

/// Checks a response's status, and that it fits the contract, and returns its body.
pub(crate) async fn body(response: Response, status: u16) -> Value {
    let (got, path) = (response.status().as_u16(), response.url().path().to_owned());
    let content_type = response.headers().get("content-type").and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default().to_owned();
    let text = response.text().await.unwrap();
    assert_eq!(got, status, "{path}: {text}");
    let Ok(body) = serde_json::from_str(&text) else { return Value::String(text) };
    contract::check(&path, status, &content_type, &body);
    body
}

/// Checks that a response is a valid problem with this status and code, and returns it.
pub(crate) async fn problem(response: Response, status: u16, code: &str) -> Value {
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    let problem = body(response, status).await;
    assert_eq!(
        (kind.as_str(), problem["code"].as_str()),
        ("application/problem+json", Some(code)),
        "{problem}"
    );
    assert_eq!(problem["status"], status);
    assert!(problem["trace_id"].as_str().is_some_and(|id| id.len() == 32), "{problem}");
    problem
}

/// Limits whose time-outs no test reaches on a slow machine. A test of a limit sets that one.
pub(crate) fn generous_limits() -> Limits {
    Limits {
        body_timeout: WAIT_TIMEOUT,
        request_timeout: WAIT_TIMEOUT,
        max_wait: WAIT_TIMEOUT,
        replay_timeout: WAIT_TIMEOUT,
        pool_timeout: WAIT_TIMEOUT,
        health_timeout: WAIT_TIMEOUT,
        first_byte_timeout: WAIT_TIMEOUT,
        header_timeout: WAIT_TIMEOUT,
        write_timeout: WAIT_TIMEOUT,
        drain: WAIT_TIMEOUT,
        ..Limits::default()
    }
}
