//! Stopping servers: they first report not ready, then close, and no request is lost.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use reqwest::{Method, StatusCode};
use serde_json::Value;
use uuid::Uuid;

use super::deployment::{Deployment, HttpProcess, order, until};
use crate::support::Process;

/// Waits until a server reports that it is about to stop.
async fn drains(process: &HttpProcess) {
    until("the server to say that it is not ready", || async {
        let answer = process.get("/health/ready").await;
        let status = answer.status();
        let health: Value = answer.json().await.unwrap();
        let is_draining = status == StatusCode::SERVICE_UNAVAILABLE && health["status"] == "draining";
        if is_draining { Ok(()) } else { Err(health) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_server_reports_not_ready_first_and_continues_to_serve() {
    let mut deployment = Deployment::new().await;
    deployment.set("DRAIN_DELAY", "5m");
    let mut server = deployment.serve(&[]).await;
    server.add_product("TEA-1", 5).await;
    let health = deployment.start(&["health", &format!("{}/health/ready", server.base)]).wait().await;
    assert_eq!(health.code(), Some(0));
    server.process.sigterm();
    drains(&server).await;

    let mut health = deployment.start(&["health", &format!("{}/health/ready", server.base)]);
    assert_eq!(health.wait().await.code(), Some(1));
    assert!(health.output().contains("draining"), "{}", health.output());
    assert_eq!(server.get("/health/live").await.status(), 200);
    let answer = server.ordering("TEA-1", 1).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    // New connections, which a load balancer would open to another server.
    assert_eq!(answer.headers()["connection"], "close");
    server.process.kill9().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_waits_with_the_current_state() {
    let deployment = Deployment::new().await;
    let server = deployment.serve(&[]).await;
    server.add_product("TEA-1", 5).await;
    // No worker runs: this request would wait longer than a stop lets requests finish.
    let waiting = tokio::spawn(server.ordering("TEA-1", 1).header("Prefer", "wait=30").send());
    let pool = deployment.database.pool().await;
    until("the order to be stored", || async {
        let orders: i64 =
            sqlx::query_scalar("select count(*) from shop.orders").fetch_one(&pool).await.unwrap();
        if orders == 1 { Ok(()) } else { Err(orders) }
    })
    .await;
    let ended = server.stops_cleanly().await;
    let answer = waiting.await.unwrap().unwrap();
    assert_eq!(answer.status(), 201);
    assert_eq!(answer.json::<Value>().await.unwrap()["status"], "pending");
    assert!(ended.output().contains(r#""cut":0"#), "{}", ended.output());
}

#[tokio::test]
async fn a_server_refuses_connections_until_it_can_serve() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let env = [
        // No server listens there: the process waits for its database.
        ("DATABASE_URL", "postgres://127.0.0.1:1/shop"),
        ("DATABASE_WAIT", "1h"),
        ("AUTH", "off"),
        ("PORT", &free.port().to_string()),
    ];
    let mut server = Process::sagaline(&["serve"], &env);
    server.wait_for_line("the database does not answer yet").await;
    // nginx asks another replica then, instead of waiting for one that may never serve.
    let refused = tokio::net::TcpStream::connect(free).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    server.kill9().await;
}

/// Balances load between two servers, each in or out of rotation.
struct Balancer {
    places: [Mutex<String>; 2],
    out: [AtomicBool; 2],
    turn: AtomicUsize,
}

impl Balancer {
    /// The next replica in turn that is not out.
    fn pick(&self) -> usize {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % 2;
        if self.out[turn].load(Ordering::SeqCst) { 1 - turn } else { turn }
    }

    fn url(&self, place: usize) -> String {
        format!("{}/api/orders", self.places[place].lock().unwrap())
    }
}

/// Places orders until it is stopped. Only a refused connection is retried, at the other server.
async fn customer(balancer: Arc<Balancer>, stop: Arc<AtomicBool>) -> Vec<Uuid> {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut orders = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let place = balancer.pick();
        let send = |place: usize| client.post(balancer.url(place)).json(&order("TEA-1", 1)).send();
        let answer = match send(place).await {
            Err(error) if error.is_connect() => send(1 - place).await,
            answer => answer,
        };
        let answer = answer.unwrap_or_else(|error| panic!("after {} orders: {error:?}", orders.len()));
        let status = answer.status();
        let body: Value = answer.json().await.unwrap();
        assert_eq!(status, StatusCode::CREATED, "{body}");
        orders.push(body["order_id"].as_str().unwrap().parse().unwrap());
    }
    orders
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_two_servers_restart_in_turn_under_load() {
    let mut deployment = Deployment::new().await;
    // Far longer than it takes to notice that a server is no longer ready, and longer than a request.
    deployment.set("DRAIN_DELAY", "6s");
    let worker = deployment.work().await;
    let mut servers = [Some(deployment.serve(&[]).await), Some(deployment.serve(&[]).await)];
    servers[0].as_ref().unwrap().add_product("TEA-1", 1_000_000).await;
    let base = |server: &Option<HttpProcess>| Mutex::new(server.as_ref().unwrap().base.clone());
    let balancer = Arc::new(Balancer {
        places: [base(&servers[0]), base(&servers[1])],
        out: [AtomicBool::new(false), AtomicBool::new(false)],
        turn: AtomicUsize::new(0),
    });
    let stop = Arc::new(AtomicBool::new(false));
    let customers: Vec<_> =
        (0..4).map(|_| tokio::spawn(customer(Arc::clone(&balancer), Arc::clone(&stop)))).collect();
    let pool = deployment.database.pool().await;
    for round in 0..2 {
        for place in [0, 1] {
            let taken = more_orders(&pool, 0).await;
            more_orders(&pool, taken).await;
            let old = servers[place].take().unwrap();
            old.process.sigterm();
            drains(&old).await;
            balancer.out[place].store(true, Ordering::SeqCst);
            let mut old = old.process;
            assert_eq!(old.wait().await.code(), Some(0), "round {round}: {}", old.output());
            assert!(old.output().contains(r#""cut":0"#), "{}", old.output());
            let new = deployment.serve(&[]).await;
            balancer.places[place].lock().unwrap().clone_from(&new.base);
            balancer.out[place].store(false, Ordering::SeqCst);
            servers[place] = Some(new);
        }
    }
    stop.store(true, Ordering::SeqCst);
    let mut orders = Vec::new();
    for customer in customers {
        orders.extend(customer.await.unwrap());
    }
    let stored: i64 = sqlx::query_scalar("select count(*) from shop.orders").fetch_one(&pool).await.unwrap();
    assert_eq!(
        usize::try_from(stored).unwrap(),
        orders.len(),
        "each answer is one order, and each order was answered"
    );
    for server in servers.into_iter().flatten() {
        let found = server.request(Method::GET, &format!("/api/orders/{}", orders[0])).send().await.unwrap();
        assert_eq!(found.status(), 200);
        server.stops_cleanly().await;
    }
    worker.stops_cleanly().await;
}

/// Waits until there are more orders than `before`, and returns their number.
async fn more_orders(pool: &sqlx::PgPool, before: i64) -> i64 {
    until("more orders", || async {
        let orders: i64 =
            sqlx::query_scalar("select count(*) from shop.orders").fetch_one(pool).await.unwrap();
        if orders > before { Ok(orders) } else { Err(orders) }
    })
    .await
}
