//! What can go wrong between us and Ray.

use super::tls::TlsError;
use super::token::TokenError;
use std::time::Duration;
use tonic::{Code, Status};

/// Says why a call brought no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum GcsError {
    /// No connection, or it broke.
    #[error("cannot reach {address} for {method}")]
    Unreachable {
        /// The method.
        method: &'static str,
        /// `host:port`.
        address: String,
        /// What the transport said.
        source: Box<Status>,
    },
    /// No answer in time; whether the call had its effect is not known.
    #[error("{address} did not answer {method} within {} ms", deadline.as_millis())]
    Timeout {
        /// The method.
        method: &'static str,
        /// `host:port`.
        address: String,
        /// How long we waited.
        deadline: Duration,
    },
    /// Another cluster answers at this address now; what we know is about one that is gone.
    #[error("the GCS serves another cluster than {expected} now")]
    OtherCluster {
        /// The method.
        method: &'static str,
        /// The cluster id that we sent.
        expected: String,
    },
    /// Ray does not accept our token.
    #[error("Ray refuses our token for {method}: {details}")]
    BadToken {
        /// The method.
        method: &'static str,
        /// What Ray said.
        details: String,
    },
    /// We have no token to send.
    #[error("nothing was sent")]
    NoToken(#[from] TokenError),
    /// We cannot make a TLS connection.
    #[error("nothing was sent")]
    BadCertificate(#[from] TlsError),
    /// The address is none.
    #[error("`{0}` is not an address")]
    BadAddress(String),
    /// The answer is an error.
    #[error("Ray answers {method} with {ray_status}: {details}")]
    Rejected {
        /// The method.
        method: &'static str,
        /// The gRPC code; `Ok` when the error was inside the reply.
        code: Code,
        /// Ray's own name or number of the error.
        ray_status: String,
        /// Ray's text.
        details: String,
    },
    /// The answer cannot be decoded.
    #[error("the answer to {method} ({encoded_len} bytes) cannot be understood")]
    Malformed {
        /// The method.
        method: &'static str,
        /// Its length.
        encoded_len: usize,
        /// Where decoding stopped.
        source: Option<prost::DecodeError>,
    },
    /// The request would end a process of Ray's, so it was not sent.
    #[error("{method} was not sent: {reason}")]
    Unsafe {
        /// The method.
        method: &'static str,
        /// What it would have done.
        reason: &'static str,
    },
}

impl GcsError {
    /// Returns a fixed word for metric labels.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::Timeout { .. } => "timeout",
            Self::OtherCluster { .. } => "other_cluster",
            Self::BadToken { .. } => "bad_token",
            Self::NoToken(_) => "no_token",
            Self::BadCertificate(_) => "bad_certificate",
            Self::BadAddress(_) => "bad_address",
            Self::Rejected { .. } => "rejected",
            Self::Malformed { .. } => "malformed",
            Self::Unsafe { .. } => "unsafe",
        }
    }

    /// Returns whether this Ray does not know the method.
    #[must_use]
    pub const fn is_unimplemented(&self) -> bool {
        let code = match self {
            Self::Rejected { code, .. } => *code,
            _ => return false,
        };
        matches!(code, Code::Unimplemented)
    }
}

/// Holds what is known of a call when its status arrives.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallFacts<'a> {
    pub(super) method: &'static str,
    pub(super) address: &'a str,
    pub(super) deadline: Duration,
    pub(super) cluster_id: &'a str,
}

impl CallFacts<'_> {
    pub(super) fn timeout(self) -> GcsError {
        GcsError::Timeout {
            method: self.method,
            address: self.address.to_owned(),
            deadline: self.deadline,
        }
    }

    /// Returns what a gRPC status means when Ray, or the transport, sends it.
    pub(super) fn error(self, status: Status) -> GcsError {
        let method = self.method;
        if status.code() == Code::DeadlineExceeded || is_timeout(&status) {
            return self.timeout();
        }
        // A status with a source was made here, of a connection that failed; Ray's own have none.
        if status.code() == Code::Unavailable || std::error::Error::source(&status).is_some() {
            let (address, source) = (self.address.to_owned(), Box::new(status));
            return GcsError::Unreachable {
                method,
                address,
                source,
            };
        }
        let message = status.message();
        match status.code() {
            Code::Unauthenticated if message.starts_with("WrongClusterID") => {
                GcsError::OtherCluster {
                    method,
                    expected: self.cluster_id.to_owned(),
                }
            }
            Code::Unauthenticated | Code::PermissionDenied => GcsError::BadToken {
                method,
                details: message.to_owned(),
            },
            // Ray's style: the message is the name of its status, the text is in `grpc-status-details-bin`.
            code => GcsError::Rejected {
                method,
                code,
                ray_status: message.to_owned(),
                details: String::from_utf8_lossy(status.details()).into_owned(),
            },
        }
    }
}

fn is_timeout(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::TimeoutExpired>() {
            return true;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::{CallFacts, GcsError};
    use std::time::Duration;
    use tonic::{Code, Status};

    fn error(status: Status) -> GcsError {
        let deadline = Duration::from_secs(1);
        CallFacts {
            method: "DrainNode",
            address: "a:1",
            deadline,
            cluster_id: "ab",
        }
        .error(status)
    }

    #[test]
    fn each_status_of_ray_has_its_kind() {
        let wrong_id =
            "WrongClusterID: Perhaps the client is accessing GCS after it has restarted.";
        let bad_token = "InvalidAuthToken: Authentication token is missing or incorrect";
        let cases = [
            (Status::unauthenticated(wrong_id), "other_cluster"),
            (Status::unauthenticated(bad_token), "bad_token"),
            (Status::permission_denied("no"), "bad_token"),
            (Status::unavailable("gone"), "unreachable"),
            (Status::deadline_exceeded("late"), "timeout"),
            (Status::unimplemented("old Ray"), "rejected"),
        ];
        for (status, kind) in cases {
            assert_eq!(error(status.clone()).kind(), kind, "{status:?}");
        }
    }

    #[test]
    fn the_text_of_an_aborted_call_is_taken_from_the_details() {
        let status =
            Status::with_details(Code::Aborted, "NotFound", "Raylet 05 is not alive.".into());
        assert_eq!(
            error(status).to_string(),
            "Ray answers DrainNode with NotFound: Raylet 05 is not alive."
        );
    }
}
