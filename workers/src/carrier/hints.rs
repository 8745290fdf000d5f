//! Ids that wait to be pushed: bounded, because the poll finds what is dropped here.

use engine::SagaId;
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    watch,
};

use super::RedisState;
use crate::meter::LaneMeter;

/// More than this many ids don't wait: when Redis is slow or away, further ones are dropped.
const WAITING: usize = 2_000;
/// At most this many ids go in one push.
const BATCH: usize = 250;

/// Takes ids from the engine's commits, never making them wait.
pub(crate) struct Hints {
    to_redis: mpsc::Sender<SagaId>,
    /// This process's own claims, if it works on the queue: while Redis is away, ids go there at once. Weak, because
    /// the engine keeps the hints for ever and the claims end with their last sender.
    to_claims: Option<mpsc::WeakSender<SagaId>>,
    state: watch::Receiver<RedisState>,
    meter: LaneMeter,
}

/// The other end: gives ids in batches.
pub(crate) struct Offered {
    receiver: mpsc::Receiver<SagaId>,
}

impl Hints {
    pub(crate) fn bounded(
        to_claims: Option<mpsc::WeakSender<SagaId>>,
        state: watch::Receiver<RedisState>,
        meter: LaneMeter,
    ) -> (Self, Offered) {
        let (to_redis, receiver) = mpsc::channel(WAITING);
        (Self { to_redis, to_claims, state, meter }, Offered { receiver })
    }

    /// Passes the ids on to be pushed or, while Redis is away, to be claimed here; as far as there is room.
    pub(crate) fn offer(&self, due: Vec<SagaId>) {
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
                    self.meter.dropped.increment(1 + left.len() as u64);
                    return;
                }
                // The workers have ended; whoever runs next polls.
                Err(TrySendError::Closed(_)) => return,
            }
        }
    }
}

impl Offered {
    /// Waits for ids and gives all that wait, up to a batch; empty when no more will come.
    ///
    /// # Cancel safety
    /// No id is lost when dropped.
    pub(crate) async fn next(&mut self) -> Vec<SagaId> {
        let mut batch = Vec::new();
        self.receiver.recv_many(&mut batch, BATCH).await;
        batch
    }

    /// Gives what waits now, up to a batch.
    pub(crate) fn waiting(&mut self) -> Vec<SagaId> {
        std::iter::from_fn(|| self.receiver.try_recv().ok()).take(BATCH).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hints(
        state: RedisState,
        to_claims: Option<mpsc::WeakSender<SagaId>>,
    ) -> (Hints, Offered, watch::Sender<RedisState>) {
        let (sender, receiver) = watch::channel(state);
        let (hints, offered) = Hints::bounded(to_claims, receiver, LaneMeter::new("test"));
        (hints, offered, sender)
    }

    #[tokio::test]
    async fn ids_come_in_batches_and_in_order() {
        let (hints, mut offered, _state) = hints(RedisState::Up, None);
        let ids: Vec<_> = (0..BATCH + 10).map(|_| SagaId::generate()).collect();
        hints.offer(ids.clone());
        assert_eq!(offered.next().await, ids[..BATCH]);
        assert_eq!(offered.next().await, ids[BATCH..]);
    }

    #[tokio::test]
    async fn what_finds_no_room_is_dropped_without_waiting() {
        let (hints, mut offered, _state) = hints(RedisState::Up, None);
        hints.offer((0..WAITING + 500).map(|_| SagaId::generate()).collect());
        let kept: usize =
            std::iter::from_fn(|| Some(offered.waiting().len()).filter(|count| *count > 0)).sum();
        assert_eq!(kept, WAITING);
    }

    #[tokio::test]
    async fn while_redis_is_away_ids_are_claimed_here() {
        let (claims, mut claimed) = mpsc::channel(10);
        let (hints, mut offered, state) = hints(RedisState::Down, Some(claims.downgrade()));
        let (first, second, third) = (SagaId::generate(), SagaId::generate(), SagaId::generate());
        hints.offer(vec![first]);
        assert_eq!(claimed.try_recv().ok(), Some(first));
        state.send_replace(RedisState::Up);
        hints.offer(vec![second]);
        assert_eq!(offered.waiting(), [second]);
        state.send_replace(RedisState::Down);
        drop(claims);
        hints.offer(vec![third]);
        assert_eq!(offered.waiting(), [third], "claims that have ended are passed by");
    }
}
