//! What a case is run with.

use std::collections::BTreeSet;

use crate::{
    definition::new_saga::NewSaga,
    model::{graph::Graph, ids::SagaId},
    testing::proof::case::Case,
};

/// A case that is to be run.
pub(super) struct Setup<'a> {
    /// The graph with which the sagas begin.
    pub(super) graph: &'a Graph,
    /// The way that they take.
    pub(super) path: &'a [usize],
    pub(super) case: Case,
    pub(super) sagas: Vec<NewSaga>,
    pub(super) struck: BTreeSet<SagaId>,
    /// The steps whose waits time out.
    pub(super) timed_out: &'a BTreeSet<String>,
    /// What the first process knows.
    pub(super) first: Version,
}

/// The graphs that a process knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Earlier,
    Newest,
    Both,
}
