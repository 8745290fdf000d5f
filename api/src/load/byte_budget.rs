//! Bounds the bytes of bodies that are in memory at a time, because a number of requests is no bound in bytes.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::{Problem, ProblemCode};

/// How many bytes may be held at a time. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct ByteBudget(Arc<Semaphore>);

/// Bytes of a budget; dropping them gives them back.
#[derive(Debug)]
pub(crate) struct HeldBytes {
    budget: ByteBudget,
    permit: Option<OwnedSemaphorePermit>,
}

impl ByteBudget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))))
    }

    /// Begins to hold bytes, none so far.
    pub(crate) fn hold(&self) -> HeldBytes {
        HeldBytes { budget: self.clone(), permit: None }
    }
}

impl HeldBytes {
    /// Holds this many bytes more.
    ///
    /// # Errors
    /// A 503 when so many are not left.
    pub(crate) fn add(&mut self, bytes: usize) -> Result<(), Problem> {
        let permit =
            u32::try_from(bytes).ok().map(|bytes| Arc::clone(&self.budget.0).try_acquire_many_owned(bytes));
        let Some(Ok(permit)) = permit else {
            let detail = "too many large bodies are under way; try again in a moment";
            return Err(Problem::new(ProblemCode::Overloaded, detail));
        };
        match &mut self.permit {
            Some(held) => held.merge(permit),
            None => self.permit = Some(permit),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_held_until_they_are_dropped() {
        let budget = ByteBudget::new(100);
        let (mut one, mut other) = (budget.hold(), budget.hold());
        one.add(40).expect("there are enough");
        one.add(20).expect("there are enough");
        let refused = other.add(41).expect_err("40 are left");
        assert_eq!(refused.code(), ProblemCode::Overloaded);
        other.add(40).expect("a refusal takes none");
        drop(one);
        other.add(60).expect("they were given back");
    }
}
