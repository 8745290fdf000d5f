//! Reads what is new in the log, for all streams of the process.

use std::{sync::Arc, time::Duration};

use shop::events::{self, PageSize};
use tokio::time::Instant;

use super::{BUFFERED_EVENTS, EventBroadcast};

/// Between two looks at a log that had nothing new, and after trouble with the database.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
const ERROR_PAUSE: Duration = Duration::from_secs(1);
/// So much is read at a time: fewer events than wait for a stream, so that one read overtakes no stream that keeps up.
const PAGE: PageSize = PageSize { events: 500, bytes: 1024 * 1024 };
/// Between two looks at what streams have taken.
const YIELD: Duration = Duration::from_millis(2);

/// Reads until no stream is open or the process stops. A panic is reported, and the reading goes on where it was.
pub(super) async fn run(broadcast: EventBroadcast) {
    while let Err(died) = tokio::spawn(read(broadcast.clone())).await {
        tracing::error!(error = %died, "the reader of events died; it is begun anew");
        tokio::time::sleep(ERROR_PAUSE).await;
    }
}

async fn read(broadcast: EventBroadcast) {
    let mut failing = false;
    while !broadcast.has_no_subscribers() {
        let pause = match read_page(&broadcast).await {
            Ok(PageRead::Full) => {
                failing = false;
                wait_for_room(&broadcast).await;
                continue;
            }
            Ok(PageRead::End) => {
                failing = false;
                POLL_INTERVAL
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, "events can't be read now; open streams wait");
                }
                failing = true;
                ERROR_PAUSE
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = broadcast.0.stop.cancelled() => {}
        }
    }
}

/// What a round came to.
enum PageRead {
    /// There may be more.
    Full,
    /// This was all.
    End,
}

async fn read_page(broadcast: &EventBroadcast) -> Result<PageRead, sqlx::Error> {
    let read_through = *broadcast.0.read_through.borrow();
    let Some(after) = read_through else {
        let end = events::log_range(&broadcast.0.pool).await?.last_event_id;
        broadcast.0.read_through.send_replace(Some(end));
        return Ok(PageRead::End);
    };
    let live = events::read(&broadcast.0.pool, after, PAGE).await?;
    for event in live.events {
        let event_id = event.event_id;
        // Nobody may listen any more.
        let _ = broadcast.0.live.send(Arc::new(event));
        broadcast.0.read_through.send_replace(Some(event_id));
    }
    Ok(if live.is_full { PageRead::Full } else { PageRead::End })
}

/// Waits until another page overtakes no stream, so that a burst leaves behind only those who do not keep up; and no
/// longer than that takes for those who do.
async fn wait_for_room(broadcast: &EventBroadcast) {
    let until = Instant::now() + POLL_INTERVAL;
    while broadcast.0.live.len() + PAGE.events as usize > BUFFERED_EVENTS && Instant::now() < until {
        tokio::time::sleep(YIELD).await;
    }
}
