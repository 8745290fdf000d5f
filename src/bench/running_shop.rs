//! The shop under measurement: its API, its workers and its mail server, all in this process.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use api::Service;
use breakers::Breakers;
use devkit::mail_catcher::MailCatcher;
use http::{HeaderValue, Method};
use serde_json::{Value, json};
use shop::{Shop, commands, inventory::NewProduct, sagas::QUEUES};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::database::BenchDatabase;
use crate::{
    app::{self, MailTarget, ProcessContext},
    config::{Config, SecretUrl},
    http_client::{self, HttpClient},
    pool::{self, PoolUse},
};

/// Enough products that the two lines of an order rarely collide with other orders, and few enough that they sometimes
/// do.
const PRODUCTS: u128 = 20;
/// More than any run sells.
const STOCK: i64 = 1_000_000_000;
const HTTP_TIMEOUT: Duration = Duration::from_mins(1);

/// A shop whose API and workers run in this process.
pub(super) struct RunningShop {
    /// Places orders through the socket.
    pub(super) client: Client,
    /// Receives the mails.
    pub(super) catcher: Arc<MailCatcher>,
    /// The shop that is measured.
    pub(super) shop: Shop,
    /// The circuit breakers of this process.
    pub(super) breakers: Breakers,
}

impl RunningShop {
    /// Runs API and workers until `measure` ends; mails go to a mail server in this process.
    ///
    /// # Errors
    /// When a part can't be started or stopped, and those of `measure`.
    pub(super) async fn run_while<T>(
        config: &Config,
        database: &BenchDatabase,
        measure: impl AsyncFnOnce(&Self) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let mut config = config.clone();
        config.http.host = [127, 0, 0, 1].into();
        config.http.port = 0;
        config.access = config.access.open();
        config.telemetry.log_level = "warn".into();
        let process = ProcessContext::new(config, "bench", "bench")?;
        let catcher = Arc::new(MailCatcher::start().await.context("can't start a mail server")?);

        let options = pool::connect_options(database.url(), PoolUse::Workers)?;
        let pool = pool::open(options, PoolUse::Workers, process.config.database.pool_size);
        let mailer = process.mailer(&MailTarget::Server(SecretUrl::new(catcher.url())))?;
        let shop = process.shop(pool.clone(), &mailer)?;
        for number in 0..PRODUCTS {
            let created = commands::create_product(&pool, product(number), "bench").await;
            created.context("can't create a product")?;
        }
        let socket = app::bind(&process.config.http, Service::ALL)?.listen()?;
        let client = Client::new(format!("http://{}/api/orders", socket.address));

        let quit = CancellationToken::new();
        let queues = QUEUES.map(ToOwned::to_owned);
        let serving = app::serve(&process, &shop, &mailer, socket, quit.clone());
        let working = app::work(&process, &shop, &queues, quit.clone());
        let running = Self { client, catcher, shop: shop.clone(), breakers: process.breakers.clone() };
        let measuring = async {
            let measured = measure(&running).await;
            quit.cancel();
            measured
        };
        let (served, worked, measured) = tokio::join!(serving, working, measuring);
        shop.engine().shutdown().await;
        pool.close().await;
        served.map_err(|error| anyhow::anyhow!("{error}"))?;
        worked?;
        measured
    }
}

fn product(number: u128) -> NewProduct {
    NewProduct {
        sku: sku(number),
        name: format!("Bench product {number}"),
        description: String::new(),
        category: "bench".into(),
        price: 1290,
        currency: "EUR".into(),
        initial_stock: STOCK,
        low_stock_threshold: 0,
    }
}

fn sku(number: u128) -> String {
    format!("BENCH-{number}")
}

/// An HTTP client that places orders.
#[derive(Clone)]
pub(super) struct Client {
    http: HttpClient,
    url: String,
}

impl Client {
    fn new(url: String) -> Self {
        Self { http: HttpClient::new(HTTP_TIMEOUT), url }
    }

    /// Places one order of two lines and waits until its saga has ended.
    pub(super) async fn place(&self) -> anyhow::Result<()> {
        let customer = Uuid::now_v7();
        let (first, second) = (customer.as_u128() % PRODUCTS, (customer.as_u128() >> 8) % PRODUCTS);
        let order = json!({
            "customer_id": customer,
            "customer_email": "bench@example.com",
            "items": [{"sku": sku(first), "quantity": 1}, {"sku": sku(second), "quantity": 2}],
        });
        let mut request = http_client::json_request(Method::POST, &self.url, &order)?;
        request.headers_mut().insert("prefer", HeaderValue::from_static("wait=30"));
        let answer = self.http.send(request).await?;
        let (status, text) = (answer.status(), http_client::text(&answer)?);
        ensure!(status.is_success(), "an order was answered {status}: {text}");
        let order: Value = serde_json::from_str(text)?;
        ensure!(order["status"] == "confirmed", "an order is {} instead of confirmed", order["status"]);
        Ok(())
    }
}
