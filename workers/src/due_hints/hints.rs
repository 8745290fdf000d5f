//! The channel of ids that wait to be pushed: bounded, because the poll finds the sagas whose ids are dropped here.

use engine::SagaId;
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    watch,
};

use super::health::RedisState;
use crate::metrics::RedisQueueMetrics;

/// Ids that may wait; when Redis is slow or unreachable, further ones are dropped.
const CAPACITY: usize = 2_000;
/// The most ids in one push.
const BATCH_SIZE: usize = 250;

/// Takes the ids of due sagas from the engine's commits without ever blocking them.
pub(crate) struct HintSender {
    to_redis: mpsc::Sender<SagaId>,
    /// The claimer of this process, if it works on the queue: while Redis is unreachable, ids go directly to it. The
    /// reference is weak, because the engine keeps the sender forever and the claimer ends with its last sender.
    to_claims: Option<mpsc::WeakSender<SagaId>>,
    state: watch::Receiver<RedisState>,
    metrics: RedisQueueMetrics,
}

/// The receiving end, which yields ids in batches.
pub(crate) struct HintReceiver {
    receiver: mpsc::Receiver<SagaId>,
}

/// Creates the two ends of the channel.
pub(crate) fn channel(
    to_claims: Option<mpsc::WeakSender<SagaId>>,
    state: watch::Receiver<RedisState>,
    metrics: RedisQueueMetrics,
) -> (HintSender, HintReceiver) {
    let (to_redis, receiver) = mpsc::channel(CAPACITY);
    (HintSender { to_redis, to_claims, state, metrics }, HintReceiver { receiver })
}

impl HintSender {
    /// Passes the ids on to be pushed or, while Redis is unreachable, to be claimed by this process; drops those for
    /// which there is no room.
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
                // The workers have ended; the next process finds the sagas by its poll.
                Err(TrySendError::Closed(_)) => return,
            }
        }
    }
}

impl HintReceiver {
    /// Waits for ids and returns all that wait, up to a batch; empty when no more will come.
    ///
    /// # Cancel safety
    /// Dropping the future loses no id.
    pub(crate) async fn recv_batch(&mut self) -> Vec<SagaId> {
        let mut batch = Vec::new();
        self.receiver.recv_many(&mut batch, BATCH_SIZE).await;
        batch
    }

    /// Returns the ids that wait now, up to a batch, without waiting.
    pub(crate) fn drain_batch(&mut self) -> Vec<SagaId> {
        std::iter::from_fn(|| self.receiver.try_recv().ok()).take(BATCH_SIZE).collect()
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
        let (hints, hint_receiver) = channel(to_claims, receiver, RedisQueueMetrics::new("test"));
        (hints, hint_receiver, sender)
    }

    #[tokio::test]
    async fn ids_come_in_batches_and_in_order() {
        let (hints, mut hint_receiver, _state) = hints(RedisState::Up, None);
        let ids: Vec<_> = (0..BATCH_SIZE + 10).map(|_| SagaId::generate()).collect();
        hints.send(ids.clone());
        assert_eq!(hint_receiver.recv_batch().await, ids[..BATCH_SIZE]);
        assert_eq!(hint_receiver.recv_batch().await, ids[BATCH_SIZE..]);
    }

    #[tokio::test]
    async fn ids_beyond_the_capacity_are_dropped_without_waiting() {
        let (hints, mut hint_receiver, _state) = hints(RedisState::Up, None);
        hints.send((0..CAPACITY + 500).map(|_| SagaId::generate()).collect());
        let kept: usize =
            std::iter::from_fn(|| Some(hint_receiver.drain_batch().len()).filter(|count| *count > 0)).sum();
        assert_eq!(kept, CAPACITY);
    }

    #[tokio::test]
    async fn while_redis_is_down_ids_are_claimed_by_this_process() {
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
        assert_eq!(hint_receiver.drain_batch(), [third], "a claimer that has ended is bypassed");
    }
}
