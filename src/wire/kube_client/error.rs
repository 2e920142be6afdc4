//! What can become of a call, sorted so that each cause has one name everywhere.

use std::error::Error;
use std::time::Duration;

use super::service::{Throttled, TimedOut};

/// Says what became of a call that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The API server answered with an error.
    #[error("the API server answered {status}: {message}")]
    Refused {
        /// What kind of error.
        failure: Failure,
        /// The HTTP status.
        status: u16,
        /// The server's words.
        message: String,
    },
    /// The API server asks for a pause.
    #[error("the API server answered {status} and asks for a pause")]
    RateLimited {
        /// 429, or 503 with `Retry-After`.
        status: u16,
        /// `Retry-After`; `None` when it did not say.
        retry_after: Option<Duration>,
    },
    /// No answer in time; a write may have been carried out.
    #[error("no answer in time")]
    Timeout,
    /// No connection, or it broke; a write may have been carried out.
    #[error("cannot reach the API server: {0}")]
    Unreachable(String),
    /// The answer is not what it should be; a write has been carried out.
    #[error("cannot read the answer: {0}")]
    Malformed(String),
}

/// Names a cause of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// 401: the token is not (or no longer) accepted.
    Unauthorized,
    /// 403: the Role does not allow it.
    Forbidden,
    /// 404.
    NotFound,
    /// 409.
    Conflict,
    /// 410: the version asked for is too old.
    Gone,
    /// 413, or etcd's limit on the size of an object.
    TooLarge,
    /// 422, where a failed `test` of a JSON Patch cannot be told from a malformed one.
    Rejected,
    /// Any other 4xx: a mistake of ours or of something between us and the API server.
    BadRequest,
    /// 429.
    RateLimited,
    /// 5xx.
    Server,
    /// No answer in time, by our clock or the server's.
    Timeout,
    /// No connection.
    Unreachable,
    /// An answer that cannot be read.
    Malformed,
}

impl Failure {
    /// Every cause, for tables and metrics.
    pub const ALL: [Self; 13] = [
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::Conflict,
        Self::Gone,
        Self::TooLarge,
        Self::Rejected,
        Self::BadRequest,
        Self::RateLimited,
        Self::Server,
        Self::Timeout,
        Self::Unreachable,
        Self::Malformed,
    ];

    /// Returns the cause as a metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Gone => "gone",
            Self::TooLarge => "too_large",
            Self::Rejected => "rejected",
            Self::BadRequest => "bad_request",
            Self::RateLimited => "rate_limited",
            Self::Server => "server_error",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Malformed => "malformed",
        }
    }

    fn of(status: u16, message: &str) -> Self {
        match status {
            401 => Self::Unauthorized,
            403 => Self::Forbidden,
            404 => Self::NotFound,
            408 | 504 => Self::Timeout,
            409 => Self::Conflict,
            410 => Self::Gone,
            413 => Self::TooLarge,
            422 => Self::Rejected,
            429 => Self::RateLimited,
            400..=499 => Self::BadRequest,
            // The API server passes etcd's refusal of more than 1.5 MB on as 500.
            _ if message.contains("request is too large") => Self::TooLarge,
            _ => Self::Server,
        }
    }
}

impl CallError {
    /// Returns the error for an answer that is not a success.
    #[must_use]
    pub fn refused(status: u16, message: &str) -> Self {
        if status == 429 {
            return Self::RateLimited {
                status,
                retry_after: None,
            };
        }
        Self::Refused {
            failure: Failure::of(status, message),
            status,
            message: message.to_owned(),
        }
    }

    /// Returns the cause.
    #[must_use]
    pub const fn failure(&self) -> Failure {
        match self {
            Self::Refused { failure, .. } => *failure,
            Self::RateLimited { .. } => Failure::RateLimited,
            Self::Timeout => Failure::Timeout,
            Self::Unreachable(_) => Failure::Unreachable,
            Self::Malformed(_) => Failure::Malformed,
        }
    }

    /// Returns the cause as a metric label.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        self.failure().label()
    }

    pub(super) fn malformed(error: &dyn Error) -> Self {
        Self::Malformed(chain(error))
    }
}

impl From<kube::Error> for CallError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::refused(status.code, &status.message),
            kube::Error::SerdeError(error) => Self::malformed(&error),
            kube::Error::Service(error) => {
                if let Some(throttled) = error.downcast_ref::<Throttled>() {
                    return Self::RateLimited {
                        status: throttled.status,
                        retry_after: throttled.retry_after,
                    };
                }
                if error.is::<TimedOut>() {
                    return Self::Timeout;
                }
                Self::Unreachable(chain(&*error))
            }
            other => Self::Unreachable(chain(&other)),
        }
    }
}

/// Writes an error and what caused it in one line; hyper says little in the outermost message.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{CallError, Failure};

    #[test]
    fn every_status_has_a_cause() {
        let expected = [
            (400, Failure::BadRequest),
            (401, Failure::Unauthorized),
            (403, Failure::Forbidden),
            (404, Failure::NotFound),
            (405, Failure::BadRequest),
            (408, Failure::Timeout),
            (409, Failure::Conflict),
            (410, Failure::Gone),
            (413, Failure::TooLarge),
            (415, Failure::BadRequest),
            (422, Failure::Rejected),
            (429, Failure::RateLimited),
            (500, Failure::Server),
            (503, Failure::Server),
            (504, Failure::Timeout),
            (302, Failure::Server),
        ];
        for (status, failure) in expected {
            assert_eq!(
                CallError::refused(status, "").failure(),
                failure,
                "{status}"
            );
        }
        let etcd = CallError::refused(500, "etcdserver: request is too large");
        assert_eq!(etcd.kind(), "too_large");
    }

    #[test]
    fn labels_differ() {
        let mut labels = Failure::ALL.map(Failure::label);
        labels.sort_unstable();
        assert!(labels.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
