//! A real SMTP server that keeps the messages it receives, for demonstrations and tests.
//!
//! It listens on a free loopback port and implements enough of RFC 5321 for every client. While it runs it can be
//! switched to faults that real mail servers show. Switching closes the open connections, as a restart would, so that a
//! client's pool does not keep connections with the old behaviour.

mod message;
mod session;

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::warn;

use session::Session;

pub use message::Message;

/// Connections that are served at once; more wait in the system's queue.
const MAX_CONNECTIONS: usize = 200;

/// How many `Message-ID`s are counted; later ones are not.
const MAX_ARRIVALS: usize = 5_000_000;

/// How many messages are kept; the oldest are dropped first.
const MAX_MESSAGES: usize = 100_000;

/// The pause after an accept that failed, for example for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How the server treats its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Behaviour {
    /// Takes every message.
    #[default]
    Accept,
    /// Accepts connections and sends nothing, not even its greeting.
    NeverGreet,
    /// Answers 451 at the stage: try again later.
    TemporaryFailure(Stage),
    /// Answers 550 at the stage: never try again.
    PermanentFailure(Stage),
    /// Answers with this reply at the stage. If it is positive, the server goes on as if it had answered as usual.
    Answer(Stage, &'static str),
    /// As [`Behaviour::Answer`], with bytes, which need not be UTF-8, up to the end of the last line.
    AnswerBytes(Stage, &'static [u8]),
    /// Takes every message, but does not offer SMTPUTF8.
    WithoutSmtpUtf8,
    /// Keeps the message and closes the connection without an answer, so the sender can't know whether it arrived.
    DropAfterData,
    /// Takes every message, and once it is confirmed says goodbye and closes the connection.
    GoodbyeAfterMail,
    /// Takes every message, but confirms it only after a pause.
    StallAfterData(Duration),
    /// Takes every message, but pauses before each byte that it sends.
    Trickle(Duration),
    /// Closes every connection at once.
    Refuse,
}

/// The point of a mail transaction at which a failure is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Instead of the greeting; after a negative one the connection is closed.
    Greeting,
    /// At `EHLO`.
    Hello,
    /// At the end of `AUTH`.
    LogIn,
    /// At `MAIL FROM`.
    Sender,
    /// At `RCPT TO`.
    Recipient,
    /// At `DATA`.
    DataCommand,
    /// At the end of the data.
    Data,
}

/// The running server; it ends when this is dropped.
#[derive(Debug)]
pub struct MailCatcher {
    address: SocketAddr,
    state: Arc<State>,
    _ends_with_this: DropGuard,
}

/// Which mails have arrived, including those that are no longer kept.
#[derive(Debug, Clone, Default)]
pub struct Arrivals {
    /// How often each `Message-ID` arrived.
    pub counts: HashMap<String, u32>,
    /// When the last one arrived.
    pub last: Option<Instant>,
}

/// The state that the connections share.
#[derive(Debug)]
struct State {
    behaviour: watch::Sender<Behaviour>,
    messages: watch::Sender<Vec<Message>>,
    arrivals: Mutex<Arrivals>,
    connections: AtomicUsize,
    open: AtomicUsize,
}

impl MailCatcher {
    /// Starts the server on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            behaviour: watch::Sender::new(Behaviour::Accept),
            messages: watch::Sender::new(Vec::new()),
            arrivals: Mutex::default(),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
        });
        let token = CancellationToken::new();
        let serving = serve(listener, Arc::clone(&state), token.clone());
        tokio::spawn(token.clone().run_until_cancelled_owned(serving));
        Ok(Self { address, state, _ends_with_this: token.drop_guard() })
    }

    /// The address that the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The value for `SMTP_URL`: SMTP without TLS.
    pub fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }

    /// Switches the behaviour and closes the open connections.
    pub fn behave(&self, behaviour: Behaviour) {
        self.state.behaviour.send_replace(behaviour);
    }

    /// The messages that were taken, the oldest first.
    pub fn messages(&self) -> Vec<Message> {
        self.state.messages.borrow().clone()
    }

    /// Which mails have arrived so far.
    pub fn arrivals(&self) -> Arrivals {
        self.state.arrivals.lock().clone()
    }

    /// Forgets the messages.
    pub fn clear(&self) {
        self.state.messages.send_replace(Vec::new());
    }

    /// Waits until at least `count` messages have arrived, and returns all of them.
    ///
    /// Waits forever if they don't arrive: put a time-out around it.
    pub async fn wait_for(&self, count: usize) -> Vec<Message> {
        let mut messages = self.state.messages.subscribe();
        // The sender lives in `self`, so the wait can't fail.
        messages
            .wait_for(|messages| messages.len() >= count)
            .await
            .map_or_else(|_| Vec::new(), |all| all.clone())
    }

    /// The number of connections so far, including refused ones.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// How many connections are open now.
    pub fn open_connections(&self) -> usize {
        self.state.open.load(Ordering::Relaxed)
    }
}

impl State {
    fn keep(&self, message: Message) {
        let mut arrivals = self.arrivals.lock();
        arrivals.last = Some(Instant::now());
        if let Some(id) = message.message_id().filter(|_| arrivals.counts.len() < MAX_ARRIVALS) {
            *arrivals.counts.entry(id).or_insert(0) += 1;
        }
        drop(arrivals);
        self.messages.send_modify(|messages| {
            if messages.len() >= MAX_MESSAGES {
                messages.remove(0);
            }
            messages.push(message);
        });
    }
}

async fn serve(listener: TcpListener, state: Arc<State>, token: CancellationToken) {
    let limit = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // The semaphore is never closed, so `acquire` can't fail.
    while let Ok(permit) = Arc::clone(&limit).acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "the mail catcher could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        state.connections.fetch_add(1, Ordering::Relaxed);
        state.open.fetch_add(1, Ordering::Relaxed);
        let (session, served) = (Session::new(stream, Arc::clone(&state)), Arc::clone(&state));
        let mut behaviour = state.behaviour.subscribe();
        let token = token.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = token.cancelled() => {}
                _ = behaviour.changed() => {}
                // An error here means that the client has disconnected.
                _ = session.run() => {}
            }
            served.open.fetch_sub(1, Ordering::Relaxed);
            drop(permit);
        });
    }
}
