//! A proxy between processes and a database, as an address that can lead to another server.

use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
};

/// A proxy to a database. It can lead to another one, and silently drop the traffic of its connections.
pub(super) struct Proxy {
    pub(super) url: String,
    target: watch::Sender<PgConnectOptions>,
    generation: watch::Sender<u64>,
}

impl Proxy {
    pub(super) async fn to(url: &str) -> Self {
        let target = PgConnectOptions::from_str(url).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (user, database) = (target.get_username(), target.get_database().unwrap());
        let url = format!("postgres://{user}@127.0.0.1:{port}/{database}?sslmode=disable");
        let (target, leads_to) = watch::channel(target);
        let (generation, now) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((here, _)) = listener.accept().await {
                tokio::spawn(forward(here, leads_to.borrow().clone(), now.clone()));
            }
        });
        Self { url, target, generation }
    }

    /// Leads new connections to another server.
    pub(super) fn lead_to(&self, url: &str) {
        self.target.send_replace(PgConnectOptions::from_str(url).unwrap());
    }

    /// Drops the traffic of all existing connections from now on; new ones work.
    pub(super) fn drop_traffic(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }
}

/// Connects to the target; a connection to a server that is down is closed.
async fn forward(here: TcpStream, target: PgConnectOptions, mut now: watch::Receiver<u64>) {
    let born = *now.borrow_and_update();
    let dropped = async {
        if now.wait_for(|generation| *generation != born).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    if let Some(dir) = target.get_socket() {
        let path = dir.join(format!(".s.PGSQL.{}", target.get_port()));
        if let Ok(there) = UnixStream::connect(path).await {
            pass(here, there, dropped).await;
        }
    } else if let Ok(there) = TcpStream::connect((target.get_host(), target.get_port())).await {
        pass(here, there, dropped).await;
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
