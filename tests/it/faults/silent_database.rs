//! Database connections that silently died, as behind an address that another server took over.

use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
};

use super::test_cluster::{TestCluster, at_least};
use crate::support::Database;

/// A proxy to a database that can silently drop the traffic of its connections.
struct Proxy {
    url: String,
    generation: watch::Sender<u64>,
}

impl Proxy {
    async fn to(url: &str) -> Self {
        let target = PgConnectOptions::from_str(url).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (user, database) = (target.get_username(), target.get_database().unwrap());
        let url = format!("postgres://{user}@127.0.0.1:{port}/{database}?sslmode=disable");
        let (generation, now) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((here, _)) = listener.accept().await {
                let (target, mut now) = (target.clone(), now.clone());
                tokio::spawn(async move {
                    let born = *now.borrow_and_update();
                    let dropped = async {
                        if now.wait_for(|generation| *generation != born).await.is_err() {
                            std::future::pending::<()>().await;
                        }
                    };
                    if let Some(dir) = target.get_socket() {
                        let path = dir.join(format!(".s.PGSQL.{}", target.get_port()));
                        pass(here, UnixStream::connect(path).await.unwrap(), dropped).await;
                    } else {
                        let there = TcpStream::connect((target.get_host(), target.get_port())).await.unwrap();
                        pass(here, there, dropped).await;
                    }
                });
            }
        });
        Self { url, generation }
    }

    /// Drops the traffic of all existing connections from now on; new ones work.
    fn drop_traffic(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }
}

/// Forwards both directions until one side closes. While traffic is dropped, both stay open and receive nothing.
async fn pass(
    mut here: TcpStream,
    mut there: impl AsyncRead + AsyncWrite + Unpin,
    dropped: impl Future<Output = ()>,
) {
    tokio::select! {
        _ = copy_bidirectional(&mut here, &mut there) => {}
        () = dropped => std::future::pending().await,
    }
}

#[tokio::test]
async fn events_continue_over_new_connections_and_the_process_can_be_stopped() {
    let database = Database::durable().await;
    let proxy = Proxy::to(&database.url()).await;
    let test = TestCluster::on(database.url()).await;
    let mut worker = test.start(&["work"], &[("DATABASE_URL", &proxy.url)]);
    worker.wait_for_line(r#""message":"working""#).await;
    let append = "insert into shop.outbox (routing_key, key, payload) values ('product.updated', 'k', '{}')";
    test.arrange(append).await;
    let numbered = "select last_event_id from shop.event_log";
    at_least("the first event", 1, || test.count(numbered)).await;
    proxy.drop_traffic();
    test.arrange(append).await;
    at_least("an event after the drop", 2, || test.count(numbered)).await;

    proxy.drop_traffic();
    worker.sigterm();
    // The process reports it if stopping takes too long.
    let status = worker.wait().await;
    assert_eq!(status.code(), Some(0), "{status}:\n{}", worker.output());
}
