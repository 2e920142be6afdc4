//! Asks a running rayscaler through its admin port.

use std::error::Error;
use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::progress::Progress;

/// Longest wait for a whole answer: a pass of 10,000 nodes is 3 MB, which a busy head takes seconds for.
const DEADLINE: Duration = Duration::from_secs(30);

/// Says why there is no answer, and what to do.
#[derive(Debug, Error)]
pub(super) enum AskError {
    /// Nobody answers.
    #[error(
        "no answer from {url}: {cause}\n\
         Is rayscaler running there? In the head pod: `kubectl exec POD -c autoscaler -- rayscaler status`.\n\
         From elsewhere: `kubectl port-forward POD 44217`, then --address http://127.0.0.1:44217."
    )]
    Unreachable {
        /// What was asked.
        url: String,
        /// The whole chain of causes.
        cause: String,
    },
    /// The question is not answered.
    #[error(
        "{url} is not answered: either something else listens there, or `admin.questions` of the config leaves `{question}` out"
    )]
    NotAnswered {
        /// What was asked.
        url: String,
        /// The question of the config that allows it.
        question: &'static str,
    },
    /// There is nothing to say yet.
    #[error(
        "{url} has nothing to show yet: no pass has seen all sources; `rayscaler status` says which is missing"
    )]
    NothingYet {
        /// What was asked.
        url: String,
    },
    /// The answer is another.
    #[error("{url} answers {status}: {text}")]
    Refused {
        /// What was asked.
        url: String,
        /// The status.
        status: StatusCode,
        /// What it said.
        text: String,
    },
    /// The answer cannot be read.
    #[error("the answer of {url} cannot be read; is it of another version? {cause}")]
    Unreadable {
        /// What was asked.
        url: String,
        /// Where it stopped.
        cause: serde_json::Error,
    },
}

/// Asks one rayscaler.
#[derive(Debug)]
pub(super) struct Asker {
    base: String,
    client: Client,
}

impl Asker {
    /// Returns an asker for `http://host:port`.
    pub(super) fn new(base: &str) -> anyhow::Result<Self> {
        let client = Client::builder().no_proxy().timeout(DEADLINE).build()?;
        let base = base.trim_end_matches('/').to_owned();
        Ok(Self { base, client })
    }

    /// Returns the answer to a question of the config's `admin.questions`.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        question: &'static str,
    ) -> Result<T, AskError> {
        let url = format!("{}{path}", self.base);
        let _shown = Progress::of(&format!("asking {url}"));
        let unreachable = |error: &reqwest::Error| AskError::Unreachable {
            url: url.clone(),
            cause: causes(error),
        };
        let answer = self.client.get(&url).send().await;
        let answer = answer.map_err(|error| unreachable(&error))?;
        let status = answer.status();
        let bytes = answer.bytes().await.map_err(|error| unreachable(&error))?;
        match status {
            StatusCode::OK => {
                serde_json::from_slice(&bytes).map_err(|cause| AskError::Unreadable { url, cause })
            }
            StatusCode::NOT_FOUND => Err(AskError::NotAnswered { url, question }),
            StatusCode::SERVICE_UNAVAILABLE => Err(AskError::NothingYet { url }),
            _ => Err(AskError::Refused {
                url,
                status,
                text: String::from_utf8_lossy(&bytes).trim().to_owned(),
            }),
        }
    }
}

/// Returns the last cause of an error; those before it only say that there was one.
fn causes(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}
