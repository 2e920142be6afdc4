//! The client of raylets: what waits at a node as of now.
//!
//! The GCS learns of tasks and actors by asking each raylet once a second; asked directly, a raylet tells them
//! milliseconds after they were submitted.

use super::caller::{Caller, Observer};
use super::error::GcsError;
use super::kept_channel::KeptChannel;
use super::ray::rpc::{GetResourceLoadReply, GetResourceLoadRequest};
use super::tls::TlsSettings;
use super::token::AuthSettings;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tonic::transport::Channel;

/// Returns a channel to the raylet at an address.
pub type ChannelTo = Arc<dyn Fn(&str) -> Channel + Send + Sync>;

/// How connections are made.
#[derive(Clone)]
enum Reach {
    Sockets(Option<TlsSettings>),
    Channels(ChannelTo),
}

impl fmt::Debug for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sockets(tls) => f.debug_tuple("Sockets").field(tls).finish(),
            Self::Channels(_) => f.write_str("Channels"),
        }
    }
}

/// Talks to many raylets, with one kept connection to each that was asked.
///
/// The cluster id is not sent: an address that another cluster took over answers with a node id that we do not know.
/// Clones share the connections.
#[derive(Debug, Clone)]
pub struct RayletClient {
    reach: Reach,
    caller: Caller,
    channels: Arc<Mutex<BTreeMap<String, Arc<KeptChannel>>>>,
}

impl RayletClient {
    /// Returns a client with the credentials of the cluster; nothing is sent before the first call.
    #[must_use]
    pub fn new(auth: AuthSettings, tls: Option<TlsSettings>) -> Self {
        Self::reaching(Reach::Sockets(tls), auth)
    }

    /// Returns a client that asks `channel_to` for a channel to each address, for raylets that are not behind sockets.
    #[must_use]
    pub fn over(channel_to: ChannelTo, auth: AuthSettings) -> Self {
        Self::reaching(Reach::Channels(channel_to), auth)
    }

    fn reaching(reach: Reach, auth: AuthSettings) -> Self {
        Self {
            reach,
            caller: Caller::new(auth),
            channels: Arc::default(),
        }
    }

    /// Returns a client that tells `observer` of every call.
    #[must_use]
    pub fn observed_by(mut self, observer: Observer) -> Self {
        self.caller.observer = Some(observer);
        self
    }

    /// Returns a client whose calls have this deadline.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.caller.deadline = Some(deadline);
        self
    }

    /// Asks the raylet at `address` (`ip:port`) for its load, its resources and how long it has been idle.
    pub async fn get_resource_load(&self, address: &str) -> Result<GetResourceLoadReply, GcsError> {
        let channel = self.channel(address);
        self.caller
            .call(&channel, GetResourceLoadRequest::default(), None)
            .await
    }

    /// Closes the connections to all but these addresses.
    pub fn retain(&self, addresses: &BTreeSet<String>) {
        self.lock().retain(|address, _| addresses.contains(address));
    }

    /// Returns to how many raylets a connection is kept.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.lock().len()
    }

    fn channel(&self, address: &str) -> Arc<KeptChannel> {
        let mut channels = self.lock();
        let new = || {
            Arc::new(match &self.reach {
                Reach::Sockets(tls) => KeptChannel::new(address.to_owned(), tls.clone()),
                Reach::Channels(to) => KeptChannel::over(to(address), address.to_owned()),
            })
        };
        Arc::clone(channels.entry(address.to_owned()).or_insert_with(new))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<KeptChannel>>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
