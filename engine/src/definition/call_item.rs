//! What a call step can tell and learn while it runs.

use tokio_util::sync::CancellationToken;

use crate::{
    definition::batch::{Item, UndoItem},
    model::progress::Progress,
};

impl<I> Item<I> {
    /// Reports how far this call is, for those who watch the saga ([`SagaView::progress`](crate::SagaView::progress)).
    /// The newest report replaces the one before.
    ///
    /// It never waits and never fails, so a call may report as often as it likes: the newest reports of all calls of a
    /// process are written in one statement, at most once a second. So a report says nothing to the engine, is no
    /// checkpoint, and may be lost: with the process, with its claim, or because the call ended soon after.
    ///
    /// In a transaction step it has no effect: its row would be seen with the step's commit only.
    ///
    /// ```no_run
    /// use engine::{CallError, CallStep, Item, NothingToUndo, Outcome, Progress};
    ///
    /// struct Import;
    /// impl CallStep for Import {
    ///     const NAME: &'static str = "import";
    ///     type Input = Vec<String>;
    ///     type Output = u64;
    ///     type Undo = NothingToUndo;
    ///     async fn call(&self, item: &Item<Vec<String>>) -> Result<Outcome<u64>, CallError> {
    ///         let mut rows = 0;
    ///         for (done, file) in item.input.iter().enumerate() {
    ///             item.report_progress(Progress::of(done, item.input.len()).note(file));
    ///             rows += import(file).await?;
    ///         }
    ///         Ok(Outcome::Done(rows))
    ///     }
    /// }
    ///
    /// async fn import(file: &str) -> Result<u64, std::io::Error> {
    /// #   unimplemented!("{file}")
    /// }
    /// ```
    pub fn report_progress(&self, progress: Progress) {
        if let Some(call) = &self.call {
            call.report(progress);
        }
    }

    /// Whether it is known that the saga was cancelled, or that its deadline passed, while this call runs. See
    /// [`Item::cancelled`].
    pub fn is_cancelled(&self) -> bool {
        self.call.as_ref().is_some_and(|call| call.cancellation.is_cancelled())
    }

    /// Waits until the saga is cancelled or its deadline passes, so that a long call can stop early.
    ///
    /// Whatever the call answers then, the saga compensates after the answer. What the answer decides is whether the
    /// call itself is undone: after [`Outcome::Done`](crate::Outcome::Done) it is, and after
    /// [`Outcome::Retry`](crate::Outcome::Retry), because it may have happened; after
    /// [`Outcome::Fail`](crate::Outcome::Fail) it is not, so answer that only if the call has done nothing or has taken
    /// it back itself. (If an attempt before may have happened, it is undone in any case.) The engine does not stop a
    /// call that goes on.
    ///
    /// A process learns of it when it extends the lease, so half a lease later at the latest
    /// ([`EngineBuilder::lease`](crate::EngineBuilder::lease); five seconds unless set otherwise), if the database
    /// answers and no other transaction holds the saga; and at once of a cancel through its own engine.
    ///
    /// It waits for ever where a cancel changes nothing any more: at the pivot and after it, and in transaction steps.
    /// An undo has nothing like it.
    ///
    /// ```no_run
    /// use engine::{CallError, CallStep, Item, NothingToUndo, Outcome, Retry};
    ///
    /// struct Render;
    /// impl CallStep for Render {
    ///     const NAME: &'static str = "render";
    ///     type Input = String;
    ///     type Output = String;
    ///     type Undo = NothingToUndo;
    ///     async fn call(&self, item: &Item<String>) -> Result<Outcome<String>, CallError> {
    ///         tokio::select! {
    ///             url = render(&item.input) => Ok(Outcome::Done(url?)),
    ///             () = item.cancelled() => Ok(Outcome::Retry(Retry::message("stopped: the saga was cancelled"))),
    ///         }
    ///     }
    /// }
    ///
    /// async fn render(scene: &str) -> Result<String, std::io::Error> {
    /// #   unimplemented!("{scene}")
    /// }
    /// ```
    ///
    /// # Cancel safety
    /// The future can be dropped and made anew at any time.
    pub async fn cancelled(&self) {
        match &self.call {
            Some(call) => call.cancellation.cancelled().await,
            None => std::future::pending().await,
        }
    }

    /// A token that is cancelled when [`Item::cancelled`] returns, for tasks and clients that take one. Cancelling it
    /// reaches nothing else.
    pub fn cancellation_token(&self) -> CancellationToken {
        self.call.as_ref().map_or_else(CancellationToken::new, |call| call.cancellation.child_token())
    }
}

impl<I, O> UndoItem<I, O> {
    /// Reports how far this undo of a call is, as [`Item::report_progress`].
    pub fn report_progress(&self, progress: Progress) {
        if let Some(call) = &self.call {
            call.report(progress);
        }
    }
}
