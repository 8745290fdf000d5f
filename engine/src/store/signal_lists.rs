//! Statements that list and count signals.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use sqlx_macros::FromRow;
use uuid::Uuid;

use crate::{
    model::{
        page::PageOf,
        signal_view::{KeptSignals, SignalView},
    },
    support::page::{page_rows, read_page},
};

#[derive(FromRow)]
struct SignalRow {
    id: i64,
    name: String,
    key: String,
    state: String,
    sender: Option<String>,
    created_at: DateTime<Utc>,
    settled_at: Option<DateTime<Utc>>,
    history_seq: Option<i32>,
}

impl SignalRow {
    fn view(self) -> Result<SignalView, sqlx::Error> {
        Ok(SignalView {
            id: self.id,
            name: self.name,
            key: self.key,
            state: self
                .state
                .parse()
                .map_err(|error: strum::ParseError| sqlx::Error::Decode(error.into()))?,
            sender: self.sender,
            created_at: self.created_at,
            settled_at: self.settled_at,
            history_seq: self.history_seq,
        })
    }
}

/// Selects the signals of a saga, the oldest first, after the one with the number `after`.
pub(crate) async fn of_saga(
    pool: &PgPool,
    saga_id: Uuid,
    after: i64,
    limit: u32,
) -> Result<PageOf<SignalView>, sqlx::Error> {
    let rows = sqlx::query(
        "select id, name, key, state, sender, created_at, settled_at, history_seq from engine.inbox \
         where saga_id = $1 and kind = 'signal' and id > $2 order by id limit $3",
    )
    .bind(saga_id)
    .bind(after)
    .bind(page_rows(limit))
    .fetch(pool);
    read_page(rows, limit).await?.try_map(SignalRow::view)
}

/// Counts the signals that no saga has taken, by their name.
pub(crate) async fn kept(pool: &PgPool) -> Result<Vec<KeptSignals>, sqlx::Error> {
    let rows: Vec<(String, i64, i64, f64)> = sqlx::query_as(
        "select name, count(*) filter (where state = 'unread'), count(*) filter (where state = 'unreadable'), \
             greatest(extract(epoch from clock_timestamp() - min(created_at)), 0)::float8 \
         from engine.inbox where state in ('unread', 'unreadable') and kind = 'signal' group by name order by name",
    )
    .fetch_all(pool)
    .await?;
    let counts = |(name, buffered, unreadable, secs)| KeptSignals {
        name,
        buffered,
        unreadable,
        oldest: Duration::try_from_secs_f64(secs).unwrap_or_default(),
    };
    Ok(rows.into_iter().map(counts).collect())
}
