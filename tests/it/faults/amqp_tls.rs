//! AMQP over TLS: a worker publishes to a RabbitMQ whose certificate it trusts, and sends nothing to another.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

use super::{
    event_targets::{bind, drain},
    test_cluster::{TestCluster, at_least, stops_cleanly, until},
};
use crate::support::RabbitServer;

const TELL: &str = "insert into shop.outbox (routing_key, key, payload) values ('order.created', 'k', '{}')";

/// Terminates TLS for a broker, as `localhost` with a self-signed certificate.
struct Wrapping {
    port: u16,
    dir: TempDir,
    /// Connection attempts, and those on which the TLS handshake succeeded.
    tried: Arc<AtomicU32>,
    agreed: Arc<AtomicU32>,
}

impl Wrapping {
    async fn of(rabbit: &RabbitServer) -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let config =
            ServerConfig::builder().with_no_client_auth().with_single_cert(vec![cert.der().clone()], key);
        let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), cert.pem()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, broker) = (listener.local_addr().unwrap().port(), rabbit.port());
        let (tried, agreed) = (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
        let counts = (tried.clone(), agreed.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, (tried, agreed)) = (acceptor.clone(), counts.clone());
                tokio::spawn(async move {
                    tried.fetch_add(1, Ordering::SeqCst);
                    // The handshake fails for a client that does not trust the certificate.
                    let mut near = acceptor.accept(stream).await?;
                    agreed.fetch_add(1, Ordering::SeqCst);
                    let mut far = TcpStream::connect(("127.0.0.1", broker)).await?;
                    copy_bidirectional(&mut near, &mut far).await
                });
            }
        });
        Self { port, dir, tried, agreed }
    }

    fn url(&self) -> String {
        format!("amqps://guest:guest@localhost:{}", self.port)
    }

    fn authority(&self) -> String {
        self.dir.path().join("ca.pem").display().to_string()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_publishes_over_tls_to_a_broker_with_a_trusted_certificate() {
    let rabbit = RabbitServer::start().await.unwrap();
    let wrapping = Wrapping::of(&rabbit).await;
    bind(&rabbit, &["order.*"]).await;
    let test = TestCluster::open().await;
    let worker =
        test.start(&["work"], &[("AMQP_URL", &wrapping.url()), ("SSL_CERT_FILE", &wrapping.authority())]);
    for _ in 0..300 {
        test.arrange(TELL).await;
    }
    let position = "select last_event_id from shop.event_consumer where name = 'amqp'";
    at_least("events", 300, || async {
        // The consumer is registered once the worker has started.
        sqlx::query_scalar(position).fetch_optional(&test.pool).await.unwrap().unwrap_or_default()
    })
    .await;
    let got: Vec<i64> = drain(&rabbit, "order.*").await.into_iter().map(|(id, ..)| id).collect();
    assert_eq!(got, (1..=300).collect::<Vec<_>>());
    assert_eq!(wrapping.agreed.load(Ordering::SeqCst), 1);
    stops_cleanly(worker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_sends_nothing_to_a_broker_with_an_untrusted_certificate() {
    let rabbit = RabbitServer::start().await.unwrap();
    let wrapping = Wrapping::of(&rabbit).await;
    let mut test = TestCluster::open().await;
    test.set("AMQP_URL", &wrapping.url());
    let worker = test.work().await;
    until("attempts", async || {
        let tried = wrapping.tried.load(Ordering::SeqCst);
        if tried >= 2 { Ok(()) } else { Err(tried) }
    })
    .await;
    worker.wait_for_line("events can't be published now").await;
    assert_eq!(wrapping.agreed.load(Ordering::SeqCst), 0);
    stops_cleanly(worker).await;
}
