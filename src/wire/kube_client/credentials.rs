//! The service that sends with the credentials of now.
//!
//! # Why credentials are followed here
//!
//! kube re-reads a token file after a minute and never a client certificate. Files are compared before
//! each call instead (a few `stat` a minute) and the connection is made anew when one has changed: one
//! rule for token, CA, client certificate and kubeconfig, and a rotated token works with the next call.

use std::error::Error;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use http::{HeaderValue, Request, Response, header};
use kube::client::{Body, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::sync::Mutex;
use tower_service::Service;

use super::service::BoxFuture;
use super::settings::{ApiAccess, KubeSettings, PodAccess, SettingsError};

/// Connecting takes a round trip or two; what takes longer is a black hole.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends requests with the credentials that are in the files now.
#[derive(Clone)]
pub(super) struct Reloading {
    state: Arc<Mutex<State>>,
}

struct State {
    settings: KubeSettings,
    files: Vec<PathBuf>,
    stamps: Vec<Option<Stamp>>,
    client: kube::Client,
}

/// What tells one content of a file from the next without reading it; a Secret's mount swaps a
/// symlink, so that the inode changes.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: Option<SystemTime>,
}

impl Reloading {
    pub(super) async fn open(settings: &KubeSettings) -> Result<Self, SettingsError> {
        let (config, files) = load(settings).await?;
        let state = State {
            settings: settings.clone(),
            stamps: stamps(&files),
            files,
            client: client(config)?,
        };
        Ok(Self {
            state: Arc::new(Mutex::new(state)),
        })
    }
}

impl State {
    /// Returns a client with the credentials of now, or the last good ones.
    async fn client(&mut self) -> kube::Client {
        let stamps = stamps(&self.files);
        if stamps != self.stamps {
            match self.reload().await {
                Ok(()) => tracing::info!("credentials for the API server were read again"),
                // A volume may be looked at in the middle of its update; the next call looks again.
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn Error,
                        "cannot use changed credentials, keeping the old ones"
                    );
                    return self.client.clone();
                }
            }
            self.stamps = stamps;
        }
        self.client.clone()
    }

    async fn reload(&mut self) -> Result<(), SettingsError> {
        let (config, files) = load(&self.settings).await?;
        self.client = client(config)?;
        self.files = files;
        Ok(())
    }
}

impl Service<Request<Body>> for Reloading {
    type Response = Response<Body>;
    type Error = kube::Error;
    type Future = BoxFuture<Result<Response<Body>, kube::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), kube::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let state = Arc::clone(&self.state);
        Box::pin(async move {
            let client = state.lock().await.client().await;
            client.send(request).await
        })
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    let stamp = |path: &PathBuf| {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Stamp {
            inode: metadata.ino(),
            length: metadata.len(),
            modified: metadata.modified().ok(),
        })
    };
    files.iter().map(stamp).collect()
}

fn client(config: kube::Config) -> Result<kube::Client, SettingsError> {
    let builder = ClientBuilder::try_from(config);
    let builder = builder.map_err(|error| SettingsError::Credentials(Box::new(error)))?;
    Ok(builder.build())
}

/// Returns kube's configuration and the files it comes from.
async fn load(settings: &KubeSettings) -> Result<(kube::Config, Vec<PathBuf>), SettingsError> {
    let (mut config, files) = match &settings.access {
        ApiAccess::Pod(pod) => load_pod(pod)?,
        ApiAccess::Kubeconfig(paths) => load_kubeconfig(paths).await?,
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT.min(settings.request_timeout));
    // The controller decides about retries, and counts what was refused.
    config.default_retry = false;
    let agent = HeaderValue::from_static(concat!("rayscaler/", env!("CARGO_PKG_VERSION")));
    config.headers.push((header::USER_AGENT, agent));
    Ok((config, files))
}

