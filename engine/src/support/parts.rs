//! Runs one statement for many items so that an item which makes it fail stops no other: a statement that fails is tried
//! again for ever smaller parts, until each item at fault is alone.
//!
//! This is for statements outside the group commit, which bisects its batches itself, because what it does with a saga
//! that fails alone depends on its steps.

use crate::support::connection::{Blame, blame, concerns_everybody};

/// How many statements one run takes at most. To find one item of n takes about 2 · log2 n.
const MAX_STATEMENTS: u32 = 128;
/// How many statements fail at most before the first that succeeds. Then the error is taken to be everybody's.
const MAX_IN_VAIN: u32 = 32;

/// A statement for many items. It must do nothing for no items.
pub(crate) trait Statement<T> {
    /// What it returns for each item that it found.
    type Row;

    /// Runs it for these items.
    fn run(&mut self, items: &[T]) -> impl Future<Output = Result<Vec<Self::Row>, sqlx::Error>> + Send;
}

/// The parts of one statement's items, and what became of them. It stays valid if a run is dropped, as by a time-out.
#[derive(Debug)]
pub(crate) struct Parts<'a, T, R> {
    all: &'a [T],
    /// What the statements returned.
    pub(crate) done: Vec<R>,
    /// The items for which the statement fails, although it works without them.
    pub(crate) refused: Vec<(&'a T, sqlx::Error)>,
    /// The parts that are left, the next one last.
    untried: Vec<&'a [T]>,
}

impl<'a, T, R> Parts<'a, T, R> {
    /// All items as one part.
    pub(crate) fn of(all: &'a [T]) -> Self {
        let untried = if all.is_empty() { Vec::new() } else { vec![all] };
        Self { all, done: Vec::new(), refused: Vec::new(), untried }
    }

    /// The items that were not tried, or whose answer did not arrive.
    pub(crate) fn untried(&self) -> impl Iterator<Item = &'a T> {
        self.untried.iter().copied().flatten()
    }

    /// Runs the statement for all items; if it fails because of some of them, for ever smaller parts. An error that
    /// concerns everybody ends the run. So does a bound on the number of statements, and then the other items stay
    /// untried.
    ///
    /// Which error may be an item's fault is not told by the error alone, but by a comparison: an item is at fault if the
    /// statement fails for it alone, and succeeds for others, or at least for no items at all.
    pub(crate) async fn run(
        &mut self,
        mut statement: impl Statement<T, Row = R> + Send,
    ) -> Result<(), sqlx::Error>
    where
        T: Sync,
        R: Send,
    {
        let (mut statements, mut has_worked) = (0, false);
        while let Some(part) = self.untried.last().copied() {
            if statements >= MAX_STATEMENTS {
                return Ok(());
            }
            statements += 1;
            let mut result = statement.run(part).await;
            // What may pass by itself gets a second chance before an item is blamed.
            if part.len() == 1 && result.as_ref().is_err_and(may_pass) {
                statements += 1;
                result = statement.run(part).await;
            }
            let error = match result {
                Ok(rows) => {
                    has_worked = true;
                    self.done.extend(rows);
                    self.untried.pop();
                    continue;
                }
                Err(error) => error,
            };
            let in_vain = !has_worked && statements >= MAX_IN_VAIN;
            if in_vain || concerns_everybody(&error) {
                self.blame_nobody(has_worked);
                return Err(error);
            }
            if let [item] = part {
                if !has_worked {
                    statements += 1;
                    if statement.run(&[]).await.is_err() {
                        self.blame_nobody(has_worked);
                        return Err(error);
                    }
                }
                self.untried.pop();
                self.refused.push((item, error));
            } else {
                self.untried.pop();
                // The first cut is made anywhere, so that it is not always the same items that a run without success
                // ends with.
                let cut = if part.len() == self.all.len() {
                    rand::random_range(1..part.len())
                } else {
                    part.len() / 2
                };
                let (first, second) = part.split_at(cut);
                self.untried.extend([second, first]);
            }
        }
        Ok(())
    }

    /// Takes the blame from the items again, unless the statement has worked for others.
    fn blame_nobody(&mut self, has_worked: bool) {
        if !has_worked {
            self.refused.clear();
            self.untried = vec![self.all];
        }
    }
}

