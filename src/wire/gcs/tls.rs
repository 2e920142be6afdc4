//! Loads the certificates of Ray's mutual TLS.
//!
//! Ray disconnects a client without a certificate, so the pod's own certificate is ours too.

use super::file_version::FileVersion;
use std::path::{Path, PathBuf};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// Holds where the certificates are, as PEM files.
///
/// Source: `RAY_TLS_SERVER_CERT`, `RAY_TLS_SERVER_KEY`, `RAY_TLS_CA_CERT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// Our certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Whom we believe.
    pub ca_cert: PathBuf,
}

/// Says why the certificates are of no use.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The files can be read, but do not hold a usable certificate, key or CA.
    #[error("cannot use the certificates `{}`, `{}`, `{}`", .files.cert.display(), .files.key.display(), .files.ca_cert.display())]
    Unusable {
        /// The files.
        files: TlsSettings,
        /// What the TLS library said.
        source: tonic::transport::Error,
    },
}

/// Identifies what the three files hold.
pub(super) type TlsVersion = [Option<FileVersion>; 3];

impl TlsSettings {
    /// Returns what the files hold now, without reading them.
    pub(super) fn version(&self) -> TlsVersion {
        [&self.cert, &self.key, &self.ca_cert].map(|path| FileVersion::of(path))
    }

    /// Reads the files.
    ///
    /// The name to verify is the dialled host: Ray's certificates name addresses.
    pub(super) fn load(&self, host: &str) -> Result<ClientTlsConfig, TlsError> {
        let identity = Identity::from_pem(read(&self.cert)?, read(&self.key)?);
        Ok(ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read(&self.ca_cert)?))
            .identity(identity)
            .domain_name(host))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Unreadable {
        path: path.to_owned(),
        source,
    })
}
