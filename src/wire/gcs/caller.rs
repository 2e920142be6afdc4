//! Sends one call: deadline, credentials, limits, counting.

use super::error::{CallFacts, GcsError};
use super::kept_channel::KeptChannel;
use super::method::{Reply, Request};
use super::token::{AuthSettings, TokenKeeper};
use prost::bytes::{Buf, Bytes};
use prost::{DecodeError, Message};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic::metadata::{Ascii, MetadataValue};
use tonic_prost::ProstEncoder;

/// The longest message, as on Ray's side.
const MESSAGE_LIMIT: usize = 512 * 1024 * 1024;

/// Is told the method and `ok` or the kind of error after every call.
pub type Observer = Arc<dyn Fn(&'static str, &'static str) + Send + Sync>;

/// Holds a reply as it came, to be timed or kept before it is decoded.
#[derive(Debug, Clone)]
pub struct EncodedReply<R> {
    method: &'static str,
    bytes: Bytes,
    reply: PhantomData<R>,
}

#[expect(private_bounds, reason = "the set of replies is closed")]
impl<R: Reply> EncodedReply<R> {
    /// Returns the bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Decodes the reply.
    ///
    /// Errors: `Malformed`, and `Rejected` when the reply itself says so.
    pub fn decode(&self) -> Result<R, GcsError> {
        let method = self.method;
        let reply = self.read(R::decode)?;
        match reply.gcs_status().filter(|status| status.code != 0) {
            None => Ok(reply),
            Some(status) => Err(GcsError::Rejected {
                method,
                code: tonic::Code::Ok,
                ray_status: status.code.to_string(),
                details: status.message.clone(),
            }),
        }
    }

    /// Reads the reply in another way.
    ///
    /// Errors: `Malformed`.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(Bytes) -> Result<T, DecodeError>,
    ) -> Result<T, GcsError> {
        read(self.bytes.clone()).map_err(|source| GcsError::Malformed {
            method: self.method,
            encoded_len: self.bytes.len(),
            source: Some(source),
        })
    }
}

/// Holds what all calls of one client share, wherever they go.
#[derive(Clone)]
pub(super) struct Caller {
    token: Arc<TokenKeeper>,
    pub(super) observer: Option<Observer>,
    /// In place of each method's own.
    pub(super) deadline: Option<Duration>,
}

impl Caller {
    pub(super) fn new(auth: AuthSettings) -> Self {
        let token = Arc::new(TokenKeeper::new(auth));
        Self {
            token,
            observer: None,
            deadline: None,
        }
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// Holds the header that says which cluster a call is for.
#[derive(Debug, Clone)]
pub(super) struct ClusterId {
    pub(super) hex: String,
    pub(super) header: MetadataValue<Ascii>,
}

impl Caller {
    /// Sends `request` and decodes the answer.
    pub(super) async fn call<R: Request>(
        &self,
        channel: &KeptChannel,
        request: R,
        cluster_id: Option<ClusterId>,
    ) -> Result<R::Reply, GcsError> {
        let encoded = self.send(channel, request, cluster_id).await;
        self.observed(R::method(), encoded.and_then(|encoded| encoded.decode()))
    }

    /// Sends `request` and reads the answer as the caller does.
    pub(super) async fn call_read<R: Request, T>(
        &self,
        channel: &KeptChannel,
        (request, read): (R, impl FnOnce(Bytes) -> Result<T, DecodeError>),
        cluster_id: Option<ClusterId>,
    ) -> Result<T, GcsError> {
        let encoded = self.send(channel, request, cluster_id).await;
        self.observed(R::method(), encoded.and_then(|encoded| encoded.read(read)))
    }

    /// Sends `request` and hands out the answer as it came.
    pub(super) async fn call_encoded<R: Request>(
        &self,
        channel: &KeptChannel,
        request: R,
        cluster_id: Option<ClusterId>,
    ) -> Result<EncodedReply<R::Reply>, GcsError> {
        let encoded = self.send(channel, request, cluster_id).await;
        self.observed(R::method(), encoded)
    }

    fn observed<T>(
        &self,
        method: &'static str,
        result: Result<T, GcsError>,
    ) -> Result<T, GcsError> {
        if let Some(observer) = &self.observer {
            observer(
                method,
                result.as_ref().map_or_else(GcsError::kind, |_| "ok"),
            );
        }
        if matches!(result, Err(GcsError::BadToken { .. })) {
            self.token.forget();
        }
        result
    }

    async fn send<R: Request>(
        &self,
        channel: &KeptChannel,
        request: R,
        cluster_id: Option<ClusterId>,
    ) -> Result<EncodedReply<R::Reply>, GcsError> {
        let facts = CallFacts {
            method: R::method(),
            address: channel.address(),
            deadline: self.deadline.unwrap_or(R::DEADLINE),
            cluster_id: cluster_id.as_ref().map_or("", |id| &id.hex),
        };
        let mut request = tonic::Request::new(request);
        request.set_timeout(facts.deadline);
        if let Some(id) = &cluster_id {
            request
                .metadata_mut()
                .insert("ray_cluster_id", id.header.clone());
        }
        if let Some(bearer) = self.token.header()? {
            request.metadata_mut().insert("authorization", bearer);
        }
        let mut grpc = tonic::client::Grpc::new(channel.get()?)
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT);
        let answer = tokio::time::timeout(facts.deadline, async {
            grpc.ready()
                .await
                .map_err(|error| Status::from_error(error.into()))?;
            let path = http::uri::PathAndQuery::from_static(R::PATH);
            grpc.unary(request, path, BytesCodec::<R>(PhantomData))
                .await
        });
        match answer.await {
            Ok(Ok(reply)) => Ok(EncodedReply {
                method: facts.method,
                bytes: reply.into_inner(),
                reply: PhantomData,
            }),
            Ok(Err(status)) => Err(facts.error(status)),
            Err(_) => Err(facts.timeout()),
        }
    }
}

/// Encodes the request and leaves the reply as it is.
struct BytesCodec<R>(PhantomData<R>);

impl<R: Message + 'static> Codec for BytesCodec<R> {
    type Encode = R;
    type Decode = Bytes;
    type Encoder = ProstEncoder<R>;
    type Decoder = BytesDecoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        BytesDecoder
    }
}

struct BytesDecoder;

impl Decoder for BytesDecoder {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
