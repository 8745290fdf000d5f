//! The savepoints of one transaction: what is taken back to them when a step says no.

use sqlx::PgConnection;

use crate::store::savepoints;

/// How many items of one-item steps have a savepoint of their own in one transaction. PostgreSQL keeps up to 64
/// subtransactions of a transaction at hand; with more, every snapshot in the database becomes slower.
pub(crate) const MAX_ITEMS: usize = 32;

/// The savepoints of one transaction. At most one is open here; those of the transaction's outer code stay below it.
#[derive(Debug)]
pub(crate) struct Savepoints {
    made: u32,
    open: Option<u32>,
    /// Whether nothing was executed since the open savepoint.
    clean: bool,
    /// Whether the answer to the connection's last statement has been received.
    settled: bool,
    /// How many items may still get a savepoint of their own.
    items_left: usize,
}

impl Default for Savepoints {
    /// The savepoints of a transaction in which the engine has just executed a statement.
    fn default() -> Self {
        Self { made: 0, open: None, clean: false, settled: true, items_left: MAX_ITEMS }
    }
}

impl Savepoints {
    /// Makes sure that everything from now on can be taken back. It takes at most one round trip, and none before the
    /// first user code of the transaction.
    pub(crate) async fn set(&mut self, conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.open.is_some() && self.clean {
            return Ok(());
        }
        self.made += 1;
        match self.open {
            Some(open) => savepoints::replace(conn, open, self.made).await?,
            None if self.settled => savepoints::send_create(conn, self.made)?,
            None => savepoints::create(conn, self.made).await?,
        }
        (self.open, self.clean, self.settled) = (Some(self.made), true, false);
        Ok(())
    }

    /// Notes that user code ran, and whether it used the transaction.
    pub(crate) fn ran(&mut self, used: bool) {
        self.clean &= !used;
        self.settled = false;
    }

    /// Takes back everything since the open savepoint.
    pub(crate) async fn roll_back(&mut self, conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        if let Some(open) = self.open {
            savepoints::roll_back(conn, open).await?;
            self.clean = true;
        }
        Ok(())
    }

    /// Ends the open savepoint, if there is one. The transaction's own statements should not run inside it: to update a
    /// row that the transaction has locked outside it, PostgreSQL has to create a multixact.
    pub(crate) fn release(&mut self, conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        self.settled = false;
        self.open.take().map_or(Ok(()), |open| savepoints::send_release(conn, open))
    }

    /// Takes one of the savepoints for single items; returns false if none is left.
    pub(crate) fn take_item(&mut self) -> bool {
        let left = self.items_left > 0;
        self.items_left = self.items_left.saturating_sub(1);
        left
    }

    /// Lets code that only reads run in the transaction. Returns the savepoint to be given to [`Self::end_reading`].
    pub(crate) async fn begin_reading(&mut self, conn: &mut PgConnection) -> Result<u32, sqlx::Error> {
        self.made += 1;
        savepoints::begin_reading(conn, self.made).await?;
        Ok(self.made)
    }

    /// Forgets whatever such code has done, and lets the transaction write again. A savepoint that was open before still
    /// is.
    pub(crate) async fn end_reading(&self, conn: &mut PgConnection, reading: u32) -> Result<(), sqlx::Error> {
        savepoints::end_reading(conn, reading).await
    }

    /// Begins a part of the transaction within a step, after a statement of the engine. Returns the savepoint to be
    /// given to [`Self::end_part`].
    pub(crate) fn begin_part(&mut self) -> Option<u32> {
        self.settled = true;
        self.open.take()
    }

    /// Ends a part: the savepoint that was open before is open again.
    pub(crate) fn end_part(&mut self, outer: Option<u32>) {
        (self.open, self.clean, self.settled) = (outer, false, false);
    }
}
