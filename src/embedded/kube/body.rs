//! Bodies: an answer is whole, or a watch that goes on; a request's is collected.

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use http_body::{Body, Frame};
use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

/// The body of an answer.
pub struct KubeBody(Content);

enum Content {
    Whole(Option<Bytes>),
    Lines(BoxStream<'static, Bytes>),
}

impl std::fmt::Debug for KubeBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeBody").finish_non_exhaustive()
    }
}

impl KubeBody {
    pub(super) fn whole(text: String) -> Self {
        Self(Content::Whole(Some(Bytes::from(text))))
    }

    /// Returns a body that goes on until the stream ends.
    pub(super) fn lines(lines: BoxStream<'static, Bytes>) -> Self {
        Self(Content::Lines(lines))
    }
}

impl Body for KubeBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match &mut self.0 {
            Content::Whole(bytes) => Poll::Ready(bytes.take()),
            Content::Lines(lines) => lines.poll_next_unpin(cx),
        };
        next.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Returns all of a request's body.
///
/// Errors: the connection has broken.
pub(super) async fn collect<B>(body: B) -> Result<Bytes, Box<dyn Error + Send + Sync>>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut body = pin!(body);
    let mut collected = Vec::new();
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        if let Ok(data) = frame.map_err(Into::into)?.into_data() {
            collected.extend_from_slice(&data);
        }
    }
    Ok(Bytes::from(collected))
}
