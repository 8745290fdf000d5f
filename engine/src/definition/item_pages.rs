//! What reads the items of a `for_each` in pages, as its author writes it.

use std::future::Future;

use serde::{Serialize, de::DeserializeOwned};
use sqlx::PgConnection;

use crate::model::error::StepError;

/// Reads the items of a [`for_each`](crate::Saga::for_each) from the database, a page at a time, for a list that is in a
/// table and not in what the saga has stored. [`SagaName::each_page`](crate::SagaName::each_page) takes it.
///
/// ```
/// use engine::{Each, ItemPages, SagaName, StepError, sqlx::{self, PgConnection}};
///
/// #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
/// struct Upload { id: i64 }
///
/// #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
/// struct Line { number: i64, text: String }
///
/// struct LinesOfUpload;
/// impl ItemPages for LinesOfUpload {
///     type Input = Upload;
///     type Item = Line;
///
///     async fn count(&self, conn: &mut PgConnection, upload: &Upload) -> Result<Option<i64>, StepError> {
///         let count = sqlx::query_scalar("select count(*) from line where upload = $1");
///         Ok(count.bind(upload.id).fetch_one(conn).await?)
///     }
///
///     async fn page(
///         &self,
///         conn: &mut PgConnection,
///         upload: &Upload,
///         after: Option<&Line>,
///         limit: u32,
///     ) -> Result<Vec<Line>, StepError> {
///         let page = sqlx::query_as(
///             "select number, text from line where upload = $1 and number > $2 order by number limit $3",
///         );
///         let after = after.map_or(0, |line| line.number);
///         let page = page.bind(upload.id).bind(after).bind(i64::from(limit)).fetch_all(conn).await?;
///         Ok(page.into_iter().map(|(number, text)| Line { number, text }).collect())
///     }
/// }
///
/// const IMPORT_LINE: SagaName<Line> = SagaName::new("import-line");
/// let each: Each<Upload> = IMPORT_LINE.each_page(LinesOfUpload).at_most(20);
/// ```
///
/// **Where a page begins is the last item.** `after` is the stored input of the last child that was opened, so nothing is
/// counted that could drift: whatever crashes, the next page is the one behind it. So the items need an order that a
/// key in each of them gives, and every item has to be another.
///
/// **An empty page is the end.** It is asked for again when the last child has ended, and what stands behind the last item
/// by then still gets a child. What is inserted before it does not. A page may have fewer items than `limit`.
///
/// **It only reads.** Its statements run in the transaction that opens the children, which is read-only for them, with the
/// time-out of the step's retry policy. An error, a panic or a time-out costs an attempt of the step and no other saga
/// anything. A page that can't be right fails the step with the code `bad-page`: with more items than `limit`, with one
/// twice, or with the first or the last one again.
pub trait ItemPages: Send + Sync + 'static {
    /// What it reads of what the saga has stored, as [`TransactionStep::Input`](crate::TransactionStep::Input).
    type Input: Send + Sync;
    /// An item: the input of a child.
    type Item: Serialize + DeserializeOwned + Send + Sync;

    /// Counts the items, before the first page, so that a list of more than 10,000 is refused before it is begun. With
    /// `None`, if they can't be counted at a reasonable price, it is refused when it turns out to go on behind the
    /// 10,000th, and what was done is undone.
    ///
    /// # Errors
    /// As [`ItemPages::page`].
    fn count(
        &self,
        conn: &mut PgConnection,
        input: &Self::Input,
    ) -> impl Future<Output = Result<Option<i64>, StepError>> + Send;

    /// Reads the items that follow `after`, or the first ones, in their order: at least one if there is any, and at most
    /// `limit`.
    ///
    /// # Errors
    /// When they can't be read now: the attempt of the step fails, and its retry policy decides whether it is tried again.
    fn page(
        &self,
        conn: &mut PgConnection,
        input: &Self::Input,
        after: Option<&Self::Item>,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<Self::Item>, StepError>> + Send;
}
