//! Bounds what the admin port costs: connections at one time, and how long each may last.
//!
//! User code shares the network namespace with us and can reach the port; our memory is a few MiB.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

/// Connections at one time. Prometheus, a probe and a person need three.
const CONNECTIONS_MAX: usize = 32;

/// Longest life of a connection, idle or not: one that sends a byte a minute gives its place back.
const LIFE_MAX: Duration = Duration::from_secs(60);

/// Wait after a failed accept; out of file descriptors, an immediate retry would spin.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);

/// Accepts a bounded number of connections.
#[derive(Debug)]
pub(super) struct LimitedListener {
    inner: TcpListener,
    permits: Arc<Semaphore>,
}

impl LimitedListener {
    pub(super) fn new(inner: TcpListener) -> Self {
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Self { inner, permits }
    }
}

impl Listener for LimitedListener {
    type Io = Limited;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        loop {
            match TcpListener::accept(&self.inner).await {
                Ok((stream, address)) => {
                    let end = Box::pin(tokio::time::sleep(LIFE_MAX));
                    let limited = Limited {
                        stream,
                        end,
                        _permit: permit,
                    };
                    return (limited, address);
                }
                Err(error) => {
                    tracing::debug!(%error, "admin port cannot accept");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.inner.local_addr()
    }
}

/// Holds one connection and its place.
#[derive(Debug)]
pub(super) struct Limited {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Limited {
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Limited {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Limited {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use axum::serve::Listener;
    use futures_util::FutureExt;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::{CONNECTIONS_MAX, LimitedListener};

    async fn listener() -> (LimitedListener, std::net::SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (LimitedListener::new(listener), address)
    }

    #[tokio::test]
    async fn connections_are_limited_and_give_their_place_back() {
        let (mut listener, address) = listener().await;
        let (mut clients, mut served) = (Vec::new(), Vec::new());
        for _ in 0..CONNECTIONS_MAX {
            clients.push(TcpStream::connect(address).await.unwrap());
            served.push(listener.accept().await.0);
        }
        clients.push(TcpStream::connect(address).await.unwrap());
        assert!(listener.accept().now_or_never().is_none());
        served.pop();
        listener.accept().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_ends() {
        let (mut listener, address) = listener().await;
        let _client = TcpStream::connect(address).await.unwrap();
        let (mut served, _) = listener.accept().await;
        let error = served.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    }
}
