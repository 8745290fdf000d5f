//! Reads new events from the event log, for all streams of the process.

use std::{sync::Arc, time::Duration};

use shop::events::{self, PageSize};
use tokio::time::Instant;

use super::channel::{BUFFERED_EVENTS, Channel};

/// The pause after a read that found nothing new.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The pause after a read that failed.
const ERROR_PAUSE: Duration = Duration::from_secs(1);
/// How much is read at a time: fewer events than are buffered for a stream, so that one read can't overflow the buffer
/// of a stream that keeps up.
const PAGE: PageSize = PageSize { events: 500, bytes: 1024 * 1024 };
/// The pause between two checks of how much the streams have taken.
const YIELD: Duration = Duration::from_millis(2);

/// Reads until no stream is open or the process stops. After a panic, which is logged, it continues where it was.
pub(super) async fn run(channel: Arc<Channel>) {
    while let Err(died) = tokio::spawn(read(Arc::clone(&channel))).await {
        tracing::error!(error = %engine::ErrorChain(&died), "the reader of events panicked; it is started again");
        tokio::time::sleep(ERROR_PAUSE).await;
    }
}

async fn read(channel: Arc<Channel>) {
    let mut failing = false;
    while !channel.reader_may_end() {
        let pause = match read_page(&channel).await {
            Ok(PageRead::Full) => {
                failing = false;
                wait_for_room(&channel).await;
                continue;
            }
            Ok(PageRead::End) => {
                failing = false;
                POLL_INTERVAL
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(error = %engine::ErrorChain(&error), "events can't be read now; open streams wait");
                }
                failing = true;
                ERROR_PAUSE
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = channel.stop.cancelled() => {}
        }
    }
}

/// What one read found.
enum PageRead {
    /// A full page: there may be more.
    Full,
    /// Everything that there was.
    End,
}

async fn read_page(channel: &Channel) -> Result<PageRead, sqlx::Error> {
    let last_sent = *channel.last_sent.borrow();
    let Some(after) = last_sent else {
        let end = events::last_event_id(&channel.pool).await?;
        channel.last_sent.send_replace(Some(end));
        return Ok(PageRead::End);
    };
    let page = events::read(&channel.pool, after, PAGE).await?;
    for event in page.events {
        let event_id = event.event_id;
        // The last stream may have ended.
        let _ = channel.live.send(Arc::new(event));
        channel.last_sent.send_replace(Some(event_id));
    }
    Ok(if page.is_full { PageRead::Full } else { PageRead::End })
}

/// Waits until the buffer has room for another page, so that a burst of events drops only streams that do not keep up.
/// Waits for [`POLL_INTERVAL`] at most, which is enough for those that do.
async fn wait_for_room(channel: &Channel) {
    let until = Instant::now() + POLL_INTERVAL;
    while channel.live.len() + PAGE.events as usize > BUFFERED_EVENTS && Instant::now() < until {
        tokio::time::sleep(YIELD).await;
    }
}
