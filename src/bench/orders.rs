//! Orders over HTTP, each until its saga has settled.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use api::Service;
use devkit::mail_catcher::MailCatcher;
use http::{HeaderValue, Method};
use serde_json::{Value, json};
use shop::{Shop, commands, inventory::NewProduct};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Arguments, load};
use crate::{
    app::{self, MailTarget, QUEUES, ThisProcess},
    config::{Config, SecretUrl},
    http_client::{self, HttpClient},
    pool::{self, PoolUse},
    scratch::Scratch,
    telemetry::Telemetry,
};

/// Enough products that an order's two lines seldom meet those of its neighbours, few enough that they sometimes do.
const PRODUCTS: u128 = 20;
/// Nobody buys a run empty.
const STOCK: i64 = 1_000_000_000;
const TIMEOUT: Duration = Duration::from_mins(1);

/// Places orders and measures how long each takes until it is settled.
///
/// # Errors
/// When a part can't be made, or does not quit.
pub(super) async fn run(
    config: &Config,
    arguments: &Arguments,
    scratch: &Scratch,
) -> anyhow::Result<load::Load> {
    in_house(config, scratch, async |house| {
        let client = house.client.clone();
        load::run(arguments, move || {
            let client = client.clone();
            async move { client.place().await }
        })
        .await
    })
    .await
}

/// A shop that is served and worked in this process.
pub(super) struct House {
    /// Places orders through the socket.
    pub(super) client: Client,
    /// Where mails go.
    pub(super) catcher: Arc<MailCatcher>,
    /// The shop.
    pub(super) shop: Shop,
    /// Has the circuit breakers.
    pub(super) process: ThisProcess,
}

/// Serves and works in this process while `measure` goes on; mails go to a mail server in this process.
///
/// # Errors
/// When a part can't be made, or does not quit, and what `measure` gives.
pub(super) async fn in_house<T>(
    config: &Config,
    scratch: &Scratch,
    measure: impl AsyncFnOnce(&House) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let mut config = config.clone();
    config.http.host = [127, 0, 0, 1].into();
    config.http.port = 0;
    config.access = config.access.open();
    config.telemetry.log_level = "warn".into();
    let telemetry = Telemetry::install(&config.telemetry, "bench")?;
    let catcher = Arc::new(MailCatcher::start().await.context("can't start a mail server")?);

    let options = pool::connect_options(scratch.url(), PoolUse::Workers)?;
    let pool = pool::open(options, PoolUse::Workers, config.database.pool_size);
    let process = ThisProcess::new(&config, "bench");
    let mailer = MailTarget::Server(SecretUrl::new(catcher.url())).mailer(&config, &process)?;
    let shop = app::shop(&config, pool.clone(), mailer.clone(), telemetry.trace_link())?;
    for number in 0..PRODUCTS {
        commands::create_product(&pool, product(number), "bench").await.context("can't make a product")?;
    }
    let socket = app::bind(&config.http, &Service::ALL)?.listen()?;
    let client = Client::new(format!("http://{}/api/orders", socket.address));

    let quit = CancellationToken::new();
    let queues = QUEUES.map(ToOwned::to_owned);
    let serving = app::serve(&config, &process, &shop, &mailer, &telemetry, socket, quit.clone());
    let working = app::work(&config, &process, &shop, &queues, quit.clone());
    let house = House { client, catcher, shop: shop.clone(), process: process.clone() };
    let calling = async {
        let measured = measure(&house).await;
        quit.cancel();
        measured
    };
    let (served, worked, measured) = tokio::join!(serving, working, calling);
    shop.engine().shutdown().await;
    pool.close().await;
    served.map_err(|failure| anyhow::anyhow!("{failure}"))?;
    worked?;
    measured
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

#[derive(Clone)]
pub(super) struct Client {
    http: HttpClient,
    url: String,
}

impl Client {
    fn new(url: String) -> Self {
        Self { http: HttpClient::new(TIMEOUT), url }
    }

    /// Places one order of two lines and waits until it is settled.
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