fn load_pod(pod: &PodAccess) -> Result<(kube::Config, Vec<PathBuf>), SettingsError> {
    let endpoint = pod.endpoint.parse::<http::Uri>();
    let mut config = kube::Config::new(endpoint.map_err(|error| SettingsError::Address {
        value: pod.endpoint.clone(),
        problem: error.to_string(),
    })?);
    config.root_cert_file = Some(pod.ca_path.clone());
    // The file is all that is trusted. Without a list, even an empty one, kube first asks the system for its
    // certificates, and does not connect where there are none, as in our image.
    config.root_cert = Some(Vec::new());
    let mut files = vec![pod.token_path.clone(), pod.ca_path.clone()];
    if let Some(certificate) = &pod.client_certificate {
        let text = |path: &Path| Some(path.to_string_lossy().into_owned());
        config.auth_info.client_certificate = text(&certificate.certificate_path);
        config.auth_info.client_key = text(&certificate.key_path);
        files.push(certificate.certificate_path.clone());
        files.push(certificate.key_path.clone());
    }
    match std::fs::read_to_string(&pod.token_path) {
        Ok(token) => config.auth_info.token = Some(token.trim().to_owned().into()),
        Err(_) if pod.client_certificate.is_some() => {}
        Err(source) => {
            return Err(SettingsError::Read {
                path: pod.token_path.clone(),
                source,
            });
        }
    }
    Ok((config, files))
}

async fn load_kubeconfig(paths: &[PathBuf]) -> Result<(kube::Config, Vec<PathBuf>), SettingsError> {
    let wrong = |error| SettingsError::Kubeconfig(Box::new(error));
    let mut merged = Kubeconfig::default();
    for path in paths {
        let next = Kubeconfig::read_from(path).map_err(wrong)?;
        merged = merged.merge(next).map_err(wrong)?;
    }
    let mut files = paths.to_vec();
    for user in merged
        .auth_infos
        .iter()
        .filter_map(|u| u.auth_info.as_ref())
    {
        let named = [&user.token_file, &user.client_certificate, &user.client_key];
        files.extend(named.into_iter().flatten().map(PathBuf::from));
    }
    for cluster in merged.clusters.iter().filter_map(|c| c.cluster.as_ref()) {
        files.extend(cluster.certificate_authority.iter().map(PathBuf::from));
    }
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(merged, &options).await;
    Ok((config.map_err(wrong)?, files))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::{
        ApiAccess, ClientCertificate, KubeClient, KubeSettings, PodAccess, SettingsError,
    };
    use super::stamps;

    fn settings(folder: &Path, client_certificate: Option<ClientCertificate>) -> KubeSettings {
        KubeSettings {
            access: ApiAccess::Pod(PodAccess {
                endpoint: "https://127.0.0.1:1".to_owned(),
                token_path: folder.join("token"),
                ca_path: folder.join("ca.crt"),
                client_certificate,
            }),
            request_timeout: Duration::from_secs(1),
        }
    }

    async fn connect(settings: &KubeSettings) -> Result<KubeClient, SettingsError> {
        KubeClient::connect(settings, Arc::new(|_, _| {})).await
    }

    #[tokio::test]
    async fn a_client_certificate_makes_the_token_optional() {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["c".to_owned()]).unwrap();
        let certificate = ClientCertificate {
            certificate_path: folder.path().join("tls.crt"),
            key_path: folder.path().join("tls.key"),
        };
        std::fs::write(folder.path().join("ca.crt"), made.cert.pem()).unwrap();
        std::fs::write(&certificate.certificate_path, made.cert.pem()).unwrap();
        std::fs::write(&certificate.key_path, made.signing_key.serialize_pem()).unwrap();
        let with = settings(folder.path(), Some(certificate.clone()));
        connect(&with).await.unwrap();

        let without = connect(&settings(folder.path(), None)).await.unwrap_err();
        let text = without.to_string();
        assert!(
            text.starts_with("cannot read `") && text.contains("token"),
            "{text}"
        );

        std::fs::write(&certificate.key_path, "no key").unwrap();
        let error = connect(&with).await.unwrap_err();
        assert!(matches!(error, SettingsError::Credentials(_)), "{error:?}");
    }

    #[test]
    fn a_file_that_is_swapped_for_one_of_the_same_length_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let files = [folder.path().join("token"), folder.path().join("missing")];
        std::fs::write(&files[0], "one").unwrap();
        let before = stamps(&files);
        assert_eq!(before, stamps(&files));
        let next = folder.path().join("next");
        std::fs::write(&next, "two").unwrap();
        std::fs::rename(next, &files[0]).unwrap();
        assert_ne!(before, stamps(&files));
        std::fs::write(&files[1], "new").unwrap();
        assert_ne!(stamps(&files)[1], None);
    }
}
