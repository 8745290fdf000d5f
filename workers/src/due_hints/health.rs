//! Whether the queue's Redis answers.

use tokio::sync::watch;

/// Whether the queue's Redis answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedisState {
    /// Redis answers and passes ids on.
    Up,
    /// Redis does not answer and is tried again. The poll finds the work, so it is late at most.
    Down,
}

/// Reports the state of the queue's Redis. Cheap to clone and to read.
#[derive(Clone, Debug)]
pub struct RedisHealth(watch::Receiver<RedisState>);

impl RedisHealth {
    pub(super) fn new(state: watch::Receiver<RedisState>) -> Self {
        Self(state)
    }

    /// Whether Redis works now.
    pub fn state(&self) -> RedisState {
        *self.0.borrow()
    }

    /// Waits until Redis is in this state. Never resolves when the workers end before.
    pub async fn reached(&self, state: RedisState) {
        let mut changes = self.0.clone();
        if changes.wait_for(|now| *now == state).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
