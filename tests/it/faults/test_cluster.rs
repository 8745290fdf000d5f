//! A shop of several processes on one database, and what a test can observe of it.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::future::Future;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use devkit::mail_catcher::MailCatcher;
use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use uuid::Uuid;

use crate::support::{Database, Process, WAIT_TIMEOUT, as_owner};

/// The interval at which conditions are polled.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The settings of every process unless a test overrides them.
const SETTINGS: [(&str, &str); 9] = [
    ("AUTH", "off"),
    ("DATABASE_POOL_SIZE", "8"),
    ("PORT", "0"),
    ("WORK_PORT", "0"),
    ("LEASE_SECONDS", "1"),
    ("RETRY_SEND_MAIL_FIRST_DELAY_MS", "50"),
    ("RETRY_SEND_MAIL_MAX_DELAY_MS", "500"),
    ("BREAKER_SMTP_FAILURES", "1000000"),
    ("LOG_FORMAT", "json"),
];

/// One database and one mail server, for any number of processes.
pub(super) struct TestCluster {
    pub(super) url: String,
    pub(super) pool: PgPool,
    pub(super) catcher: MailCatcher,
    settings: Vec<(String, String)>,
    _database: Option<Database>,
}

impl TestCluster {
    pub(super) async fn open() -> Self {
        let database = Database::durable().await;
        let url = database.url();
        Self { _database: Some(database), ..Self::on(url).await }
    }

    /// On a given server.
    pub(super) async fn on(url: String) -> Self {
        let pool = PgPoolOptions::new().max_connections(4).connect_lazy(&url).unwrap();
        let catcher = MailCatcher::start().await.unwrap();
        let mut settings = owned(&SETTINGS);
        settings.extend(owned(&[("DATABASE_URL", &url), ("SMTP_URL", &catcher.url())]));
        Self { url, pool, catcher, settings, _database: None }
    }

