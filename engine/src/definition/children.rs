//! A step with children among the steps of a definition. It runs no code of its own but what computes their inputs; the
//! commit of its batch opens them, waits for their ends and, if the saga compensates, has them undone.

use std::fmt;

use crate::{
    definition::{
        computed::{Computed, Uncomputed},
        new_saga::NewSaga,
        paged::PageSource,
    },
    model::{
        child::{ChildEnd, EachEnded},
        stored_value::{StoredValue, StoredValues},
    },
};

/// How a child ended, with what it gave as it is stored.
pub(crate) type StoredEnd = ChildEnd<Option<StoredValue>>;

/// A child with its types erased.
pub(crate) struct ErasedChild {
    pub(super) definition: &'static str,
    pub(super) start: Computed<(), NewSaga>,
}

impl fmt::Debug for ErasedChild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErasedChild").field("definition", &self.definition).finish_non_exhaustive()
    }
}

/// Which children a step has.
pub(super) enum Plan {
    /// These.
    Fixed(Vec<ErasedChild>),
    /// One for each item.
    Each(Computed<Vec<usize>, EachItems>),
    /// One for each item that is read from the database.
    Pages(Box<dyn PageSource>),
}

/// How many items there are, and the children of those that were asked for.
pub(crate) struct EachItems {
    pub(super) total: usize,
    pub(super) children: Vec<NewSaga>,
}

/// The code of a step with children.
pub(crate) struct ChildrenAction {
    pub(super) name: &'static str,
    pub(super) plan: Plan,
    /// How many are open at a time.
    pub(super) at_most: usize,
    /// Whether every end of a child is data.
    pub(crate) settled: bool,
    pub(super) output_index: usize,
    /// The output of children that are fixed.
    pub(super) output: fn(&[StoredEnd]) -> Result<StoredValue, String>,
    pub(super) read_output: fn(&StoredValue) -> Result<(), serde_json::Error>,
}

impl ChildrenAction {
    /// The most that are opened in one commit.
    pub(crate) const OPENED_AT_ONCE: usize = 500;

    /// How many children there are in all; `None` if that is known only when the last page was read.
    ///
    /// # Errors
    /// Why that can't be computed.
    pub(crate) fn total(&self, values: &StoredValues) -> Result<Option<usize>, Uncomputed> {
        match &self.plan {
            Plan::Fixed(children) => Ok(Some(children.len())),
            Plan::Each(items) => items.of(values, Vec::new(), || self.what()).map(|items| Some(items.total)),
            Plan::Pages(_) => Ok(None),
        }
    }

    /// The pages of its items, if they are read in pages.
    pub(crate) fn pages(&self) -> Option<&dyn PageSource> {
        match &self.plan {
            Plan::Pages(pages) => Some(pages.as_ref()),
            Plan::Fixed(_) | Plan::Each(_) => None,
        }
    }

    /// The children at these positions.
    ///
    /// # Errors
    /// Why they can't be computed.
    pub(crate) fn at(&self, values: &StoredValues, positions: &[usize]) -> Result<Vec<NewSaga>, Uncomputed> {
        match &self.plan {
            Plan::Fixed(children) => {
                let children = positions.iter().filter_map(|position| children.get(*position));
                children.map(|child| child.start.of(values, (), || self.what())).collect()
            }
            Plan::Each(items) => {
                items.of(values, positions.to_vec(), || self.what()).map(|items| items.children)
            }
            // They are read instead.
            Plan::Pages(_) => Ok(Vec::new()),
        }
    }

    /// With how many open children more are opened: when half of them have ended.
    pub(crate) fn refills_at(&self) -> usize {
        self.at_most / 2
    }

    /// How many may be open.
    pub(crate) fn window(&self) -> usize {
        self.at_most
    }

    /// Whether its output is how each child ended; otherwise it is counts.
    pub(crate) fn reads_ends(&self) -> bool {
        matches!(self.plan, Plan::Fixed(_))
    }

    /// The output when all children have ended.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn output(&self, ends: &[StoredEnd]) -> Result<StoredValue, String> {
        (self.output)(ends)
    }

    /// The output of a step that counts how its children ended.
    ///
    /// # Errors
    /// Why it can't be stored.
    pub(crate) fn counts(ended: EachEnded) -> Result<StoredValue, String> {
        StoredValue::encode(&ended).map_err(|error| format!("the output {error}"))
    }

    fn what(&self) -> String {
        format!("what computes the children of `{}`", self.name)
    }
}
