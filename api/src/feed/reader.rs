//! Reads what is new in the log, for all streams of the process.

use std::{sync::Arc, time::Duration};

use workflows::events;

use super::Feed;

/// Between two looks at a log that had nothing new, and after trouble with the database.
const PAUSE: Duration = Duration::from_millis(100);
const TROUBLE: Duration = Duration::from_secs(1);
/// So many events are read at a time: less than wait for a stream, so that one read ends no stream that keeps up.
const PAGE: u32 = 500;

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
            Ok(read) => {
                failing = false;
                if read == PAGE as usize { Duration::ZERO } else { PAUSE }
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

async fn round(feed: &Feed) -> Result<usize, sqlx::Error> {
    let read_through = *feed.0.read_through.borrow();
    let Some(after) = read_through else {
        let end = events::extent(&feed.0.pool).await?.last_event_id;
        feed.0.read_through.send_replace(Some(end));
        return Ok(0);
    };
    let news = events::read(&feed.0.pool, after, PAGE).await?;
    let read = news.len();
    for event in news {
        let event_id = event.event_id;
        // Nobody may listen any more.
        let _ = feed.0.news.send(Arc::new(event));
        feed.0.read_through.send_replace(Some(event_id));
    }
    Ok(read)
}
