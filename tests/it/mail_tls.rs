//! Mail over TLS: the URL's mode is used, and no mail or password is sent in clear text where TLS is required.

use std::sync::Arc;

use engine::Engine;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use shop::{
    Shop,
    commands::{self, SendNotification},
    mail::{MailError, Mailer},
    notifications::{DeliverNotification, NotificationStatus},
    sagas::{self, Settings},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};
use uuid::Uuid;

use crate::support::{Database, Process, WAIT_TIMEOUT, a_mail};

/// The TLS mode of the server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TlsMode {
    /// TLS from the first byte.
    ImplicitTls,
    /// Clear text first, then STARTTLS.
    StartTls,
    /// Clear text only.
    Plain,
}

/// The lines that a client sent, each with whether it was sent under TLS.
type Received = Vec<(bool, String)>;

/// A mail server for `localhost` with a self-signed certificate.
struct SecureServer {
    port: u16,
    received: watch::Receiver<Received>,
    dir: TempDir,
}

impl SecureServer {
    async fn start(tls_mode: TlsMode) -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let config =
            ServerConfig::builder().with_no_client_auth().with_single_cert(vec![cert.der().clone()], key);
        let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), cert.pem()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (received_tx, received) = watch::channel(Received::new());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, received_tx) = (acceptor.clone(), received_tx.clone());
                // A client may disconnect at any time; some tests provoke that.
                tokio::spawn(async move { serve(stream, tls_mode, &acceptor, &received_tx).await });
            }
        });
        Self { port, received, dir }
    }

    fn authority(&self) -> String {
        self.dir.path().join("ca.pem").display().to_string()
    }

    /// The received lines that begin with this text.
    fn received(&self, start: &str) -> Received {
        self.received.borrow().iter().filter(|(_, line)| line.starts_with(start)).cloned().collect()
    }
}

async fn serve(
    stream: TcpStream,
    tls_mode: TlsMode,
    acceptor: &TlsAcceptor,
    received_tx: &watch::Sender<Received>,
) -> std::io::Result<()> {
    if tls_mode == TlsMode::ImplicitTls {
        return talk(acceptor.accept(stream).await?, true, "AUTH PLAIN", true, received_tx).await.map(drop);
    }
    let offer = if tls_mode == TlsMode::StartTls { "STARTTLS" } else { "8BITMIME" };
    match talk(stream, false, offer, true, received_tx).await? {
        Some(stream) => {
            talk(acceptor.accept(stream).await?, true, "AUTH PLAIN", false, received_tx).await.map(drop)
        }
        None => Ok(()),
    }
}

/// Speaks SMTP until the client disconnects or starts TLS; then returns the stream.
async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    is_secure: bool,
    offer: &str,
    greets: bool,
    received_tx: &watch::Sender<Received>,
) -> std::io::Result<Option<S>> {
    let mut stream = BufReader::new(stream);
    if greets {
        stream.write_all(b"220 localhost ESMTP\r\n").await?;
    }
    let (mut line, mut in_data) = (String::new(), false);
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let text = line.trim_end().to_owned();
        if in_data && text != "." {
            continue;
        }
        received_tx.send_modify(|received| received.push((is_secure, text.clone())));
        let verb = text.split(' ').next().unwrap_or_default().to_ascii_uppercase();
        let reply = match verb.as_str() {
            "EHLO" => format!("250-localhost\r\n250 {offer}"),
            "AUTH" => "235 welcome".into(),
            "STARTTLS" => "220 go ahead".into(),
            "DATA" => "354 go on".into(),
            "." => "250 taken".into(),
            _ => "250 OK".into(),
        };
        stream.write_all(format!("{reply}\r\n").as_bytes()).await?;
        stream.flush().await?;
        in_data = verb == "DATA";
        if verb == "STARTTLS" {
            return Ok(Some(stream.into_inner()));
        }
    }
}

