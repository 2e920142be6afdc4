//! Keeps one connection, and makes another when the certificates were replaced.

use super::error::GcsError;
use super::tls::{TlsError, TlsSettings, TlsVersion};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};

/// How long making a connection may take, so that an attempt that leads nowhere does not outlive the calls that wait
/// for it by much: the next call starts a new one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// When a call has waited this long, the connection is probed; when the probe is not answered as long again, it is
/// replaced. Otherwise a peer that vanished without a word (a lost machine) would cost minutes. Idle connections are
/// not probed: Ray's gRPC servers hang up on those who do.
const PROBE: Duration = Duration::from_secs(3);

/// Holds how to reach one address, and the connection once there was a call.
#[derive(Debug)]
pub(super) struct KeptChannel {
    address: String,
    tls: Option<TlsSettings>,
    made: Mutex<Option<MadeChannel>>,
}

#[derive(Debug)]
struct MadeChannel {
    channel: Channel,
    version: Option<TlsVersion>,
}

impl KeptChannel {
    pub(super) const fn new(address: String, tls: Option<TlsSettings>) -> Self {
        Self {
            address,
            tls,
            made: Mutex::new(None),
        }
    }

    /// Returns one that uses `channel`, whatever it leads to.
    pub(super) const fn over(channel: Channel, address: String) -> Self {
        let made = MadeChannel {
            channel,
            version: None,
        };
        Self {
            address,
            tls: None,
            made: Mutex::new(Some(made)),
        }
    }

    /// Returns `host:port`.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Returns the channel; it connects by itself when it is used, and again after a failure.
    pub(super) fn get(&self) -> Result<Channel, GcsError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        // Before reading: a file replaced in between has another version at the next call.
        let version = self.tls.as_ref().map(TlsSettings::version);
        if let Some(current) = made.as_ref().filter(|current| current.version == version) {
            return Ok(current.channel.clone());
        }
        match (self.make(), made.as_ref()) {
            (Ok(channel), _) => {
                *made = Some(MadeChannel {
                    channel: channel.clone(),
                    version,
                });
                Ok(channel)
            }
            // Somebody is in the middle of replacing them; the old connection still serves.
            (Err(_), Some(current)) => Ok(current.channel.clone()),
            (Err(error), None) => Err(error),
        }
    }

    fn make(&self) -> Result<Channel, GcsError> {
        let bad_address = || GcsError::BadAddress(self.address.clone());
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{}", self.address))
            .and_then(|endpoint| {
                endpoint.user_agent(concat!("rayscaler/", env!("CARGO_PKG_VERSION")))
            })
            .map_err(|_| bad_address())?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .tcp_keepalive(Some(Duration::from_secs(30)))
            .http2_keep_alive_interval(PROBE)
            .keep_alive_timeout(PROBE);
        let Some(files) = &self.tls else {
            return Ok(endpoint.connect_lazy());
        };
        let (host, _) = self.address.rsplit_once(':').ok_or_else(bad_address)?;
        let config = files.load(host.trim_matches(['[', ']']))?;
        let endpoint = endpoint
            .tls_config(config)
            .map_err(|source| TlsError::Unusable {
                files: files.clone(),
                source,
            })?;
        Ok(endpoint.connect_lazy())
    }
}
