//! A real SMTP server that keeps what it gets, for demonstrations and tests.
//!
//! It listens on a free loopback port, speaks enough of RFC 5321 for every client, and can be told while
//! it runs to behave as badly as mail servers do. A change of behaviour closes the open connections, as a
//! restart would, so that a client's pool doesn't carry the old behaviour on.

mod message;
mod session;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::warn;

pub use message::Message;

use session::Session;

/// Connections that are served at once; more wait in the system's queue.
const MAX_CONNECTIONS: usize = 200;

/// Messages that are kept; the oldest go first.
const MAX_MESSAGES: usize = 100_000;

/// How long a refused accept, for want of file descriptors, say, keeps the server from trying again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How the server treats its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Behaviour {
    /// Takes every message.
    #[default]
    Accept,
    /// Accepts connections and says nothing, not even its greeting.
    NeverGreet,
    /// Answers 451 at the stage: try again later.
    TemporaryFailure(Stage),
    /// Answers 550 at the stage: never try again.
    PermanentFailure(Stage),
    /// Keeps the message and closes the connection without an answer, so the sender can't know.
    DropAfterData,
    /// Takes every message, but pauses before each byte that it sends.
    Trickle(Duration),
    /// Closes every connection at once.
    Refuse,
}

/// The point of a mail transaction at which a failure is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// At `RCPT TO`.
    Recipient,
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

/// What the connections share.
#[derive(Debug)]
struct State {
    behaviour: watch::Sender<Behaviour>,
    messages: watch::Sender<Vec<Message>>,
    connections: AtomicUsize,
}

impl MailCatcher {
    /// Starts the server on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// When no port can be had.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            behaviour: watch::Sender::new(Behaviour::Accept),
            messages: watch::Sender::new(Vec::new()),
            connections: AtomicUsize::new(0),
        });
        let token = CancellationToken::new();
        let serving = serve(listener, Arc::clone(&state), token.clone());
        tokio::spawn(token.clone().run_until_cancelled_owned(serving));
        Ok(Self { address, state, _ends_with_this: token.drop_guard() })
    }

    /// Returns where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the URL for lettre's `from_url`: SMTP without TLS.
    pub fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }

    /// Switches the behaviour, and closes the connections that are open.
    pub fn behave(&self, behaviour: Behaviour) {
        self.state.behaviour.send_replace(behaviour);
    }

    /// Returns the messages that were taken, the oldest first.
    pub fn messages(&self) -> Vec<Message> {
        self.state.messages.borrow().clone()
    }

    /// Forgets the messages.
    pub fn clear(&self) {
        self.state.messages.send_replace(Vec::new());
    }

    /// Waits until at least `count` messages are there, and returns them all.
    ///
    /// Waits for ever if they don't come: put a time-out around it.
    pub async fn wait_for(&self, count: usize) -> Vec<Message> {
        let mut messages = self.state.messages.subscribe();
        // The sender lives in `self`, so the wait can't fail.
        messages
            .wait_for(|messages| messages.len() >= count)
            .await
            .map_or_else(|_| Vec::new(), |all| all.clone())
    }

    /// Returns how many connections there have been, refused ones included.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }
}

impl State {
    fn keep(&self, message: Message) {
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
    // The semaphore is never closed, so a permit always comes.
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
        let session = Session::new(stream, Arc::clone(&state));
        let mut behaviour = state.behaviour.subscribe();
        let token = token.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = token.cancelled() => {}
                _ = behaviour.changed() => {}
                // A client that goes away is no news.
                _ = session.run() => {}
            }
            drop(permit);
        });
    }
}
