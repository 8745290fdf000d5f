//! The HTTP client of the demo's customers and operators.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::order::{OrderEnd, PLENTIFUL, PLENTY, PlacedOrder, SCARCE, SCARCE_STOCK};
use crate::http_client::{self, HttpClient};

/// How often the client retries when an overloaded server answers 503.
const MAX_TRIES: u32 = 20;
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// Talks to one API process.
#[derive(Clone)]
pub(super) struct Client {
    http: HttpClient,
    base: String,
}

/// An order as the API shows it, as far as the demo reads it.
#[derive(Clone, Debug)]
pub(super) struct ShownOrder {
    pub(super) placed: PlacedOrder,
    pub(super) end: OrderEnd,
    pub(super) units: Vec<(String, i64)>,
}

/// A product's stock.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Levels {
    pub(super) on_hand: i64,
    pub(super) reserved: i64,
    pub(super) available: i64,
}

#[derive(Deserialize)]
struct Order {
    status: String,
    items: Vec<Line>,
}

#[derive(Deserialize)]
struct Line {
    sku: String,
    quantity: i64,
}

#[derive(Deserialize)]
struct Product {
    sku: String,
    stock: Levels,
}

impl Client {
    pub(super) fn new(base: String) -> Self {
        Self { http: HttpClient::new(Duration::from_secs(20)), base }
    }

    /// Whether the API says that it is ready.
    pub(super) async fn is_ready(&self) -> bool {
        let url = format!("{}/health/ready", self.base);
        self.http.get(&url).await.is_ok_and(|answer| answer.status().is_success())
    }

    /// Reads a counter of another process at `/metrics`, summed over its labels.
    pub(super) async fn counter(&self, port: u16, name: &str) -> anyhow::Result<u64> {
        let answer = self.http.get(&format!("http://127.0.0.1:{port}/metrics")).await?;
        let lines = http_client::text(&answer)?
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        Ok(lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum())
    }

    /// Creates the products.
    pub(super) async fn stock_the_shop(&self) -> anyhow::Result<()> {
        let stocked = PLENTIFUL.iter().map(|sku| (*sku, PLENTY)).chain([(SCARCE, SCARCE_STOCK)]);
        for (sku, stock) in stocked {
            let product = json!({
                "sku": sku, "name": format!("Demo product {sku}"), "description": "", "category": "demo",
                "price": 1290, "currency": "EUR", "initial_stock": stock, "low_stock_threshold": 0,
            });
            self.send(Method::POST, "/api/products", Some(product)).await?;
        }
        Ok(())
    }

    /// Places an order and returns its id.
    pub(super) async fn place(&self, email: &str, items: &[(&str, i64)]) -> anyhow::Result<Uuid> {
        let items: Vec<Value> =
            items.iter().map(|(sku, quantity)| json!({"sku": sku, "quantity": quantity})).collect();
        let order = json!({"customer_id": Uuid::now_v7(), "customer_email": email, "items": items});
        let answer = self.send(Method::POST, "/api/orders", Some(order)).await?;
        answer["order_id"].as_str().and_then(|id| id.parse().ok()).context("the answer names no order")
    }

    /// Cancels an order. While a worker that died holds its placement, the cancel is noted, and carried out later.
    pub(super) async fn cancel(&self, order_id: Uuid) -> anyhow::Result<()> {
        let reason = json!({"reason": "changed my mind"});
        self.send(Method::POST, &format!("/api/orders/{order_id}/cancel"), Some(reason)).await.map(drop)
    }

    /// Reads the orders back.
    pub(super) async fn orders_of(&self, placed: &[PlacedOrder]) -> anyhow::Result<Vec<ShownOrder>> {
        let mut seen = Vec::with_capacity(placed.len());
        for placed in placed {
            let path = format!("/api/orders/{}", placed.order_id);
            let order: Order = serde_json::from_value(self.send(Method::GET, &path, None).await?)?;
            let units = order.items.into_iter().map(|line| (line.sku, line.quantity)).collect();
            seen.push(ShownOrder { placed: placed.clone(), end: OrderEnd::of(&order.status), units });
        }
        Ok(seen)
    }

    /// The stock of every product of the demo.
    pub(super) async fn levels(&self) -> anyhow::Result<Vec<(String, Levels)>> {
        let page = self.send(Method::GET, "/api/products?limit=100", None).await?;
        let products: Vec<Product> = serde_json::from_value(page["items"].clone())?;
        Ok(products.into_iter().map(|product| (product.sku, product.stock)).collect())
    }

    /// Whether any saga is still running or compensating.
    pub(super) async fn has_active_sagas(&self) -> anyhow::Result<bool> {
        for status in ["running", "compensating"] {
            let page =
                self.send(Method::GET, &format!("/api/workflows?status={status}&limit=1"), None).await?;
            if page["items"].as_array().is_some_and(|items| !items.is_empty()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How many dead jobs are open.
    pub(super) async fn dead_jobs(&self) -> anyhow::Result<u64> {
        let page = self.send(Method::GET, "/api/dead-jobs?limit=200", None).await?;
        let items = page["items"].as_array().context("the answer is not a list")?;
        Ok(u64::try_from(items.len())?)
    }

    /// Retries all dead jobs, as a plan says, and returns their number.
    pub(super) async fn retry_dead_jobs(&self) -> anyhow::Result<u64> {
        let mut all = json!({"filter": {}, "limit": 1000, "reason": "the mail server is repaired"});
        let path = "/api/dead-jobs/retry";
        let planned = self.send(Method::POST, path, Some(all.clone())).await?;
        (all["dry_run"], all["plan_token"]) = (false.into(), planned["plan"]["plan_token"].clone());
        let answer = self.send(Method::POST, path, Some(all)).await?;
        let retried =
            answer["retried"].as_array().with_context(|| format!("the answer is not a list: {answer}"))?;
        Ok(u64::try_from(retried.len())?)
    }

    /// Sends one request; a POST carries an idempotency key, so that repeating it is safe.
    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let request = self.request(&method, path, body.as_ref())?;
        let mut last = String::new();
        for _ in 0..MAX_TRIES {
            match self.http.send(request.clone()).await {
                Ok(answer) if is_temporary(&answer) => last = answer.status().to_string(),
                Ok(answer) => {
                    let (status, text) = (answer.status(), http_client::text(&answer)?);
                    ensure!(status.is_success(), "{method} {path} was answered {status}: {text}");
                    return Ok(serde_json::from_str(text).unwrap_or(Value::Null));
                }
                Err(error) => last = format!("{error:#}"),
            }
            tokio::time::sleep(RETRY_DELAY).await;
        }
        bail!("{method} {path} was not answered in {MAX_TRIES} tries: {last}")
    }

    fn request(&self, method: &Method, path: &str, body: Option<&Value>) -> anyhow::Result<Request<Bytes>> {
        let url = format!("{}{path}", self.base);
        let mut request = match body {
            Some(body) => http_client::json_request(method.clone(), &url, body)?,
            None => http_client::request(method.clone(), &url)?,
        };
        if method == Method::POST {
            let key = HeaderValue::from_str(&Uuid::now_v7().to_string())?;
            request.headers_mut().insert("idempotency-key", key);
        }
        Ok(request)
    }
}

/// Whether the API asks for the request to be sent again.
fn is_temporary(answer: &Response<Bytes>) -> bool {
    [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS].contains(&answer.status())
}
