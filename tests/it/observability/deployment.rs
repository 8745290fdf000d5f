//! Real processes on one database, as in a deployment.

use std::{
    fmt::Debug,
    future::Future,
    time::{Duration, Instant},
};

use devkit::mail_catcher::MailCatcher;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::{Database, Process, WAIT_TIMEOUT};

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// One database and one mail server, for any number of processes.
pub(super) struct Deployment {
    pub(super) database: Database,
    _catcher: MailCatcher,
    settings: Vec<(String, String)>,
}

/// A process that answers HTTP.
pub(super) struct HttpProcess {
    pub(super) process: Process,
    pub(super) base: String,
    client: reqwest::Client,
}

impl Deployment {
    pub(super) async fn new() -> Self {
        let (database, catcher) = (Database::fresh().await, MailCatcher::start().await.unwrap());
        let settings = [
            ("DATABASE_URL", database.url().as_str()),
            ("SMTP_URL", &catcher.url()),
            ("AUTH", "off"),
            ("DATABASE_POOL_SIZE", "8"),
            ("PORT", "0"),
            ("ORDERS_PORT", "0"),
            ("WORK_PORT", "0"),
            ("LOG_FORMAT", "json"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self { database, _catcher: catcher, settings: settings.into() }
    }

    /// Sets a variable for every process that is started from now on.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.settings.push((name.into(), value.into()));
    }

    pub(super) fn start(&self, args: &[&str]) -> Process {
        let settings: Vec<_> =
            self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Process::sagaline(args, &settings)
    }

    /// Starts a server and waits until it is ready.
    pub(super) async fn serve(&self, args: &[&str]) -> HttpProcess {
        let args: Vec<_> = std::iter::once("serve").chain(args.iter().copied()).collect();
        HttpProcess::launched(self.start(&args), r#""message":"serving""#).await
    }

    /// Starts a worker and waits until it is ready.
    pub(super) async fn work(&self) -> HttpProcess {
        HttpProcess::launched(self.start(&["work"]), r#""message":"working""#).await
    }
}

impl HttpProcess {
    async fn launched(process: Process, sign: &str) -> Self {
        let line: Value = serde_json::from_str(&process.wait_for_line(sign).await).unwrap();
        let base = format!("http://{}", line["address"].as_str().unwrap());
        let client = reqwest::Client::builder().no_proxy().timeout(WAIT_TIMEOUT).build().unwrap();
        Self { process, base, client }
    }

    pub(super) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    pub(super) async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    /// Creates a product.
    pub(super) async fn add_product(&self, sku: &str, stock: i64) {
        let product = json!({
            "sku": sku, "name": sku, "category": "tea", "price": 1290, "currency": "EUR",
            "initial_stock": stock, "low_stock_threshold": 0,
        });
        let answer = self.request(Method::POST, "/api/products").json(&product).send().await.unwrap();
        assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
    }

    /// A request that places an order.
    pub(super) fn ordering(&self, sku: &str, quantity: i64) -> reqwest::RequestBuilder {
        self.request(Method::POST, "/api/orders").json(&order(sku, quantity))
    }

    /// Places an order and waits until its saga has ended.
    pub(super) async fn settle(&self, sku: &str, quantity: i64) -> Value {
        let answer = self.ordering(sku, quantity).header("Prefer", "wait=30").send().await.unwrap();
        assert_eq!(answer.status(), 201);
        let mut placed: Value = answer.json().await.unwrap();
        let path = format!("/api/orders/{}", placed["order_id"].as_str().unwrap());
        let begun = Instant::now();
        while placed["status"] == "pending" && begun.elapsed() < WAIT_TIMEOUT {
            placed = self.get(&path).await.json().await.unwrap();
        }
        placed
    }

    /// Sends SIGTERM and checks that the process stops in order.
    pub(super) async fn stops_cleanly(mut self) -> Process {
        self.process.sigterm();
        let status = self.process.wait().await;
        assert_eq!(status.code(), Some(0), "{}", self.process.output());
        self.process
    }
}

pub(super) fn order(sku: &str, quantity: i64) -> Value {
    json!({
        "customer_id": "0199f39f-0000-7000-8000-000000000001", "customer_email": "ann@example.com",
        "items": [{"sku": sku, "quantity": quantity}],
    })
}

/// Retries until it succeeds.
pub(super) async fn until<T, E: Debug, F: Future<Output = Result<T, E>>>(
    what: &str,
    mut attempt: impl FnMut() -> F,
) -> T {
    let mut last = None;
    let trying = async {
        loop {
            match attempt().await {
                Ok(value) => return value,
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    let tried = tokio::time::timeout(WAIT_TIMEOUT, trying).await;
    tried.unwrap_or_else(|_| panic!("{what}: not within {WAIT_TIMEOUT:?}; last: {last:?}"))
}
