//! Lets kubectl in: the embedded API server on a socket, and a kubeconfig for it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use tokio::net::TcpListener;

use super::world::Cluster;
use super::{SandboxError, io_error};
use crate::embedded::kube::{ServingCertificate, kubeconfig, serve};

/// An API server that others can reach; the kubeconfig goes when this is dropped.
pub(super) struct Door {
    path: PathBuf,
}

impl Door {
    /// Serves the cluster's API server on a free port of this machine, and writes the kubeconfig.
    pub(super) async fn open(cluster: &mut Cluster) -> Result<Self, SandboxError> {
        let listening = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listening.map_err(io_error("listen for kubectl"))?;
        let address = listener
            .local_addr()
            .map_err(io_error("listen for kubectl"))?;
        let certificate = ServingCertificate::self_signed(&["127.0.0.1", "localhost"])?;
        let text = kubeconfig(address, cluster.api.admin_token(), certificate.pem());
        let name = format!("rayscaler-sandbox-{}.kubeconfig", std::process::id());
        let path = std::env::temp_dir().join(name);
        write(&path, &text).map_err(io_error("write the kubeconfig"))?;
        let serving = serve(cluster.api.clone(), listener, certificate);
        cluster.tasks.spawn("api server", serving);
        Ok(Self { path })
    }

    /// Returns the command that looks at the cluster from outside.
    pub(super) fn hint(&self) -> String {
        let path = self.path.display();
        format!("kubectl --kubeconfig {path} get rayclusters,pods")
    }
}

/// The token in it gives every right, so nobody else may read it.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path)?.write_all(text.as_bytes())
}

impl Drop for Door {
    fn drop(&mut self) {
        // Nothing depends on it any more.
        fs::remove_file(&self.path).unwrap_or_default();
    }
}