    /// Sets a variable for every process that is started from now on.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.settings.extend(owned(&[(name, value)]));
    }

    pub(super) fn start(&self, args: &[&str], more: &[(&str, &str)]) -> Process {
        let settings = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let env: Vec<(&str, &str)> = settings.chain(more.iter().copied()).collect();
        Process::sagaline(args, &env)
    }

    /// Starts a worker of all queues and waits until it is ready.
    pub(super) async fn work(&self) -> Process {
        let process = self.start(&["work"], &[]);
        process.wait_for_line(r#""message":"working""#).await;
        process
    }

    /// Starts a worker of all queues with its health and metrics, and waits until it is ready.
    pub(super) async fn worker(&self) -> HttpProcess {
        Self::once_it_says(self.start(&["work"], &[]), r#""message":"working""#).await
    }

    /// Starts a worker that kills itself at a fail point.
    pub(super) fn work_until(&self, fail_point: &str) -> Process {
        self.start(&["work"], &[("SAGALINE_FAILPOINT", fail_point)])
    }

    /// Starts a server of all services and waits until it is ready.
    pub(super) async fn serve(&self) -> HttpProcess {
        Self::once_it_serves(self.start(&["serve"], &[])).await
    }

    /// Starts a server of one service on a free port and waits until it is ready.
    pub(super) async fn serve_service(&self, service: &str) -> HttpProcess {
        let port = format!("{}_PORT", service.to_ascii_uppercase());
        Self::once_it_serves(self.start(&["serve", "--service", service], &[(&port, "0")])).await
    }

    async fn once_it_serves(process: Process) -> HttpProcess {
        Self::once_it_says(process, r#""message":"serving""#).await
    }

    async fn once_it_says(process: Process, sign: &str) -> HttpProcess {
        let line = process.wait_for_line(sign).await;
        let line: Value = serde_json::from_str(&line).unwrap();
        let base = format!("http://{}", line["address"].as_str().unwrap());
        let client = reqwest::Client::builder().timeout(WAIT_TIMEOUT).build().unwrap();
        HttpProcess { process, client: ApiClient { base, client } }
    }

    /// Runs the doctor on the database, and checks what must hold after every fault.
    pub(super) async fn assert_all_well(&self) {
        super::assert_all_well(&self.pool).await;
        let mut doctor = self.start(&["doctor"], &[]);
        let status = doctor.wait().await;
        assert_eq!(status.code(), Some(0), "{} is not well:\n{}", self.url, doctor.output());
    }

    /// Waits until no saga is active.
    pub(super) async fn wait_until_no_saga_is_active(&self) {
        let active = "select id::text || ' ' || definition || '/' || step || ' ' || direction || ', attempt ' || attempt \
                      from engine.saga where status in ('running', 'compensating') order by due_at limit 20";
        until("all sagas to have ended or be dead", || async {
            match sqlx::query_scalar::<_, String>(active).fetch_all(&self.pool).await {
                Ok(left) if left.is_empty() => Ok(()),
                Ok(left) => Err(format!("{left:?}")),
                Err(error) => Err(error.to_string()),
            }
        })
        .await;
    }

    /// Counts by a statement.
    pub(super) async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    /// How many sagas have a lease now.
    pub(super) async fn leased(&self) -> i64 {
        self.count("select count(*) from engine.saga where lease_owner is not null").await
    }

    /// How many calls are in progress, each with its claim committed.
    pub(super) async fn mails_under_way(&self) -> i64 {
        self.count("select count(*) from engine.saga where lease_owner is not null and step = 'send-mail'")
            .await
    }

    /// How many attempts were lost with their process, or because it was too slow.
    pub(super) async fn lost_attempts(&self) -> i64 {
        self.count("select count(*) from engine.history where outcome = 'lost'").await
    }

    /// The steps of a saga that took effect, in order; undos have a minus sign.
    pub(super) async fn effects(&self, saga_id: Uuid) -> Vec<String> {
        sqlx::query_scalar(
            "select case direction when 'undo' then '-' else '' end || step from engine.history \
             where saga_id = $1 and outcome = 'done' order by seq",
        )
        .bind(saga_id)
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }

    /// An order's status, its placement saga, and its reserved units.
    pub(super) async fn order(&self, order_id: Uuid) -> (String, Uuid, i64) {
        sqlx::query_as(
            "select o.status, o.workflow_id, (select coalesce(sum(r.quantity), 0)::bigint from shop.reservation r \
                                             where r.order_id = o.order_id and r.state = 'held') \
             from shop.orders o where o.order_id = $1",
        )
        .bind(order_id)
        .fetch_one(&self.pool)
        .await
        .unwrap()
    }

    /// The `Message-ID`s of mails with this business key that the database has as sent.
    pub(super) async fn sent_message_id(&self, business_key: &str) -> String {
        let found: Option<Option<String>> = sqlx::query_scalar(
            "select n.message_id from engine.saga s join shop.notification n on n.notification_id = s.id \
             where s.definition = 'deliver-notification' and s.business_key = $1",
        )
        .bind(business_key)
        .fetch_optional(&self.pool)
        .await
        .unwrap();
        found.flatten().unwrap_or_else(|| panic!("{business_key} was not sent"))
    }

    /// Compares the mails that arrived with those that the database has as sent: each at least once, no others, and
    /// each with one `Message-ID`. Returns how many arrived again.
    pub(super) async fn assert_mails_are_those_that_were_sent(&self) -> usize {
        let sent: Vec<(String, String)> = sqlx::query_as(
            "select message_id, recipient from shop.notification where status = 'sent' order by message_id",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap();
        let messages = self.catcher.messages();
        let got: BTreeSet<(String, String)> =
            messages.iter().map(|message| (message.message_id().unwrap(), message.to.join(","))).collect();
        assert_eq!(got.iter().collect::<Vec<_>>(), sent.iter().collect::<Vec<_>>());
        messages.len() - got.len()
    }

    /// Runs `doing` while requests of a killed or disconnected server lose their `Idempotency-Key` after a second
    /// instead of a minute. Until then, repeated requests with that key are refused.
    pub(super) async fn with_keys_given_up_early<T>(&self, doing: impl Future<Output = T>) -> T {
        let giving_up = async {
            loop {
                // The database may be down; the next round does it.
                let _ = sqlx::query(
                    "update shop.idempotency_key set started_at = started_at - interval '1 minute' \
                     where status is null and started_at between now() - interval '1 minute' and now() - interval '1 second'",
                )
                .execute(&self.pool)
                .await;
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        tokio::select! {
            value = doing => value,
            () = giving_up => unreachable!("it has no end"),
        }
    }

    /// Executes a statement that no request could cause, as the owner of a database on the tests' server.
    pub(super) async fn arrange(&self, sql: &str) {
        as_owner(&self.pool, sql).await.unwrap();
    }
}

/// A process with an HTTP port.
pub(super) struct HttpProcess {
    pub(super) process: Process,
    pub(super) client: ApiClient,
}

/// The client of one process; clones share its connections.
#[derive(Clone)]
pub(super) struct ApiClient {
    base: String,
    client: reqwest::Client,
}

impl ApiClient {
    pub(super) async fn add_product(&self, sku: &str, initial_stock: i64) {
        let product = json!({
            "sku": sku, "name": sku, "category": "tea", "price": 1290, "currency": "EUR",
            "initial_stock": initial_stock, "low_stock_threshold": 0,
        });
        self.post_until_accepted("/api/products", &format!("sell {sku}"), &product).await;
    }

    /// Places an order and returns its id once it is acknowledged.
    pub(super) async fn place(&self, email: &str, sku: &str, quantity: i64) -> Uuid {
        let order = self
            .post_until_accepted("/api/orders", &Uuid::now_v7().to_string(), &order(email, sku, quantity))
            .await;
        id(&order, "order_id")
    }

    /// Starts a delivery and returns its saga's id.
    pub(super) async fn deliver(&self, to: &str) -> Uuid {
        let delivery = json!({
            "definition": "deliver-notification",
            "input": {"to": to, "subject": "Hello", "text": "Hello.\n"},
        });
        id(
            &self.post_until_accepted("/api/workflows", &Uuid::now_v7().to_string(), &delivery).await,
            "workflow_id",
        )
    }

    /// Sends one PUT.
    pub(super) async fn put(&self, path: &str, body: &Value) {
        self.send("PUT", path, body).await.error_for_status().unwrap();
    }

    /// Sends one request and returns the response, whatever its status.
    pub(super) async fn send(&self, method: &str, path: &str, body: &Value) -> reqwest::Response {
        let request = self.client.request(method.parse().unwrap(), format!("{}{path}", self.base));
        request.json(body).send().await.unwrap()
    }

    /// Cancels the order or workflow at this path.
    pub(super) async fn cancel(&self, path: &str) {
        self.post_until_accepted(&format!("{path}/cancel"), "", &json!({"reason": "changed my mind"})).await;
    }

    /// The text at a path.
    pub(super) async fn text(&self, path: &str) -> String {
        let answer = self.client.get(format!("{}{path}", self.base)).send().await.unwrap();
        answer.error_for_status().unwrap().text().await.unwrap()
    }

    /// The JSON at a path.
    pub(super) async fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.text(path).await).unwrap()
    }

    /// The status of a GET of a path.
    pub(super) async fn status(&self, path: &str) -> u16 {
        self.client.get(format!("{}{path}", self.base)).send().await.unwrap().status().as_u16()
    }

    /// Sends a GET and returns the response without reading its body.
    pub(super) async fn open(&self, path: &str) -> reqwest::Response {
        let answer = self.client.get(format!("{}{path}", self.base)).send().await.unwrap();
        answer.error_for_status().unwrap()
    }

    /// Posts until it is accepted, as a client does whose server is down or overloaded for a while.
    pub(super) async fn post_until_accepted(&self, path: &str, key: &str, body: &Value) -> Value {
        until(path, || self.once(path, key, body)).await
    }

    /// Posts once, with an `Idempotency-Key` unless it is empty.
    ///
    /// # Errors
    /// When there is no answer, or the answer asks to try again.
    pub(super) async fn once(&self, path: &str, key: &str, body: &Value) -> Result<Value, String> {
        let mut request = self.client.post(format!("{}{path}", self.base)).json(body);
        if !key.is_empty() {
            request = request.header("Idempotency-Key", key);
        }
        let answer = request.send().await.map_err(|error| format!("{error:?}"))?;
        let (status, text) = (answer.status(), answer.text().await.map_err(|error| format!("{error:?}"))?);
        let later = status.is_server_error() || status == StatusCode::CONFLICT;
        assert!(status.is_success() || later, "{path}: {status} {text}");
        if later { Err(text) } else { Ok(serde_json::from_str(&text).unwrap()) }
    }
}

/// The JSON of an order.
pub(super) fn order(email: &str, sku: &str, quantity: i64) -> Value {
    json!({
        "customer_id": Uuid::now_v7(), "customer_email": email,
        "items": [{"sku": sku, "quantity": quantity}],
    })
}

pub(super) fn id(json: &Value, name: &str) -> Uuid {
    json[name].as_str().and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("no {name}: {json}"))
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

/// Waits until a count reaches `least`.
pub(super) async fn at_least<F: Future<Output = i64>>(what: &str, least: i64, count: impl Fn() -> F) {
    until(what, || async {
        let now = count().await;
        if now >= least { Ok(()) } else { Err(format!("{now} of {least}")) }
    })
    .await;
}

/// Waits until a process has killed itself at its fail point.
pub(super) async fn died_at_its_fail_point(mut process: Process) {
    let status = process.wait().await;
    assert_eq!(status.signal(), Some(nix::libc::SIGABRT), "{status}:\n{}", process.output());
    assert!(process.output().contains("the fail point was reached"), "{}", process.output());
}

/// Sends SIGTERM and checks that the process stops in order.
pub(super) async fn stops_cleanly(mut process: Process) {
    process.sigterm();
    let status = process.wait().await;
    assert_eq!(status.code(), Some(0), "{status}:\n{}", process.output());
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
