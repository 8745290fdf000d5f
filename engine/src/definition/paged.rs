//! Items that are read in pages, with their types erased, and what a page has to keep to.

use std::collections::HashSet;

use futures::future::BoxFuture;
use serde::{Serialize, de::DeserializeOwned};
use sqlx::PgConnection;

use crate::{
    definition::{item_pages::ItemPages, new_saga::NewSaga, saga_name::SagaName, step_input::StepInput},
    model::{
        child::{MOST_CHILDREN, too_many_children},
        error::StepError,
        outcome::Failure,
        stored_value::{StoredValue, StoredValues},
    },
};

/// Which page is asked for.
#[derive(Debug)]
pub(crate) struct PageAsked {
    /// How many items have a child.
    pub(crate) opened: usize,
    /// The first and the last of them, as they are stored.
    pub(crate) ends: Option<(StoredValue, StoredValue)>,
    pub(crate) limit: usize,
}

/// Why there is no page.
#[derive(Debug)]
pub(crate) enum NoPage {
    /// What it is read from, or the item behind which it begins, can't be decoded.
    Unreadable(String),
    /// There are too many items, or the page can't be right.
    Wrong(Failure),
    /// The author's code failed.
    Failed(StepError),
}

/// Reads pages of items for sagas whose `X` was decoded.
pub(super) trait ErasedPages<X>: Send + Sync {
    fn page<'a>(
        &'a self,
        conn: &'a mut PgConnection,
        input: X,
        asked: PageAsked,
    ) -> BoxFuture<'a, Result<Vec<NewSaga>, NoPage>>;
}

/// Reads pages of items for sagas with these stored values.
pub(crate) trait PageSource: Send + Sync {
    /// Reads what the pages are read from.
    ///
    /// # Errors
    /// What can't be read, and why.
    fn read(&self, values: &StoredValues) -> Result<(), String>;

    /// Reads the children of a page; none if no further item follows. It runs the author's code.
    fn page<'a>(
        &'a self,
        conn: &'a mut PgConnection,
        values: &'a StoredValues,
        asked: PageAsked,
    ) -> BoxFuture<'a, Result<Vec<NewSaga>, NoPage>>;

    /// A child with the input of an earlier one.
    fn again(&self, input: StoredValue) -> NewSaga;
}

/// The pages of one author, for children of one definition.
pub(super) struct PagesOf<P: ItemPages, O> {
    pub(super) pages: P,
    pub(super) child: SagaName<P::Item, O>,
}

impl<P: ItemPages, O: 'static> ErasedPages<P::Input> for PagesOf<P, O> {
    fn page<'a>(
        &'a self,
        conn: &'a mut PgConnection,
        input: P::Input,
        asked: PageAsked,
    ) -> BoxFuture<'a, Result<Vec<NewSaga>, NoPage>> {
        Box::pin(async move {
            let ends = asked.ends.as_ref().map(Ends::<P::Item>::decode).transpose()?;
            if asked.opened == 0
                && let Some(count) = self.pages.count(conn, &input).await.map_err(NoPage::Failed)?
                && usize::try_from(count).is_ok_and(|count| count > MOST_CHILDREN)
            {
                return Err(NoPage::Wrong(too_many_children(&count.to_string())));
            }
            let after = ends.as_ref().map(|ends| &ends.last);
            let limit = u32::try_from(asked.limit).unwrap_or(u32::MAX);
            let items = self.pages.page(conn, &input, after, limit).await.map_err(NoPage::Failed)?;
            let children: Vec<NewSaga> = items.iter().map(|item| self.child.with(item)).collect();
            check(&children, &asked, ends.as_ref()).map_err(NoPage::Wrong)?;
            Ok(children)
        })
    }
}

/// The items of the first and the last child.
struct Ends<T> {
    /// As this code writes them now, whatever the database made of them.
    encoded: [Option<StoredValue>; 2],
    last: T,
}

impl<T: Serialize + DeserializeOwned> Ends<T> {
    fn decode((first, last): &(StoredValue, StoredValue)) -> Result<Self, NoPage> {
        let last: T = last.decode().map_err(|error| {
            NoPage::Unreadable(format!("the input of the last child can't be read as an item: {error}"))
        })?;
        let first: Option<T> = first.decode().ok();
        let first = first.and_then(|first| StoredValue::encode(&first).ok());
        Ok(Self { encoded: [first, StoredValue::encode(&last).ok()], last })
    }
}

/// Checks that a page goes on where the last one ended. A list that goes round in a larger circle ends at its 10,000th
/// item.
fn check<T>(children: &[NewSaga], asked: &PageAsked, ends: Option<&Ends<T>>) -> Result<(), Failure> {
    let bad = |why: String| Err(Failure::new(Failure::BAD_PAGE, why));
    if children.len() > asked.limit {
        let why = format!("a page of at most {} items has {}", asked.limit, children.len());
        return bad(why);
    }
    if asked.opened + children.len() > MOST_CHILDREN {
        return Err(too_many_children(&format!("more than {MOST_CHILDREN}")));
    }
    let known = ends.iter().flat_map(|ends| &ends.encoded).flatten();
    let mut seen: HashSet<&str> = known.map(|item| item.json().get()).collect();
    for (nth, child) in children.iter().enumerate() {
        // An item that can't be stored is refused with its child.
        if let Ok(item) = &child.input
            && !seen.insert(item.json().get())
        {
            return bad(format!("the page behind {} items has one that came before, at {nth}", asked.opened));
        }
    }
    Ok(())
}

/// The pages of a step that reads an `X`.
pub(super) struct PagesFrom<X> {
    pub(super) definition: &'static str,
    pub(super) input: StepInput<X>,
    pub(super) pages: Box<dyn ErasedPages<X>>,
}

impl<X> PageSource for PagesFrom<X> {
    fn read(&self, values: &StoredValues) -> Result<(), String> {
        self.input.read(values).map(drop)
    }

    fn page<'a>(
        &'a self,
        conn: &'a mut PgConnection,
        values: &'a StoredValues,
        asked: PageAsked,
    ) -> BoxFuture<'a, Result<Vec<NewSaga>, NoPage>> {
        match self.input.read(values) {
            Ok(input) => self.pages.page(conn, input, asked),
            Err(error) => Box::pin(async { Err(NoPage::Unreadable(error)) }),
        }
    }

    fn again(&self, input: StoredValue) -> NewSaga {
        NewSaga::stored(self.definition, input)
    }
}
