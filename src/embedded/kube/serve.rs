//! The way in for real connections: HTTPS with a certificate of its own, as kubectl and sidecar expect.

use super::KubeApi;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// A listener that cannot accept (no more files, say) is tried again at this pace.
const RETRY: Duration = Duration::from_millis(100);

/// A certificate cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a certificate for the embedded API server")]
pub struct CertificateError(#[source] Box<dyn Error + Send + Sync>);

/// A key and the certificate for it, which is its own authority.
///
/// The one thing here that no seed decides: whoever makes it draws randomness.
#[derive(Clone)]
pub struct ServingCertificate {
    config: Arc<ServerConfig>,
    pem: String,
}

impl std::fmt::Debug for ServingCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServingCertificate").finish_non_exhaustive()
    }
}

impl ServingCertificate {
    /// Makes a new one for these host names and addresses.
    ///
    /// # Errors
    ///
    /// A name that is none.
    pub fn self_signed(names: &[&str]) -> Result<Self, CertificateError> {
        fn wrong(error: impl Error + Send + Sync + 'static) -> CertificateError {
            CertificateError(Box::new(error))
        }
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).map_err(wrong)?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(wrong)?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], PrivateKeyDer::Pkcs8(key))
            .map_err(wrong)?;
        Ok(Self {
            config: Arc::new(config),
            pem: made.cert.pem(),
        })
    }

    /// Returns the certificate to trust, in PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }
}

/// Serves an API on a listener until it is dropped; what is connected then is cut off.
pub async fn serve(api: KubeApi, listener: TcpListener, certificate: ServingCertificate) {
    let acceptor = TlsAcceptor::from(Arc::clone(&certificate.config));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve_one(api.clone(), stream, acceptor.clone()));
                }
                Err(_) => tokio::time::sleep(RETRY).await,
            },
            // Those that have ended are forgotten.
            Some(_) = connections.join_next() => {}
        }
    }
}

/// A connection that breaks is the client's to notice.
async fn serve_one(api: KubeApi, stream: TcpStream, acceptor: TlsAcceptor) {
    // An event of a watch is small and must not wait for the next.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    if let Ok(stream) = acceptor.accept(stream).await {
        let service = TowerToHyperService::new(api.service());
        let mut server = http1::Builder::new();
        let connection = server
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(stream), service);
        drop(connection.await);
    }
}

/// Returns a kubeconfig for an API that is served at `address`, whose certificate is `pem`.
#[must_use]
pub fn kubeconfig(address: SocketAddr, token: &str, pem: &str) -> String {
    let authority = json!(k8s_openapi::ByteString(pem.as_bytes().to_vec()));
    let cluster = json!({
        "server": format!("https://{address}"),
        "certificate-authority-data": authority,
    });
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "sandbox",
        "clusters": [{"name": "sandbox", "cluster": cluster}],
        "users": [{"name": "sandbox", "user": {"token": token}}],
        "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": "sandbox"}}],
    });
    format!("{config:#}\n")
}