/// Lets a real worker send one mail through this server.
async fn deliver(server: &SecureServer, url: &str) {
    let database = Database::fresh().await;
    let mails = tempfile::tempdir().unwrap();
    let here = Mailer::files(mails.path(), "shop@example.com").unwrap();
    let builder = Engine::builder(database.pool().await);
    let definitions = sagas::definitions(Settings::new(here)).unwrap();
    let engine = definitions.into_iter().fold(builder, engine::EngineBuilder::register).build().unwrap();
    let (database_url, authority) = (database.url(), server.authority());
    let _worker = Process::sagaline(
        &["work"],
        &[("DATABASE_URL", &database_url), ("SMTP_URL", url), ("SSL_CERT_FILE", &authority)],
    );
    let shop = Shop::new(engine);
    let message = DeliverNotification {
        to: "ann@example.com".into(),
        subject: "Hello".into(),
        text: "Hello.".into(),
        html: None,
    };
    let request = SendNotification { notification_id: Uuid::now_v7(), message, dedup_key: None };
    let sent = commands::send_notification(&shop, request, Some(WAIT_TIMEOUT), "test", None)
        .await
        .unwrap()
        .notification;
    assert_eq!(sent.status, NotificationStatus::Sent, "{:?}", sent.attempts);
    assert_eq!(sent.attempts.last().unwrap().reply.as_deref(), Some("250 taken"));
}

/// `user` and `p@ss` encoded for AUTH PLAIN.
const LOGIN: &str = "AUTH PLAIN AHVzZXIAcEBzcw==";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_logs_in_and_sends_over_tls_from_the_first_byte() {
    let server = SecureServer::start(TlsMode::ImplicitTls).await;
    deliver(&server, &format!("smtps://user:p%40ss@localhost:{}", server.port)).await;
    assert_eq!(server.received("AUTH"), [(true, LOGIN.to_owned())]);
    assert_eq!(server.received(".").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_starts_tls_before_it_authenticates() {
    let server = SecureServer::start(TlsMode::StartTls).await;
    let url = format!("smtp://user:p%40ss@localhost:{}/shop.example.com?tls=required", server.port);
    deliver(&server, &url).await;
    assert_eq!(server.received("AUTH"), [(true, LOGIN.to_owned())]);
    for verb in ["MAIL", "RCPT", "DATA"] {
        let received = server.received(verb);
        assert!(received.len() == 1 && received[0].0, "{verb}: {received:?}");
    }
    assert!(server.received("EHLO").iter().all(|(_, text)| text == "EHLO shop.example.com"));
}

#[tokio::test]
async fn a_server_without_tls_gets_neither_mail_nor_password_where_tls_is_required() {
    let server = SecureServer::start(TlsMode::Plain).await;
    let url = format!("smtp://user:p%40ss@localhost:{}?tls=required", server.port);
    let mailer = Mailer::smtp(&url, "shop@example.com").unwrap();
    assert!(matches!(mailer.send(&a_mail()).await, Err(MailError::Temporary { .. })));
    for verb in ["AUTH", "MAIL", "DATA"] {
        assert_eq!(server.received(verb), [], "{verb}");
    }
    let url = format!("smtp://localhost:{}?tls=opportunistic", server.port);
    Mailer::smtp(&url, "shop@example.com").unwrap().send(&a_mail()).await.unwrap();
    assert_eq!(server.received("MAIL").len(), 1);
}

#[tokio::test]
async fn an_untrusted_certificate_is_refused() {
    for (tls_mode, url) in
        [(TlsMode::ImplicitTls, "smtps://localhost"), (TlsMode::StartTls, "smtp://localhost")]
    {
        let server = SecureServer::start(tls_mode).await;
        let query = if tls_mode == TlsMode::StartTls { "?tls=opportunistic" } else { "" };
        let mailer = Mailer::smtp(&format!("{url}:{}{query}", server.port), "shop@example.com").unwrap();
        let refused = mailer.send(&a_mail()).await.unwrap_err();
        assert!(
            refused.is_retryable() && refused.sentence().contains("certificate"),
            "{}",
            refused.sentence()
        );
        assert_eq!(server.received("MAIL"), []);
    }
}

#[tokio::test]
async fn a_url_with_unknown_parameters_is_refused_without_showing_its_password() {
    for url in ["smtp://user:hunter2@localhost?tls=perhaps", "http://user:hunter2@localhost", "smtp://"] {
        let error = Mailer::smtp(url, "shop@example.com").unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