fn may_pass(error: &sqlx::Error) -> bool {
    match blame(error) {
        Blame::Lock | Blame::Unclear => true,
        Blame::Connection | Blame::Server | Blame::Statement => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A statement that answers as the function does, and counts how often it was run.
    struct Fake<'a, F> {
        answer: F,
        runs: &'a mut u32,
    }

    impl<F: Fn(&[u32], u32) -> Result<(), sqlx::Error> + Send + Sync> Statement<u32> for Fake<'_, F> {
        type Row = u32;

        async fn run(&mut self, items: &[u32]) -> Result<Vec<u32>, sqlx::Error> {
            *self.runs += 1;
            (self.answer)(items, *self.runs).map(|()| items.to_vec())
        }
    }

    /// An error that blames the statement.
    fn refusal() -> sqlx::Error {
        sqlx::Error::RowNotFound
    }

    async fn run_fake(
        all: &[u32],
        answer: impl Fn(&[u32], u32) -> Result<(), sqlx::Error> + Send + Sync,
    ) -> (Parts<'_, u32, u32>, u32, bool) {
        let (mut parts, mut runs) = (Parts::of(all), 0);
        let result = parts.run(Fake { answer, runs: &mut runs }).await;
        (parts, runs, result.is_ok())
    }

    /// Runs a statement that fails for these items, and returns what it did: the parts, how many statements there were,
    /// and whether it was nobody's error.
    async fn run<'a>(all: &'a [u32], bad: &BTreeSet<u32>) -> (Parts<'a, u32, u32>, u32, bool) {
        run_fake(
            all,
            |part, _| {
                if part.iter().any(|item| bad.contains(item)) { Err(refusal()) } else { Ok(()) }
            },
        )
        .await
    }

    fn refused(parts: &Parts<'_, u32, u32>) -> BTreeSet<u32> {
        parts.refused.iter().map(|(item, _)| **item).collect()
    }

    #[tokio::test]
    async fn what_fails_nowhere_takes_one_statement() {
        let all: Vec<_> = (0..1000).collect();
        let (parts, runs, _) = run(&all, &BTreeSet::new()).await;
        assert_eq!((&parts.done, runs), (&all, 1));
        let (_, runs, _) = run(&[], &BTreeSet::new()).await;
        assert_eq!(runs, 0);
    }

    #[tokio::test]
    async fn the_items_at_fault_stay_behind_and_the_others_are_done_once() {
        let all: Vec<_> = (0..1000).collect();
        for bad in [vec![0], vec![999], vec![3, 500, 501]] {
            let bad: BTreeSet<_> = bad.into_iter().collect();
            let (mut parts, runs, ok) = run(&all, &bad).await;
            assert!(ok);
            assert_eq!(refused(&parts), bad);
            assert_eq!(parts.untried().count(), 0);
            parts.done.sort_unstable();
            assert_eq!(
                parts.done,
                all.iter().copied().filter(|item| !bad.contains(item)).collect::<Vec<_>>()
            );
            assert!(runs <= 2 + 24 * u32::try_from(bad.len()).unwrap(), "{runs}");
        }
    }

    #[tokio::test]
    async fn a_run_is_bounded_and_loses_no_item() {
        let all: Vec<_> = (0..1000).collect();
        let bad: BTreeSet<_> = all.iter().copied().filter(|item| item % 7 == 0).collect();
        let mut left = all.clone();
        let mut rounds = 0;
        while !left.is_empty() {
            let (parts, runs, ok) = run(&left, &bad).await;
            assert!(ok, "some succeed in every round");
            assert!(runs <= MAX_STATEMENTS + 1, "{runs}");
            assert!(refused(&parts).is_subset(&bad));
            let known = parts.done.len() + parts.refused.len() + parts.untried().count();
            assert_eq!(known, left.len());
            let untried: Vec<_> = parts.untried().copied().collect();
            assert!(untried.len() < left.len(), "it goes on");
            left = untried;
            rounds += 1;
        }
        assert!(rounds > 1);
    }

    #[tokio::test]
    async fn what_fails_for_all_is_nobodys_fault() {
        let all: Vec<_> = (0..1000).collect();
        let (parts, runs, ok) = run(&all, &all.iter().copied().collect()).await;
        assert!(!ok && runs <= MAX_IN_VAIN * 2, "{runs}");
        assert_eq!((refused(&parts).len(), parts.untried().count()), (0, 1000));
    }

    #[tokio::test]
    async fn one_item_alone_is_at_fault_if_the_statement_works_without_it() {
        for works_for_none in [true, false] {
            let (parts, _, ok) =
                run_fake(
                    &[7],
                    |part, _| {
                        if works_for_none && part.is_empty() { Ok(()) } else { Err(refusal()) }
                    },
                )
                .await;
            assert_eq!((ok, parts.refused.len()), (works_for_none, usize::from(works_for_none)));
        }
    }

    #[tokio::test]
    async fn an_error_that_passes_blames_nobody() {
        let passes = |_: &[u32], run| {
            if run == 1 { Err(sqlx::Error::Protocol("passes".into())) } else { Ok(()) }
        };
        let (parts, _, ok) = run_fake(&[7], passes).await;
        assert!(ok);
        assert_eq!((parts.done.len(), parts.refused.len()), (1, 0));
    }

    #[tokio::test]
    async fn an_outage_splits_nothing() {
        let (parts, runs, ok) = run_fake(&[1, 2, 3], |_, _| Err(sqlx::Error::PoolTimedOut)).await;
        assert!(!ok);
        assert_eq!((runs, parts.untried().count()), (1, 3));
    }
}
