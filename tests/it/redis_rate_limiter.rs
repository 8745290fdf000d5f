//! The rate limiter that processes share through Redis.

use std::{net::SocketAddr, num::NonZeroU32, path::Path, sync::Arc, time::Duration};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use shop::{
    commands,
    keys::{KeyRole, NewKey},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};
use workers::RedisRateLimiter;

use crate::{
    it::keys_cli,
    support::{Database, Process, RedisServer, WAIT_TIMEOUT},
};

const HOUR: Duration = Duration::from_hours(1);

/// Two calls, as the number of a rate.
fn two() -> NonZeroU32 {
    NonZeroU32::new(2).unwrap()
}

#[tokio::test]
async fn two_processes_empty_one_bucket() {
    let redis = RedisServer::start().await.unwrap();
    let (one, other) =
        (RedisRateLimiter::new(&redis.url()).unwrap(), RedisRateLimiter::new(&redis.url()).unwrap());
    // The first connection may take longer than a call is allowed to wait.
    for rates in [&one, &other] {
        connected(rates).await;
    }
    let counted = counted_by_redis(async |bucket| {
        let mut seen = Vec::new();
        for rates in [&one, &other, &one, &other] {
            let taken = rates.take(&bucket, two(), HOUR).await?;
            seen.push((taken.remaining, taken.wait.is_some()));
        }
        let wait = one.take(&bucket, two(), HOUR).await?.wait;
        Some((seen, wait, one.take(&format!("{bucket}-beside"), two(), HOUR).await?.remaining))
    });
    let (seen, wait, beside) = counted.await;
    assert_eq!(seen, [(1, false), (0, false), (0, true), (0, true)]);
    assert!(wait.is_some_and(|wait| wait <= HOUR && wait > HOUR / 2), "{wait:?}");
    assert_eq!(beside, 1);
}

/// Counts calls in fresh buckets until Redis has answered each of them in time. The limiter does not wait for a late
/// answer, and then it is unknown whether the call was counted.
async fn counted_by_redis<T>(mut count: impl AsyncFnMut(String) -> Option<T>) -> T {
    let counted = async {
        let mut round = 0;
        loop {
            if let Some(counted) = count(format!("key:{round}")).await {
                return counted;
            }
            round += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(WAIT_TIMEOUT, counted).await.expect("Redis answers")
}

#[tokio::test]
async fn a_bucket_is_refilled() {
    let redis = RedisServer::start().await.unwrap();
    let rates = RedisRateLimiter::new(&redis.url()).unwrap();
    let has_to_wait = async || {
        let taken = rates.take("key:a", two(), Duration::from_secs(2)).await;
        taken.map(|taken| taken.wait.is_some())
    };
    let again = async {
        while has_to_wait().await != Some(true) {}
        while has_to_wait().await != Some(false) {}
    };
    tokio::time::timeout(WAIT_TIMEOUT, again).await.expect("a token is regained");
}

#[tokio::test]
async fn an_unreachable_redis_gives_no_decision_and_is_asked_again_when_it_is_back() {
    let mut redis = RedisServer::start().await.unwrap();
    let rates = RedisRateLimiter::new(&redis.url()).unwrap();
    connected(&rates).await;
    redis.kill();
    assert_eq!(rates.take("key:a", two(), HOUR).await, None);
    redis.restart().await.unwrap();
    let taken = counted_by_redis(async |bucket| rates.take(&bucket, two(), HOUR).await).await;
    assert_eq!(taken.wait, None);
}

async fn connected(rates: &RedisRateLimiter) {
    let connected = async {
        while rates.take("probe", NonZeroU32::MAX, Duration::from_micros(1)).await.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(WAIT_TIMEOUT, connected).await.expect("Redis is there");
}

#[tokio::test]
async fn two_servers_share_the_rate_limit_of_a_key() {
    let redis = RedisServer::start().await.unwrap();
    let url = redis.url();
    two_servers_count_together([&url, &url], None).await;
}

#[tokio::test]
async fn the_shared_rate_limit_works_over_tls() {
    let redis = RedisServer::start().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let authority = dir.path().join("ca.pem");
    let url = redis.url();
    let behind = url.strip_prefix("redis://").unwrap().parse().unwrap();
    let port = speak_tls_before(behind, &authority).await;
    two_servers_count_together([&url, &format!("rediss://localhost:{port}")], Some(&authority)).await;
}

/// Starts two servers, each connected to the same Redis, and calls both in turn with one key.
async fn two_servers_count_together(urls: [&str; 2], authority: Option<&Path>) {
    let database = Database::fresh().await;
    let (pool, database_url) = (database.pool().await, database.url());
    make_key(&pool).await;
    let authority = authority.map(|authority| authority.display().to_string());
    let serve = |redis_url: &str| {
        let mut env = vec![
            ("DATABASE_URL", database_url.as_str()),
            ("PORT", "0"),
            ("LOG_FORMAT", "json"),
            ("RATE_LIMIT_PER_KEY", "5/h"),
            ("RATE_LIMIT_PER_ADDRESS", "off"),
            ("REDIS_URL", redis_url),
        ];
        env.extend(authority.as_deref().map(|file| ("SSL_CERT_FILE", file)));
        Process::sagaline(&["serve"], &env)
    };
    let servers = urls.map(serve);
    let bases = [keys_cli::base(&servers[0]).await, keys_cli::base(&servers[1]).await];
    // A call that Redis does not answer within 100 ms is counted by the server alone; then the test is repeated.
    let counted_together = async {
        loop {
            let token = make_key(&pool).await;
            let mut statuses = Vec::new();
            for base in bases.iter().cycle().take(7) {
                let call = reqwest::Client::new().get(format!("{base}/api/orders")).bearer_auth(&token);
                statuses.push(call.send().await.unwrap().status().as_u16());
            }
            if statuses == [200, 200, 200, 200, 200, 429, 429] {
                return;
            }
        }
    };
    tokio::time::timeout(WAIT_TIMEOUT, counted_together).await.expect("both servers count in one bucket");
}

async fn make_key(pool: &sqlx::PgPool) -> String {
    let new = NewKey { name: "web".into(), role: KeyRole::Read, life: None };
    commands::create_key(pool, &new, None, &"test".into()).await.unwrap().1.expose()
}

/// Terminates TLS for `localhost` and forwards to a server without TLS; writes the certificate to `authority`.
async fn speak_tls_before(server: SocketAddr, authority: &Path) -> u16 {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![cert.der().clone()], key);
    let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
    std::fs::write(authority, cert.pem()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut secured = acceptor.accept(stream).await?;
                let mut plain = TcpStream::connect(server).await?;
                tokio::io::copy_bidirectional(&mut secured, &mut plain).await
            });
        }
    });
    port
}
