//! The wait of one saga for its children.

/// A wait for children.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChildrenWait {
    /// The saga goes on when no more than this many are open.
    pub(super) at_open: usize,
    /// Whether it also goes on when one did not complete.
    pub(super) at_failure: bool,
}
