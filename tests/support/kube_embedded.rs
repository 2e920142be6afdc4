//! The project's own API server on a socket, on a thread of its own: each test has its own runtime.

use super::kube::ADMIN_TOKEN;
use rayscaler::embedded::kube::{KubeApi, ServingCertificate, Settings, serve};
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Mutex;
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// An API server in this process, ended when dropped.
#[derive(Debug)]
pub struct EmbeddedKube {
    api: KubeApi,
    certificate: ServingCertificate,
    port: u16,
    serving: Mutex<Option<Serving>>,
}

#[derive(Debug)]
struct Serving {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl EmbeddedKube {
    /// Starts one, and leaves the certificate to trust where the real one does.
    pub fn start(folder: &Path) -> Self {
        let settings = Settings {
            admin_token: ADMIN_TOKEN.to_owned(),
            ..Settings::new(super::now(), 1)
        };
        let certificate = ServingCertificate::self_signed(&["127.0.0.1"]).unwrap();
        fs::create_dir(folder.join("certs")).unwrap();
        fs::write(folder.join("certs/apiserver.crt"), certificate.pem()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let embedded = Self {
            api: KubeApi::new(settings),
            certificate,
            port: listener.local_addr().unwrap().port(),
            serving: Mutex::new(None),
        };
        embedded.serve_on(listener);
        embedded
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Cuts off all connections and takes no more; what is stored stays, as in etcd.
    pub fn kill(&self) {
        let serving = self.serving.lock().unwrap().take();
        if let Some(serving) = serving {
            assert!(
                serving.stop.send(()).is_ok(),
                "the server has ended by itself"
            );
            serving.thread.join().unwrap();
        }
    }

    /// Serves again on the same port.
    pub fn restart(&self) {
        self.serve_on(TcpListener::bind(("127.0.0.1", self.port)).unwrap());
    }

    fn serve_on(&self, listener: TcpListener) {
        let (api, certificate) = (self.api.clone(), self.certificate.clone());
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                listener.set_nonblocking(true).unwrap();
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    () = serve(api, listener, certificate) => {}
                    _ = stopped => {}
                }
            });
        });
        *self.serving.lock().unwrap() = Some(Serving { stop, thread });
    }
}

impl Drop for EmbeddedKube {
    fn drop(&mut self) {
        self.kill();
    }
}
