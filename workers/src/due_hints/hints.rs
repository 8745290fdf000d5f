//! Ids that wait to be pushed: bounded, because the poll finds what is dropped here.

use engine::SagaId;
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    watch,
};

use super::RedisState;
use crate::metrics::RedisQueueMetrics;

/// More than this many ids don't wait: when Redis is slow or away, further ones are dropped.
const CAPACITY: usize = 2_000;
/// At most this many ids go in one push.
const BATCH: usize = 250;

/// Takes ids from the engine's commits, never making them wait.
pub(crate) struct HintSender {
    to_redis: mpsc::Sender<SagaId>,
    /// This process's own claims, if it works on the queue: while Redis is away, ids go there at once. Weak, because
    /// the engine keeps the hints for ever and the claims end with their last sender.
    to_claims: Option<mpsc::WeakSender<SagaId>>,
    state: watch::Receiver<RedisState>,
    metrics: RedisQueueMetrics,
}

/// The other end: gives ids in batches.
pub(crate) struct HintReceiver {
    receiver: mpsc::Receiver<SagaId>,
}

impl HintSender {
    pub(crate) fn bounded(
        to_claims: Option<mpsc::WeakSender<SagaId>>,
        state: watch::Receiver<RedisState>,
        metrics: RedisQueueMetrics,
    ) -> (Self, HintReceiver) {
        let (to_redis, receiver) = mpsc::channel(CAPACITY);
        (Self { to_redis, to_claims, state, metrics }, HintReceiver { receiver })
    }

    /// Passes the ids on to be pushed or, while Redis is away, to be claimed here; as far as there is room.
    pub(crate) fn send(&self, due: Vec<SagaId>) {
        let claims = match *self.state.borrow() {
            RedisState::Up => None,
            RedisState::Down => self.to_claims.as_ref().and_then(mpsc::WeakSender::upgrade),
        };
        let to = claims.as_ref().unwrap_or(&self.to_redis);
        let mut left = due.into_iter();
        while let Some(id) = left.next() {
            match to.try_send(id) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => {
                    self.metrics.dropped.increment(1 + left.len() as u64);
                    return;
                }
                // The workers have ended; whoever runs next polls.
                Err(TrySendError::Closed(_)) => return,
            }
        }
    }
}

impl HintReceiver {
    /// Waits for ids and gives all that wait, up to a batch; empty when no more will come.
    ///
    /// # Cancel safety
    /// No id is lost when dropped.
    pub(crate) async fn recv_batch(&mut self) -> Vec<SagaId> {
        let mut batch = Vec::new();
        self.receiver.recv_many(&mut batch, BATCH).await;
        batch
    }

    /// Gives what waits now, up to a batch.
    pub(crate) fn drain_batch(&mut self) -> Vec<SagaId> {
        std::iter::from_fn(|| self.receiver.try_recv().ok()).take(BATCH).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hints(
        state: RedisState,
        to_claims: Option<mpsc::WeakSender<SagaId>>,
    ) -> (HintSender, HintReceiver, watch::Sender<RedisState>) {
        let (sender, receiver) = watch::channel(state);
        let (hints, hint_receiver) = HintSender::bounded(to_claims, receiver, RedisQueueMetrics::new("test"));
        (hints, hint_receiver, sender)
    }

    #[tokio::test]
    async fn ids_come_in_batches_and_in_order() {
        let (hints, mut hint_receiver, _state) = hints(RedisState::Up, None);
        let ids: Vec<_> = (0..BATCH + 10).map(|_| SagaId::generate()).collect();
        hints.send(ids.clone());
        assert_eq!(hint_receiver.recv_batch().await, ids[..BATCH]);
        assert_eq!(hint_receiver.recv_batch().await, ids[BATCH..]);
    }

    #[tokio::test]
    async fn what_finds_no_room_is_dropped_without_waiting() {
        let (hints, mut hint_receiver, _state) = hints(RedisState::Up, None);
        hints.send((0..CAPACITY + 500).map(|_| SagaId::generate()).collect());
        let kept: usize =
            std::iter::from_fn(|| Some(hint_receiver.drain_batch().len()).filter(|count| *count > 0)).sum();
        assert_eq!(kept, CAPACITY);
    }

    #[tokio::test]
    async fn while_redis_is_away_ids_are_claimed_here() {
        let (claims, mut claimed) = mpsc::channel(10);
        let (hints, mut hint_receiver, state) = hints(RedisState::Down, Some(claims.downgrade()));
        let (first, second, third) = (SagaId::generate(), SagaId::generate(), SagaId::generate());
        hints.send(vec![first]);
        assert_eq!(claimed.try_recv().ok(), Some(first));
        state.send_replace(RedisState::Up);
        hints.send(vec![second]);
        assert_eq!(hint_receiver.drain_batch(), [second]);
        state.send_replace(RedisState::Down);
        drop(claims);
        hints.send(vec![third]);
        assert_eq!(hint_receiver.drain_batch(), [third], "claims that have ended are passed by");
    }
}
