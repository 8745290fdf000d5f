//! A stream that fails when its reader takes less than a minimum in a time.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// A stream whose writes fail when the reader makes them wait and takes less than so many bytes in a window of time.
#[derive(Debug)]
pub(super) struct MinWriteRate<S> {
    stream: S,
    window: Duration,
    /// At least so many bytes have to be taken in each window.
    bytes_per_window: usize,
    /// The current window; `None` while nothing waits to be taken.
    current: Option<Window>,
}

#[derive(Debug)]
struct Window {
    ends: Pin<Box<Sleep>>,
    taken: usize,
}

impl<S> MinWriteRate<S> {
    pub(super) fn new(stream: S, window: Duration, bytes_per_s: u32) -> Self {
        let bytes = u128::from(bytes_per_s) * window.as_millis() / 1000;
        let bytes_per_window = usize::try_from(bytes).unwrap_or(usize::MAX).max(1);
        Self { stream, window, bytes_per_window, current: None }
    }

    /// Notes what a write did.
    fn note(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(written) => {
                if let (Some(window), Ok(bytes)) = (&mut self.current, &written) {
                    window.taken += bytes;
                }
                Poll::Ready(written)
            }
            Poll::Pending => self.wait(cx),
        }
    }

    /// The reader makes a write wait: begins a window, or goes on to the next one if enough was taken in the last.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let length = self.window;
        let window = self
            .current
            .get_or_insert_with(|| Window { ends: Box::pin(tokio::time::sleep(length)), taken: 0 });
        loop {
            ready!(window.ends.as_mut().poll(cx));
            if window.taken < self.bytes_per_window {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the caller reads too slowly",
                )));
            }
            window.taken = 0;
            window.ends.as_mut().reset(Instant::now() + length);
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MinWriteRate<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.note(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.note(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when it has written everything: nothing waits any more.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_flush(cx))?;
        this.current = None;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for MinWriteRate<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const WINDOW: Duration = Duration::from_secs(30);

    /// Writes 10,000 bytes, of which the reader's buffer holds 100, at no less than 10 bytes a second.
    async fn write(stream: DuplexStream) -> io::Result<()> {
        let mut stream = MinWriteRate::new(stream, WINDOW, 10);
        stream.write_all(&[0; 10_000]).await?;
        stream.flush().await
    }

    /// Reads all of it, so many bytes each second.
    async fn read(mut stream: DuplexStream, bytes_per_s: usize) {
        let (mut some, mut left) = (vec![0; bytes_per_s], 10_000);
        while left > 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let Ok(read @ 1..) = stream.read(&mut some).await else { return };
            left -= read;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_a_little_now_and_then_is_cut_off() {
        for bytes_per_s in [1, 9] {
            let (server, client) = duplex(100);
            let reading = tokio::spawn(read(client, bytes_per_s));
            let begun = Instant::now();
            let error = write(server).await.expect_err("it reads too slowly");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{bytes_per_s}");
            assert_eq!(begun.elapsed().as_secs(), WINDOW.as_secs(), "{bytes_per_s}");
            reading.await.expect("it ends");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_is_slow_but_not_too_slow_gets_everything() {
        let (server, client) = duplex(100);
        let reading = tokio::spawn(read(client, 12));
        write(server).await.expect("it reads fast enough");
        reading.await.expect("it ends");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_between_two_responses_counts_for_nothing() {
        let (server, mut client) = duplex(100);
        let mut stream = MinWriteRate::new(server, WINDOW, 10);
        for _ in 0..3 {
            // More than the buffer, so that the write has to wait.
            let reading = async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                client.read_exact(&mut [0; 150]).await.expect("it is written");
            };
            let writing = async {
                stream.write_all(&[0; 150]).await.expect("it is read");
                stream.flush().await.expect("it is read");
            };
            tokio::join!(reading, writing);
            tokio::time::sleep(10 * WINDOW).await;
        }
    }
}
