//! Reads what is new in the log, for all streams of the process.

use std::{sync::Arc, time::Duration};

use shop::events::{self, PageSize};
use tokio::time::Instant;

use super::{BUFFERED, Feed};

/// Between two looks at a log that had nothing new, and after trouble with the database.
const PAUSE: Duration = Duration::from_millis(100);
const TROUBLE: Duration = Duration::from_secs(1);
/// So much is read at a time: fewer events than wait for a stream, so that one read overtakes no stream that keeps up.
const PAGE: PageSize = PageSize { events: 500, bytes: 1024 * 1024 };
/// Between two looks at what streams have taken.
const GLANCE: Duration = Duration::from_millis(2);

/// Reads until no stream is open or the process stops. A panic is reported, and the reading goes on where it was.
pub(super) async fn run(feed: Feed) {
    while let Err(died) = tokio::spawn(read(feed.clone())).await {
        tracing::error!(error = %died, "the reader of events died; it is begun anew");
        tokio::time::sleep(TROUBLE).await;
    }
}

async fn read(feed: Feed) {
    let mut failing = false;
    while !feed.is_deserted() {
        let pause = match round(&feed).await {
            Ok(Round::Full) => {
                failing = false;
                room(&feed).await;
                continue;
            }
            Ok(Round::End) => {
                failing = false;
                PAUSE
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, "events can't be read now; open streams wait");
                }
                failing = true;
                TROUBLE
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = feed.0.stop.cancelled() => {}
        }
    }
}

/// What a round came to.
enum Round {
    /// There may be more.
    Full,
    /// This was all.
    End,
}

async fn round(feed: &Feed) -> Result<Round, sqlx::Error> {
    let read_through = *feed.0.read_through.borrow();
    let Some(after) = read_through else {
        let end = events::extent(&feed.0.pool).await?.last_event_id;
        feed.0.read_through.send_replace(Some(end));
        return Ok(Round::End);
    };
    let news = events::read(&feed.0.pool, after, PAGE).await?;
    for event in news.events {
        let event_id = event.event_id;
        // Nobody may listen any more.
        let _ = feed.0.news.send(Arc::new(event));
        feed.0.read_through.send_replace(Some(event_id));
    }
    Ok(if news.is_full { Round::Full } else { Round::End })
}

/// Waits until another page overtakes no stream, so that a burst leaves behind only those who do not keep up; and no
/// longer than that takes for those who do.
async fn room(feed: &Feed) {
    let until = Instant::now() + PAUSE;
    while feed.0.news.len() + PAGE.events as usize > BUFFERED && Instant::now() < until {
        tokio::time::sleep(GLANCE).await;
    }
}
