//! Pages of lists: which one is asked for, and what was read.

use uuid::Uuid;

/// A page of a list, newest first. To get the next page, pass the last id of this one.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Only items after this id in the list's order.
    pub after: Option<Uuid>,
    /// The most items to return, one to a thousand. A page whose items are large ends earlier.
    pub limit: u32,
}

/// The items of a page, in the order of their list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageOf<T> {
    /// The items: at least one, if the list has any there.
    pub items: Vec<T>,
    /// Whether the list goes on after them.
    pub has_more: bool,
}

impl<T> PageOf<T> {
    /// A page without items, at the end of its list.
    pub fn empty() -> Self {
        Self { items: Vec::new(), has_more: false }
    }

    /// The same page with other items.
    ///
    /// # Errors
    /// The first error of `convert`.
    pub fn try_map<U, E>(self, convert: impl FnMut(T) -> Result<U, E>) -> Result<PageOf<U>, E> {
        let items = self.items.into_iter().map(convert).collect::<Result<_, _>>()?;
        Ok(PageOf { items, has_more: self.has_more })
    }
}
